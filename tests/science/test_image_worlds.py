"""Image worlds: laws, splits, levels, files in and one line out for what is missing or damaged."""

import io
import os
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from helpers import LEAST_P, chi_square_p
from PIL import Image
from torch.nn.functional import affine_grid

from dmmd_lite.metrics.features import load_features
from dmmd_lite.metrics.suite import evaluate_samples, metrics_for
from dmmd_lite.models.loading import train_recipe
from dmmd_lite.processes import PROCESSES
from dmmd_lite.recipes.catalogue import RECIPES, get_recipe, scales_of
from dmmd_lite.recipes.cost import cost
from dmmd_lite.recipes.world_settings import settings_of
from dmmd_lite.utils.rng import generator_for
from dmmd_lite.worlds import get_world, glyphs, image_sets, image_world, with_levels
from dmmd_lite.worlds.glyphs import CHARACTERS, FONTS, Glyphs
from dmmd_lite.worlds.image_sets import ImageSet, cifar10, mnist
from dmmd_lite.worlds.images import quantised
from dmmd_lite.worlds.photos import REGIONS, Photos

VARIANTS = ("", "-nonoise")
REAL = Path(os.environ.get("DMMD_DATA_DIR") or "none")
needs_sets = pytest.mark.skipif(
    not ((REAL / "cifar10_train.parquet").is_file() and (REAL / "fashion_mnist_train.parquet").is_file()),
    reason="DMMD_DATA_DIR holds no cifar10_*.parquet and fashion_mnist_*.parquet",
)


# --- glyphs ----------------------------------------------------------------------------------------------


def test_every_font_draws_every_character():
    drawings = get_world("glyphs").drawings
    assert drawings.shape == (22, 62, 64, 64) == (len(FONTS), len(CHARACTERS), 64, 64)
    for font in drawings.flatten(2):
        assert (font > 0).any(-1).all() and len(font.unique(dim=0)) == len(CHARACTERS)


def test_glyphs_come_from_the_generator_alone(rng):
    world = get_world("glyphs")
    state = rng.get_state()
    images, characters = world.draw(600, rng)
    assert images.shape == (600, 256) and images.dtype == torch.int64
    assert images.min() == 0 and images.max() == 15 and (images > 0).any(-1).all()
    again = Glyphs().draw(600, generator_for("cpu", 0).set_state(state))
    assert torch.equal(again[0], images) and torch.equal(again[1], characters)
    assert not torch.equal(world.draw(600, rng)[0], images)
    parts = world.draw(5, generator_for("cpu", 0).set_state(state))[0]
    assert parts.shape == (5, 256)


def test_characters_are_equally_likely_and_seen_as_what_they_are(rng):
    world = get_world("glyphs")
    images, characters = world.draw(3100, rng)
    counts = characters.bincount(minlength=62)
    assert chi_square_p(counts[None], torch.full((1, 62), 1 / 62)) > LEAST_P
    guesses = load_features(get_world("glyphs")).classes(images)
    assert (guesses == characters.numpy()).mean() > 0.8


def test_no_glyph_comes_twice_and_none_is_held_out(rng):
    world = get_world("glyphs")
    held_out = [world.stored(split) for split in ("valid", "test")]
    fresh = world.draw(5000, rng)[0].to(torch.uint8)
    assert [len(x) for x in held_out] == [5000, 5000]
    assert len(torch.cat([*held_out, fresh]).unique(dim=0)) == 15_000
    assert torch.equal(Glyphs().stored("test"), held_out[1])
    assert world.labels("test").bincount(minlength=62).min() > 40


def test_a_world_without_end_has_no_training_set_to_copy(rng):
    world = get_world("glyphs")
    with pytest.raises(ValueError, match="^split: 'train' is not allowed for glyphs, which has no finite"):
        world.split("train")
    with pytest.raises(ValueError, match="^split: 'judge' is not allowed for glyphs; choose one of"):
        world.sample(1, rng, "judge")
    assert "nearest_training" not in metrics_for(world) and "nearest_training" in metrics_for(mnist())
    with pytest.raises(ValueError, match="'nearest_training' is not allowed for samples of glyphs"):
        evaluate_samples(world.sample(100, rng), world, ["nearest_training"])
    assert world.training_images(7, rng).shape == (7, 256)


def test_maps_are_affine_and_small(rng):
    u = 2 * torch.rand(6, 500, generator=rng) - 1
    maps = glyphs.affine_maps(u)
    expected = affine_grid(maps, (500, 1, 32, 32), align_corners=False)
    torch.testing.assert_close(glyphs.sampling_points(maps), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(glyphs.affine_maps(torch.zeros(6, 1))[0], torch.eye(2, 3))
    area = torch.linalg.det(maps[:, :, :2].double()).log().abs().max()
    assert area <= 2 * glyphs.STRETCH + 1e-6  # rotations and shears keep areas
    assert maps[:, :, 2].abs().max() <= glyphs.SHIFT


def test_levels_are_a_parameter(rng):
    state = rng.get_state()
    fine = get_world("glyphs256").draw(50, rng)[0]
    for name, levels in (("glyphs", 16), ("glyphs@4", 4)):
        coarse = get_world(name).draw(50, generator_for("cpu", 0).set_state(state))[0]
        assert get_world(name).vocab_size == levels and coarse.max() == levels - 1
        assert (coarse / (levels - 1) - fine / 255).abs().max() <= 0.5 / (levels - 1) + 0.5 / 255 + 1e-6
    shades = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(quantised(shades, 256), shades)
    for levels in (2, 3, 16, 255):
        nearest = quantised(shades, levels).double() / (levels - 1)
        assert (nearest - shades / 255).abs().max() <= 0.5 / (levels - 1) + 1e-9
        assert quantised(shades, levels).unique().tolist() == list(range(levels))
    assert image_world("photos", 8).name == "photos@8" and get_world("photos@8").vocab_size == 8


@pytest.mark.parametrize("levels", ["1", "257", "0", "x", "", "-3", "16.0"])
@pytest.mark.parametrize("name", with_levels())
def test_impossible_levels_are_refused(name, levels):
    with pytest.raises(ValueError, match="^levels: .* is not allowed; .* of at least 2 and at most 256$"):
        get_world(f"{name}@{levels}")


def test_levels_belong_to_images():
    for name in ("coins@2", "digits@4", "glyphs256@16"):
        with pytest.raises(ValueError, match="^world: .* is not allowed with levels; choose one of"):
            get_world(name)
    with pytest.raises(ValueError, match="^world: 'moon@16' is not allowed; choose one of"):
        get_world("moon@16")


# --- photos ----------------------------------------------------------------------------------------------


def test_photos_have_cifars_layout_and_credit(rng):
    world = get_world("photos")
    assert (world.length, world.vocab_size, world.image_shape) == (3072, 256, (32, 32, 3))
    crops = world.sample(20, rng)
    assert crops.shape == (20, 3072) and crops.dtype == torch.int64 and crops.max() > 200
    assert world.stored("test").shape == (1000, 3072) and world.labels("valid").unique().tolist() == [0, 1]
    assert world.show(crops[:1])[0].shape == (32, 32, 3)
    crop = crops[0].view(32, 32, 3)
    windows = world.photographs.unfold(1, 32, 1).unfold(2, 32, 1)
    first = (world.photographs[:, :396, :417] == crop[0, 0]).all(-1).nonzero()
    assert any(torch.equal(windows[*place].permute(1, 2, 0), crop) for place in first)
    assert "danielbuechele" in world.provenance["photos_credit"]
    assert "vultilion" in world.provenance["photos_credit"] and len(world.provenance["photos_sha256"]) == 64


def test_photos_are_split_by_region(rng, monkeypatch):
    """Photographs whose pixels say in which third of the regions they lie."""
    bounds = sorted(REGIONS.values())
    assert all(end == first for (_, end), (first, _) in zip(bounds, bounds[1:], strict=False))
    painted = torch.zeros(2, 427, 640, 3, dtype=torch.uint8)
    for colour, (first, end) in enumerate(REGIONS.values()):
        painted[:, :, first:end] = colour
    world = Photos()
    monkeypatch.setattr(Photos, "photographs", painted)
    for colour, split in enumerate(REGIONS):
        assert (world.sample(500, rng, split) == colour).all()


# --- sets in files ---------------------------------------------------------------------------------------


def picture(rng, shape=(28, 28), kind="PNG"):
    """Bytes of a random image, and its pixels."""
    pixels = torch.randint(256, shape, generator=rng, dtype=torch.uint8).numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue(), pixels


def write(path, cells, labels, column="image"):
    images = [{"bytes": content, "path": f"{i}.png"} for i, content in enumerate(cells)]
    pq.write_table(pa.table({column: images, "label": labels}), path)


@pytest.fixture
def pictures(rng):
    """Bytes and pixels of the images in MNIST's files: 30 and 20 random ones."""
    return {split: [picture(rng) for _ in range(num)] for split, num in (("train", 30), ("test", 20))}


def tokens(pictures, split):
    return torch.from_numpy(np.stack([pixels for _, pixels in pictures[split]])).flatten(1)


@pytest.fixture
def folder(tmp_path, monkeypatch, pictures):
    """DMMD_DATA_DIR with MNIST's files."""
    data = tmp_path / "data"
    data.mkdir()
    for split, made in pictures.items():
        write(data / f"mnist_{split}.parquet", [c for c, _ in made], [i % 10 for i in range(len(made))])
    monkeypatch.setenv("DMMD_DATA_DIR", str(data))
    monkeypatch.setenv("DMMD_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("DMMD_DOWNLOAD", raising=False)
    return data


def test_a_set_is_read_once(folder, pictures, monkeypatch, rng):
    world = mnist()
    assert torch.equal(world.stored("train"), tokens(pictures, "train"))
    assert world.labels("train").tolist() == [i % 10 for i in range(30)]
    halves = torch.cat([world.stored("valid"), world.stored("test")])
    assert len(world.stored("valid")) == len(world.stored("test")) == 10
    assert sorted(halves.tolist()) == sorted(tokens(pictures, "test").tolist())
    monkeypatch.setattr("dmmd_lite.worlds.image_sets.write_tensors", lambda *_: pytest.fail("decoded again"))
    again = mnist(16)
    assert torch.equal(again.stored("valid"), quantised(world.stored("valid"), 16))
    assert again.provenance == world.provenance and len(world.provenance["images_sha256"]) == 64
    assert world.provenance["images_source"] == "mnist_train.parquet, mnist_test.parquet"
    drawn = world.sample(8, rng)
    assert drawn.dtype == torch.int64 and (drawn.unsqueeze(1) == world.split("train")).all(-1).any(-1).all()
    some, everything = (world.training_images(n, rng) for n in (7, 30))
    assert len(some.unique(dim=0)) == 7 and torch.equal(everything, world.stored("train"))


def test_other_files_are_other_images(folder, rng):
    before = mnist().stored("train")
    content, pixels = picture(rng)
    write(folder / "mnist_train.parquet", [content] * 3, [1, 2, 3])
    assert len(before) == 30 and len(mnist().stored("train")) == 3
    assert torch.equal(mnist().stored("train")[0], torch.from_numpy(pixels).flatten())


DAMAGED = "mnist: mnist_train.parquet cannot be read ({})"


def refused(folder):
    with pytest.raises(ValueError) as error:
        mnist().stored("train")
    assert "\n" not in str(error.value)
    return str(error.value)


def test_files_that_cannot_be_used(folder, rng):
    file, (content, _) = folder / "mnist_train.parquet", picture(rng)
    write(file, [picture(rng, (32, 32))[0]], [1])
    assert refused(folder) == DAMAGED.format("it holds an image of 32 x 32 pixels, not 28 x 28")
    write(file, [picture(rng, (28, 28, 3))[0]], [1])
    assert refused(folder) == DAMAGED.format("it holds an image in colour; images of this set are grey")
    write(file, [content, b"no image"], [1, 2])
    assert refused(folder) == DAMAGED.format("it holds an image that cannot be decoded")
    write(file, [content, None], [1, 2])
    assert refused(folder) == DAMAGED.format("it holds an image that cannot be decoded")
    write(file, [content], [10])
    assert refused(folder) == DAMAGED.format("column 'label' must hold whole numbers below 10")
    write(file, [content], [1], column="picture")
    assert refused(folder) == DAMAGED.format(
        "it needs the columns 'label' and one of ('img', 'image'); its columns are ['picture', 'label']"
    )
    file.write_bytes(b"no parquet")
    assert refused(folder).startswith(DAMAGED[:40])
    assert not list((folder.parent / "cache").rglob("*.safetensors"))


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def grey_images(pixels):
    """Files of one grey image [28, 28] in many encodings, by name."""
    grey = Image.fromarray(pixels)
    rgb = grey.convert("RGB")
    palette = rgb.quantize(256)  # whose entries are sorted by how often a grey occurs
    assert not np.array_equal(np.asarray(palette), pixels)
    return {
        "palette PNG": encoded(palette, "PNG"),
        "palette GIF": encoded(palette, "GIF"),
        "colour PNG": encoded(rgb, "PNG"),
        "opaque PNG": encoded(grey.convert("RGBA"), "PNG"),
        "grey with alpha": encoded(grey.convert("LA"), "PNG"),
        "16 bits": encoded(Image.fromarray(pixels.astype(np.uint16) * 257), "PNG"),
        "16 bits of TIFF": encoded(Image.fromarray(pixels.astype(np.uint16) * 256), "TIFF"),
        "CMYK": encoded(
            Image.merge("CMYK", [Image.fromarray(255 - pixels)] * 3 + [Image.new("L", (28, 28))]), "TIFF"
        ),
        "BMP": encoded(grey, "BMP"),
        "WEBP": encoded(rgb, "WEBP", lossless=True),
    }


def test_pixels_are_the_colours_of_an_image_however_it_says_them(folder, rng):
    _, pixels = picture(rng)
    files = grey_images(pixels)
    bits = np.asarray(Image.fromarray(pixels).convert("1")).astype(np.uint8) * 255
    write(
        folder / "mnist_train.parquet",
        [*files.values(), encoded(Image.fromarray(bits).convert("1"), "PNG")],
        [1] * (len(files) + 1),
    )
    found = mnist().stored("train").view(-1, 28, 28).numpy()
    assert [name for name, x in zip(files, found, strict=False) if not np.array_equal(x, pixels)] == []
    assert np.array_equal(found[-1], bits)


def test_colours_of_a_palette(folder, rng):
    colours = Image.fromarray(picture(rng, (32, 32, 3))[1]).quantize(256)
    for split in ("train", "test"):
        write(
            folder / f"cifar10_{split}.parquet",
            [encoded(colours, kind) for kind in ("PNG", "GIF")],
            [1, 2],
            "img",
        )
    expected = torch.from_numpy(np.array(colours.convert("RGB"))).flatten()
    assert all(torch.equal(image, expected) for image in cifar10().stored("train"))


def animation(pixels):
    frames = [Image.fromarray(pixels), Image.fromarray(255 - pixels)]
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])


def bomb(side):
    """A small file of many pixels."""
    return encoded(Image.new("1", (side, side)), "PNG")


def test_images_that_say_more_than_the_set_holds(folder, rng):
    _, pixels = picture(rng)
    glass = Image.fromarray(pixels).convert("RGBA")
    glass.putpixel((0, 0), (1, 2, 3, 4))
    cases = {
        "it holds an image of 2 frames, not one": animation(pixels),
        "it holds an image with transparent pixels": encoded(glass, "PNG"),
        "it holds an image of mode 'F'; pixels must have 8 or 16 bits": encoded(
            Image.fromarray(pixels.astype(np.float32)), "TIFF"
        ),
        "it holds an image of 12000 x 12000 pixels, not 28 x 28": bomb(12_000),  # a warning of Pillow
    }
    for words, content in cases.items():
        write(folder / "mnist_train.parquet", [content], [1])
        assert refused(folder) == DAMAGED.format(words)
    damaged = [encoded(Image.fromarray(pixels), "PNG")[:-100], bomb(20_000)]  # an error of Pillow
    for image in (None, {"bytes": None, "path": "a.png"}, *({"bytes": x, "path": "a.png"} for x in damaged)):
        pq.write_table(
            pa.table(
                {
                    "image": pa.array([image], pa.struct({"bytes": pa.binary(), "path": pa.string()})),
                    "label": [1],
                }
            ),
            folder / "mnist_train.parquet",
        )
        assert refused(folder) == DAMAGED.format("it holds an image that cannot be decoded")
    write(folder / "mnist_train.parquet", [], pa.array([], pa.int64()))
    assert refused(folder) == DAMAGED.format("it holds no images")
    for labels in ([None], [1.5], ["1"], [-1], [True]):
        write(folder / "mnist_train.parquet", [encoded(Image.fromarray(pixels), "PNG")], labels)
        assert refused(folder) == DAMAGED.format("column 'label' must hold whole numbers below 10")


def test_a_folder_with_brackets_in_its_name_is_a_folder(folder, pictures, monkeypatch):
    for name in ("data[1]", "data*", "a::b"):
        monkeypatch.setenv("DMMD_DATA_DIR", str(folder.rename(folder.with_name(name))))
        folder = folder.with_name(name)
        monkeypatch.setattr(image_sets, "LAYOUT", name)  # no stored images are read
        assert torch.equal(mnist().stored("train"), tokens(pictures, "train"))


def test_what_is_missing_is_said_at_once(folder, tmp_path, monkeypatch):
    start = time.perf_counter()
    words = (
        r"^cifar10: no cifar10_\{train,test\}.parquet in .*; point DMMD_DATA_DIR at a folder with these files"
        " or set DMMD_DOWNLOAD=1 to fetch uoft-cs/cifar10 from the hub$"
    )
    with pytest.raises(ValueError, match=words):
        cifar10().stored("train")
    unread = get_recipe("cifar10-masked-teacher", "smoke", {"world": "cifar10@3"})  # by no other test
    with pytest.raises(ValueError, match="^cifar10@3: no cifar10_"):
        train_recipe(unread, tmp_path / "run")
    monkeypatch.delenv("DMMD_DATA_DIR")
    with pytest.raises(ValueError, match="^mnist@5: no .*, because DMMD_DATA_DIR is not set; point"):
        get_world("mnist@5").sample(1, torch.Generator())
    assert time.perf_counter() - start < 1
    assert not (tmp_path / "run").exists()


def test_the_hub_is_asked_only_when_told_to(folder, pictures, monkeypatch):
    """A set on the hub, in the place of the hub: the files' rows in streams of their own."""
    from datasets import load_dataset

    files = {split: str(folder / f"mnist_{split}.parquet") for split in ("train", "test")}
    parts = load_dataset("parquet", data_files=files, streaming=True)
    asked = []
    monkeypatch.setattr(image_sets, "open_hub", lambda name: (asked.append(name) or f"{name}@1", parts))
    monkeypatch.delenv("DMMD_DATA_DIR")
    with pytest.raises(ValueError, match="DMMD_DOWNLOAD=1"):
        mnist().stored("train")
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DMMD_DOWNLOAD", "1")
    assert torch.equal(mnist().stored("train"), tokens(pictures, "train"))
    assert asked == ["ylecun/mnist"] and mnist().provenance["images_source"] == "ylecun/mnist@1"
    del parts["test"]
    monkeypatch.setattr(image_sets, "LAYOUT", -1)
    with pytest.raises(ValueError, match="^mnist: ylecun/mnist@1 needs the splits .*; its splits are"):
        mnist().stored("train")


def test_recipes_and_costs_read_nothing(monkeypatch):
    monkeypatch.setattr(ImageSet, "cached", property(lambda _: pytest.fail("read")))
    monkeypatch.setattr(Photos, "photographs", property(lambda _: pytest.fail("read")))
    monkeypatch.setattr(Glyphs, "drawings", property(lambda _: pytest.fail("drawn")))
    for name in ("cifar10-uniform-dmmd-64", "mnist-masked-teacher", "photos-masked-dmmd-4-nonoise"):
        for scale in scales_of(name):
            assert all(value > 0 for value in cost(get_recipe(name, scale)).values())
    assert settings_of("cifar10@16") == settings_of("cifar10")
    assert settings_of("glyphs256") == settings_of("glyphs")
    assert all(f"glyphs-{p}-dmmd-{k}{v}" in RECIPES for p in PROCESSES for k in (4, 8, 16) for v in VARIANTS)


@needs_sets
@pytest.mark.slow
def test_the_sets_are_those_described():
    train = get_world("cifar10").stored("train").view(-1, 3).double() / 255
    assert len(train) == 50_000 * 1024
    torch.testing.assert_close(
        train.mean(0), torch.tensor([0.49140, 0.48216, 0.44653]).double(), atol=1e-4, rtol=0
    )
    fashion = get_world("fashion_mnist")
    assert fashion.stored("train").double().mean() / 255 == pytest.approx(0.28604, abs=1e-4)
    assert fashion.labels("train").bincount().tolist() == [6000] * 10
    assert [len(fashion.stored(split)) for split in fashion.splits] == [60_000, 5000, 5000]
