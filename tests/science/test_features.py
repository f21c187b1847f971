"""Features of images: which extractor is read from where, what is refused, distances in many dimensions."""

import hashlib
import json
import os
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from dmmd_lite.metrics import feature_distances, inception
from dmmd_lite.metrics.classifier import (
    CLASSIFIERS,
    LARGER,
    cached_files,
    extractor_files,
    train_classifier,
    unit_images,
)
from dmmd_lite.metrics.features import load_features
from dmmd_lite.metrics.inception import FILES, VARIABLE, load_inception
from dmmd_lite.metrics.resnet import RESNETS, ResNet
from dmmd_lite.metrics.suite import METRICS, evaluate_samples, metrics_for
from dmmd_lite.models.evaluation import default_num
from dmmd_lite.worlds import WORLDS, get_world
from dmmd_lite.worlds.image_sets import mnist
from dmmd_lite.worlds.images import ImageWorld

REAL = Path(os.environ.get("DMMD_DATA_DIR") or "none")
needs_resnet = pytest.mark.skipif(
    not (
        (REAL / "cifar10_resnet" / "resnet20.safetensors").is_file()
        and (REAL / "cifar10_test.parquet").is_file()
    ),
    reason="DMMD_DATA_DIR holds no cifar10_resnet/resnet20.safetensors and cifar10_*.parquet",
)


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """DMMD_DATA_DIR with a random ResNet-20; the path of its weights."""
    torch.manual_seed(0)
    path = tmp_path / "data" / "cifar10_resnet" / "resnet20.safetensors"
    path.parent.mkdir(parents=True)
    save_file(ResNet(RESNETS["resnet20"]).state_dict(), path)
    monkeypatch.setenv("DMMD_DATA_DIR", str(tmp_path / "data"))
    load_features.cache_clear()
    yield path
    load_features.cache_clear()


def test_every_image_world_has_features_of_its_own():
    worlds = [get_world(name) for name in WORLDS]
    for world in worlds:
        assert bool(world.extractor) == isinstance(world, ImageWorld) == ("images" in world.traits)
    extractors = {world.extractor for world in worlds} - {""}
    assert extractors <= {*(f"{name}-classifier" for name in CLASSIFIERS), *RESNETS}


@pytest.mark.parametrize("world_name", ["digits", "glyphs", "fashion_mnist"])
def test_no_unit_is_blown_up(world_name):
    """What hardly varies is not divided by next to nothing."""
    spread = load_features(get_world(world_name)).model.std
    assert spread.min() >= 0.0999 * spread.median()  # half precision


@pytest.mark.parametrize("world_name", ["glyphs", "fashion_mnist"])
def test_released_classifiers_are_small_and_name_their_training(world_name):
    weights, provenance = extractor_files(f"{world_name}-classifier")
    facts = json.loads(provenance.read_text())
    assert weights.stat().st_size < 300_000
    assert facts["recipe"] == CLASSIFIERS[world_name]
    assert facts["accuracy"]["test"] > 0.8 and set(facts["accuracy"]) == {"train", "valid", "test"}


def test_glyph_features_see_what_is_there(rng):
    world, extract = get_world("glyphs"), load_features(get_world("glyphs"))
    test = world.stored("test")[:2000]
    facts = json.loads(extractor_files("glyphs-classifier")[1].read_text())
    assert extract.name.startswith("glyphs-classifier-") and extract.dim == 64 and extract.num_classes == 62
    right = (extract.classes(test) == world.labels("test")[:2000].numpy()).mean()
    assert right == pytest.approx(facts["accuracy"]["test"], abs=0.04)
    features = extract(world.draw(2000, rng)[0])
    np.testing.assert_allclose(features.mean(0), 0, atol=0.2)
    fine = load_features(get_world("glyphs256"))
    assert fine.name == extract.name
    state = rng.get_state()
    coarse, exact = world.draw(50, rng)[0], get_world("glyphs256").draw(50, rng.set_state(state))[0]
    assert np.abs(extract(coarse) - fine(exact)).mean() < 0.2


def test_glyph_distances_have_a_floor_and_see_what_is_missing(rng):
    """Fresh glyphs reach the floor; capitals alone, copies of one font, and noise do not."""
    world, names = get_world("glyphs"), ["frechet", "frechet_floor", "coverage", "class_histogram"]
    drawn, characters = world.draw(1000, rng)
    real = {r.name: r for r in evaluate_samples(drawn, world, names)}
    assert real["frechet_floor"].n == 1000 and real["frechet"].reference == "5000 held-out images"
    assert real["frechet"].value < 1.3 * real["frechet_floor"].value
    assert real["coverage"].value > 0.5
    capitals = drawn[(characters >= 10) & (characters < 36)]
    part = {r.name: r for r in evaluate_samples(capitals, world, ["frechet", "class_histogram"])}
    assert part["frechet"].value > 4 * real["frechet_floor"].value
    assert part["class_histogram"].value > 0.3 > 2 * real["class_histogram"].value
    noise = torch.randint(16, (100, 256), generator=rng)
    (far,) = evaluate_samples(noise, world, ["frechet"])
    assert far.value > part["frechet"].value


def test_a_classifier_is_trained_into_the_cache_once(tmp_path, monkeypatch):
    """MNIST's, on glyph-like images in its place."""
    from dmmd_lite.metrics import classifier

    class Few(type(get_world("glyphs"))):
        extractor = "mnist-classifier"
        provenance = {"images_sha256": "few"}

    few = Few(16, "mnist")
    few.parts = {split: few.draw(200, torch.Generator().manual_seed(1)) for split in ("valid", "test")}
    monkeypatch.setattr(classifier, "get_world", lambda name: few)
    monkeypatch.setattr("dmmd_lite.metrics.features.get_world", lambda name: few)
    monkeypatch.setitem(CLASSIFIERS, "mnist", LARGER | {"images": 300, "epochs": 1})
    monkeypatch.setenv("DMMD_CACHE_DIR", str(tmp_path))
    load_features.cache_clear()
    first = load_features(few)
    assert [f.suffix for f in sorted((tmp_path / "features").iterdir())] == [".json", ".lock", ".safetensors"]
    monkeypatch.setattr(classifier, "build", lambda *_: pytest.fail("trained again"))
    assert cached_files("mnist")[1].is_file()
    load_features.cache_clear()
    assert load_features(few).name == first.name
    load_features.cache_clear()


def test_a_classifier_learns_in_any_size(rng):
    """Some epochs on 32 x 32 colour crops tell most of the two photographs apart."""
    world = get_world("photos")
    tokens, labels = world.draw(300, rng)
    recipe = LARGER | {"epochs": 12, "batch": 30, "features": 8}
    model = train_classifier(tokens, labels, world, recipe)
    with torch.no_grad():
        guesses = model(unit_images(tokens, world)).argmax(-1)
    assert model.dim == 8 and (guesses == labels).double().mean() > 0.8


# --- ResNets ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture, parameters", [("resnet20", 269_722), ("resnet56", 853_018)])
def test_the_resnets_are_those_published(architecture, parameters, rng):
    model = ResNet(RESNETS[architecture]).eval()
    assert sum(p.numel() for p in model.parameters()) == parameters
    x = torch.rand(2, 3, 32, 32, generator=rng)
    assert model.features(x).shape == (2, 64) and model(x).shape == (2, 10)
    torch.testing.assert_close(model(x), model.linear(model.features(x)))


def test_a_resnet_is_read_by_architecture_or_by_file(weights, tmp_path, rng):
    crops = get_world("photos").sample(70, rng)
    own = load_features(get_world("photos"))
    assert own.name.startswith("resnet20-") and own(crops).shape == (70, 64)
    copied = tmp_path / "mine.safetensors"
    copied.write_bytes(weights.read_bytes())
    same = load_features(get_world("photos"), f"resnet20:{copied}")
    assert same.name == own.name and np.array_equal(same(crops), own(crops))
    coarse = load_features(get_world("photos@16"))
    assert coarse.name == own.name and coarse.images(torch.full((1, 3072), 15)).max() == 1
    (record,) = evaluate_samples(
        crops, get_world("photos"), ["frechet"], split="valid", features=f"resnet20:{copied}"
    )
    details = {"infinite_n": None, "extractor": own.name, "split": "valid"}
    assert record.details == details and record.value > 0


def refused(world_name, features):
    with pytest.raises(ValueError) as error:
        load_features(get_world(world_name), features)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_is_no_extractor_is_said(weights, tmp_path, monkeypatch):
    assert refused("photos", "beauty").startswith("features: 'beauty' is not allowed; choose from ['digits-")
    assert refused("photos", "coins-classifier").startswith(
        "features: 'coins-classifier' is not allowed; choose"
    )
    assert refused("glyphs", "resnet20") == (
        "features: 'resnet20' is not allowed for glyphs; it reads images of 32x32x3, not 16x16x1"
    )
    assert refused("photos", "glyphs-classifier").endswith("it reads images of 16x16x1, not 32x32x3")
    assert "'nowhere' is not a file" in refused("photos", "resnet20:nowhere")
    assert "resnet20.safetensors holds no weights of resnet56" in refused("photos", f"resnet56:{weights}")
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(weights.read_bytes()[:-100])
    assert "broken.safetensors holds no weights of resnet20" in refused("photos", f"resnet20:{broken}")
    torch.save({"weight": 1.0}, tmp_path / "pickled.pt")
    assert "holds no weights of resnet20" in refused("photos", f"resnet20:{tmp_path / 'pickled.pt'}")
    assert "no cifar10_resnet/resnet56.safetensors in " in refused("photos", "resnet56")
    monkeypatch.delenv("DMMD_DATA_DIR")
    load_features.cache_clear()
    words = refused("cifar10", None)
    assert words.startswith(
        "features: no cifar10_resnet/resnet20.safetensors, because DMMD_DATA_DIR is not set;"
    )
    assert "resnet20:FILE" in words


@needs_resnet
@pytest.mark.slow
def test_the_weights_recognise_cifar():
    world = get_world("cifar10")
    extract = load_features(world)
    right = (extract.classes(world.stored("test")[:1000]) == world.labels("test")[:1000].numpy()).mean()
    assert right == pytest.approx(0.917, abs=0.04)


# --- samples ---------------------------------------------------------------------------------------------


def test_samples_that_are_not_the_worlds_are_refused(rng):
    world = get_world("glyphs")
    with pytest.raises(
        ValueError, match="^samples: 64 tokens each are not allowed; an image of glyphs is 16x16x1$"
    ):
        evaluate_samples(get_world("digits").sample(100, rng), world, ["frechet"])
    with pytest.raises(
        ValueError, match="^samples: levels 0 to 255 are not allowed; those of glyphs are 0 to 15$"
    ):
        evaluate_samples(get_world("glyphs256").stored("test")[:100], world, ["frechet"])
    few = "^samples: 63 are not allowed; a Fréchet distance on 64 features needs 64 or more$"
    with pytest.raises(ValueError, match=few):
        evaluate_samples(world.sample(63, rng), world, ["coverage", "frechet"])
    assert evaluate_samples(world.sample(63, rng), world, ["class_histogram"])[0].n == 63
    with pytest.raises(ValueError, match="^features: 'resnet20' is not allowed; none of the metrics"):
        evaluate_samples(world.sample(63, rng), world, ["sample_entropy"], features="resnet20")


@pytest.mark.parametrize("part", [7, 64, 1000])
def test_parts_change_nothing(part, rng, monkeypatch):
    x, y = (torch.randn(n, 5, generator=rng).double().numpy() for n in (150, 90))
    levels = torch.randint(4, (60, 12), generator=rng)

    def measured():
        records = [
            f(x, y)
            for f in (
                feature_distances.kernel_distance,
                feature_distances.coverage,
                feature_distances.density,
            )
        ]
        records.append(feature_distances.nearest_training(levels[:20], levels[20:50], levels[50:]))
        return [v for r in records for v in (r.value, r.low, r.high)]

    whole = measured()
    monkeypatch.setattr(feature_distances, "PART", part)
    assert measured() == pytest.approx(whole, abs=1e-10)


def test_the_error_of_a_frechet_distance_is_that_of_many_draws(rng):
    """Distances of fresh samples from one law scatter by the delta method's error."""
    torch.manual_seed(rng.initial_seed())
    mix, d, n = torch.randn(4, 4).double(), 4, 2000
    reference = torch.randn(n, d).double().numpy()
    fixed = feature_distances.mean_and_covariance(reference)
    values, errors = [], []
    for _ in range(200):
        x = (torch.randn(n, d).double() @ mix + 0.3).numpy()
        ours = feature_distances.mean_and_covariance(x)
        values.append(feature_distances.frechet_gaussian(*ours, *fixed))
        errors.append(feature_distances.frechet_error(x, *ours, *fixed))
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.25)


# --- Inception -------------------------------------------------------------------------------------------


class Fake(torch.nn.Module):
    """In the place of torch-fidelity's network: some numbers of every image. It checks what it is given."""

    def __init__(self, name, features_list, feature_extractor_weights_path=None):
        super().__init__()
        assert Path(feature_extractor_weights_path).is_file()
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("mix", torch.randn(64, int(features_list[0]), generator=generator))

    def forward(self, x):
        assert x.dtype == torch.uint8 and x.shape[1] == 3 and len(x) <= inception.IMAGES_PER_BATCH
        small = torch.nn.functional.adaptive_avg_pool2d(x.float().mean(1) / 255, 8).flatten(1)
        return (torch.cos(small @ self.mix),)


@pytest.fixture
def library(tmp_path, monkeypatch):
    """Stand-ins for torch-fidelity, with 12 features, and its weights; their path, which nothing names."""
    module = types.ModuleType("inceptionv3")
    module.FeatureExtractorInceptionV3 = Fake
    monkeypatch.setitem(sys.modules, "torch_fidelity", types.ModuleType("torch_fidelity"))
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", module)
    path = tmp_path / FILES[0]
    path.write_bytes(b"weights")
    monkeypatch.setattr(inception, "SHA256", hashlib.sha256(b"weights").hexdigest())
    monkeypatch.setattr(inception.Inception, "dim", 12)
    monkeypatch.setenv("DMMD_CACHE_DIR", str(tmp_path / "cache"))
    for name in ("DMMD_DATA_DIR", "DMMD_DOWNLOAD", VARIABLE):
        monkeypatch.delenv(name, raising=False)
    load_inception.cache_clear()
    yield path
    load_inception.cache_clear()


@pytest.fixture
def numbers(rng, monkeypatch):
    """A set of 300 training and 40 test images in MNIST's place, bright on the left."""
    world = mnist()
    x = torch.randint(256, (340, 28, 28), generator=rng, dtype=torch.uint8)
    x[:, :, 14:] //= 2
    parts = x.flatten(1).split([300, 20, 20])
    world.parts = {k: (v, torch.zeros(len(v))) for k, v in zip(world.splits, parts, strict=True)}
    return world


def test_fid_compares_with_the_whole_training_set(library, numbers, monkeypatch, rng):
    monkeypatch.setenv(VARIABLE, str(library))
    (copies,) = evaluate_samples(numbers.split("train"), numbers, ["fid"])
    assert copies.name == "fid" and copies.value == pytest.approx(0, abs=1e-8)
    assert copies.reference == "300 training images" and copies.n == 300
    extractor = f"inception-2015-12-05-{inception.SHA256[:8]}"
    assert copies.details | {"infinite_n": 0} == {"infinite_n": 0, "extractor": extractor, "split": "train"}
    flipped = numbers.split("train").view(-1, 28, 28).flip(-1).flatten(1)[:100]
    (record,) = evaluate_samples(flipped, numbers, ["fid"])
    extract = load_inception(numbers)
    by_hand = feature_distances.frechet(extract(flipped), extract(numbers.stored("train")))
    assert (record.value, record.low, record.high) == (by_hand.value, by_hand.low, by_hand.high)
    assert record.value > 0.01
    with pytest.raises(ValueError, match="^samples: 11 are not allowed; .* on 12 features needs 12"):
        evaluate_samples(flipped[:11], numbers, ["fid"])


def no_fid(world):
    with pytest.raises(ValueError) as error:
        evaluate_samples(world.split("train"), world, ["fid"])
    assert "\n" not in str(error.value)
    return str(error.value)


def test_fid_without_its_weights_says_where_they_are(library, numbers, tmp_path, monkeypatch):
    words = no_fid(numbers)
    assert FILES[0] in words and "https://github.com/toshas/torch-fidelity/releases/" in words
    assert VARIABLE in words and "DMMD_DOWNLOAD=1" in words
    monkeypatch.setenv(VARIABLE, str(tmp_path / "nowhere.pth"))
    assert no_fid(numbers).startswith(f"{VARIABLE}: ") and "is not a file; get https:" in no_fid(numbers)
    (tmp_path / "other.pth").write_bytes(b"something else")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "other.pth"))
    assert "other.pth is not the published file, whose sha256 is" in no_fid(numbers)
    monkeypatch.delenv(VARIABLE)
    library.rename(tmp_path / FILES[1])  # the other name it has
    monkeypatch.setenv("DMMD_DATA_DIR", str(tmp_path))
    assert evaluate_samples(numbers.split("train"), numbers, ["fid"])


def test_inception_is_downloaded_when_asked_for(library, numbers, monkeypatch):
    asked = []

    def download(url, target, hash_prefix):
        asked.append(url)
        if hash_prefix != hashlib.sha256(b"weights").hexdigest():
            raise RuntimeError("invalid hash value")
        Path(target).write_bytes(b"weights")

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    no_fid(numbers)
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DMMD_DOWNLOAD", "1")
    assert asked == []
    for _ in range(2):
        evaluate_samples(numbers.split("train"), numbers, ["fid"])
        load_inception.cache_clear()
    assert asked == [inception.URL]
    next(Path(os.environ["DMMD_CACHE_DIR"]).rglob("*.pth")).unlink()
    monkeypatch.setattr(inception, "SHA256", "0" * 64)
    assert no_fid(numbers) == f"fid: {inception.URL} cannot be fetched (invalid hash value)"


def test_fid_without_its_library_is_one_line(library, numbers, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", None)
    words = no_fid(numbers)
    assert words.startswith("fid: torch-fidelity cannot be imported (") and "dmmd-lite[fid]" in words


def test_the_library_takes_what_it_is_given(tmp_path, monkeypatch):
    """The real one, with random weights of its own shape."""
    library = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3", exc_type=Exception)
    monkeypatch.setattr(torch, "load", lambda *_, **__: {})
    monkeypatch.setattr(library.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
    weights = tmp_path / "random.pth"
    weights.write_bytes(b"random")
    monkeypatch.setattr(inception, "SHA256", hashlib.sha256(b"random").hexdigest())
    monkeypatch.setenv(VARIABLE, str(weights))
    load_inception.cache_clear()
    extract = load_inception(get_world("glyphs"))
    assert extract(get_world("glyphs").stored("test")[:2]).shape == (2, 2048)
    load_inception.cache_clear()


def test_fid_is_measured_where_it_is_named():
    assert not METRICS["fid"].default and METRICS["fid"].trait == "published"
    assert all(metric.default for name, metric in METRICS.items() if name not in ("fid", "fcd"))
    assert [name for name in WORLDS if "fid" in metrics_for(get_world(name))] == [
        "fashion_mnist",
        "mnist",
        "cifar10",
    ]
    assert default_num("paper", ["frechet", "fid"]) == 50_000
    assert default_num("paper", ["frechet"]) == default_num("gpu", ["fid"]) == 1000
