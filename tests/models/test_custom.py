"""Models of your own: worlds of tokens, teachers, adapters, students, and the folders they are saved in."""

import json
import threading
import warnings
from functools import partial

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict
from helpers import contents
from huggingface_hub import ModelCard
from torch import nn

from dmmd_lite.metrics.suite import evaluate_samples, metrics_for
from dmmd_lite.models.custom import adapt, distil, fit_teacher
from dmmd_lite.models.evaluation import evaluate
from dmmd_lite.models.loading import load_model, train_recipe
from dmmd_lite.models.pretrained import from_pretrained, save_pretrained
from dmmd_lite.pages.source import page_path, read_page
from dmmd_lite.recipes.catalogue import get_recipe
from dmmd_lite.utils.files import folder_lock
from dmmd_lite.utils.rng import generator_for
from dmmd_lite.worlds.tokens import tokens_world

TINY = {"width": 16, "depth": 1, "heads": 2, "time_width": 8}


@pytest.fixture
def pairs(rng) -> torch.Tensor:
    """Two equal tokens of three, [300, 2]."""
    return torch.randint(3, (300, 1), generator=rng).expand(-1, 2).contiguous()


@pytest.fixture
def world(pairs):
    return tokens_world("pairs", pairs, symbols="abc")


@pytest.fixture
def teacher(world, tmp_path):
    """A teacher after a few updates."""
    return fit_teacher(world, tmp_path / "teacher", network=TINY, updates=4, batch_size=8)


def same_model(a, b, rng) -> bool:
    """Whether two models have the same weights and give the same predictions."""
    z, t = a.process.prior((5, a.world.length), rng), torch.rand(5, generator=rng)
    noise = a.denoiser.draw_noise(5, rng)
    states = [model.denoiser.network.state_dict() for model in (a, b)]
    assert states[0].keys() == states[1].keys() and all(
        torch.equal(states[0][k], states[1][k]) for k in states[0]
    )
    return torch.equal(a.denoiser(z, t, noise), b.denoiser(z, t, noise))


def test_tokens_come_from_tensors_arrays_lists_and_sets(pairs):
    kinds = [pairs, pairs.int().numpy(), pairs.tolist(), Dataset.from_dict({"tokens": pairs.tolist()})]
    worlds = [tokens_world("pairs", tokens) for tokens in kinds]
    assert {(w.vocab_size, w.length, json.dumps(w.provenance)) for w in worlds} == {
        (3, 2, json.dumps(worlds[0].provenance))
    }
    assert [len(worlds[0].split(split)) for split in ("train", "valid", "test")] == [240, 30, 30]
    everything = torch.cat([worlds[0].split(split) for split in ("train", "valid", "test")])
    assert torch.equal(everything.sort(0).values, pairs.sort(0).values)
    assert tokens_world("pairs", pairs[:10]).provenance != worlds[0].provenance


def test_a_set_keeps_its_own_parts(pairs):
    parts = {"train": pairs[:200], "validation": pairs[200:250], "test": pairs[250:]}
    rows = {name: Dataset.from_dict({"x": part.tolist()}) for name, part in parts.items()}
    whole = tokens_world("pairs", DatasetDict(rows), column="x")
    assert all(
        torch.equal(whole.split(ours), parts[name])
        for ours, name in [("train", "train"), ("valid", "validation"), ("test", "test")]
    )
    some = tokens_world("pairs", DatasetDict({name: rows[name] for name in ("train", "test")}), column="x")
    assert torch.equal(some.split("test"), parts["test"]) and len(some.split("train")) == 180
    assert some.provenance["tokens_source"] == "train: train; valid: a tenth of train; test: test"


@pytest.mark.parametrize("name", ["dev", "val", "Validation", "my_valid.2"])
def test_parts_are_splits_by_whole_words(pairs, name):
    shards = {"train_a": pairs[:100], "train-b": pairs[100:200], name: pairs[200:]}
    world = tokens_world("pairs", shards)
    assert torch.equal(world.split("valid"), pairs[200:])
    assert len(world.split("train")) == 180 and len(world.split("test")) == 20
    assert (
        world.provenance["tokens_source"] == f"train: train_a, train-b; valid: {name}; test: a tenth of train"
    )


def test_arrays_of_any_layout_are_read(pairs):
    rows = pairs.numpy()
    kinds = [rows[:, ::-1][:, ::-1], rows.astype(">i2"), rows.astype(np.uint64), np.asfortranarray(rows)]
    expected = tokens_world("pairs", pairs).provenance
    assert all(tokens_world("pairs", kind).provenance == expected for kind in kinds)


def test_samples_are_rows_of_the_split_and_can_be_shown(world, pairs, rng):
    x = world.sample(50, rng, "valid")
    assert {tuple(row) for row in x.tolist()} <= {tuple(row) for row in world.split("valid").tolist()}
    assert world.show(torch.tensor([[0, 2]])) == ["ac"]
    assert tokens_world("pairs", pairs).show(torch.tensor([[0, 2]])) == ["0 2"]
    picture = tokens_world("bars", pairs, image_shape=(2, 1, 1)).show(torch.tensor([[0, 2]]))[0]
    assert picture.tolist() == [[0], [255]]


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("digits", [[1, 2]] * 9), "name: 'digits'"),
        (("", [[1, 2]] * 9), "name: ''"),
        (("mine", [[1, 2], [1]] * 9), "tokens: .*one length"),
        (("mine", [1, 2, 3]), r"tokens: list of int64 \[3\]"),
        (("mine", [[0.5, 1.0]] * 9), "tokens: list of float64"),
        (("mine", [["a", "b"]] * 9), "tokens: "),
        (("mine", [[-1, 2]] * 9), "tokens: -1 … 2"),
        (("mine", [[1, 2]] * 9, 2), "tokens: 1 … 2 .* 0 … 1"),
        (("mine", [[0, 0]] * 9), "vocab_size: 1"),
        (("mine", [[1, 2]] * 2), "tokens: 2 sequences"),
        (("mine", Dataset.from_dict({"text": ["a"]})), "column: 'tokens' .*'text'"),
        (("mine", {"test": [[1, 2]] * 9}), "parts .*'train'"),
        (("mine", {"train": [[1, 2]] * 9, "latest": [[1, 2]] * 9}), r"parts \['latest'\]"),
        (("mine", {"train": [[1, 2]] * 9, "test_dev": [[1, 2]] * 9}), r"parts \['test_dev'\]"),
        (("mine", {1: [[1, 2]] * 9}), r"parts \['1'\]"),
        (("mine", [[10**30, 1]] * 9), "tokens: list of object"),
        (("mine", Dataset.from_dict({"tokens": [None, None]})), "tokens: Column of object"),
        (("mine", torch.zeros(9, 2).long().to_sparse()), "tokens: Tensor of int64"),
        (("mine", {"train": [[1, 2]] * 9, "test": [[1]] * 9, "valid": [[1]] * 9}), r"lengths \[1, 2\]"),
    ],
)
def test_wrong_tokens_are_refused_in_one_line(arguments, words):
    with pytest.raises(ValueError, match=words) as error:
        tokens_world(*arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "options, words", [({"image_shape": (3, 1, 1)}, "image_shape"), ({"symbols": "ab"}, "symbols")]
)
def test_wrong_looks_are_refused(pairs, options, words):
    with pytest.raises(ValueError, match=words):
        tokens_world("pairs", pairs, **options)


def test_metrics_of_own_tokens_tell_dependence(world, rng):
    """Equal marginals, so that only the joint law of both positions differs."""
    assert {"kernel_distance", "coverage", "sample_entropy"} <= set(metrics_for(world))
    real = world.sample(600, rng)
    shuffled = torch.stack([real[:, 0], real[torch.randperm(600, generator=rng), 1]], 1)
    good, bad = (evaluate_samples(x, world, ["kernel_distance"])[0] for x in (real, shuffled))
    assert good.value < 0.1 < bad.low
    assert good.details["extractor"] == "one-hot tokens" and good.reference == "30 held-out sequences"


def test_the_kernel_is_that_of_equal_tokens(world, rng):
    x, y = world.sample(40, rng), world.split("test")

    def kernel(a, b):
        return ((a[:, None] == b[None]).double().mean(-1) + 1) ** 3

    def mean_of_others(a):
        return (kernel(a, a).sum() - 8 * len(a)) / (len(a) * (len(a) - 1))

    by_hand = mean_of_others(x) + mean_of_others(y) - 2 * kernel(x, y).mean()
    [record] = evaluate_samples(x, world, ["kernel_distance"])
    assert record.value == pytest.approx(float(by_hand), abs=1e-9)


def test_a_run_goes_on_and_refuses_another_ones_folder(world, teacher, pairs, tmp_path, rng):
    again = fit_teacher(world, tmp_path / "teacher", network=TINY, updates=4, batch_size=8)
    assert same_model(teacher, again, rng)
    other = tokens_world("pairs", pairs[:100], symbols="abc")
    for options, words in [
        ({"world": other}, "world.sequences: 300 there, 100 here"),
        ({"seed": 1}, "seed: 0 there, 1 here"),
        ({"lr": 0.1}, "options.lr.denoiser: 0.002 there, 0.1 here"),
        ({"network": {**TINY, "heads": 1}}, "recipe.network.heads: 2 there, 1 here"),
    ]:
        chosen = {"world": world, "network": TINY, "updates": 4, "batch_size": 8, **options}
        with pytest.raises(ValueError, match=rf"is of another training \({words}"):
            fit_teacher(**chosen, out=tmp_path / "teacher")
    distil(teacher, tmp_path / "student", 2, updates=2, batch_size=8)
    another = fit_teacher(world, tmp_path / "another", network=TINY, updates=4, batch_size=8, seed=1)
    with pytest.raises(ValueError, match=rf"\(teacher: '{teacher.name}' there, '{another.name}' here"):
        distil(another, tmp_path / "student", 2, updates=2, batch_size=8)
    with pytest.raises(ValueError, match=r"; method.settings.steps: 2 there, 4 here\)"):
        distil(teacher, tmp_path / "student", 4, updates=2, batch_size=8)


def test_a_folder_in_which_another_training_runs_is_refused(world, teacher, tmp_path):
    begun, over, out = threading.Event(), threading.Event(), tmp_path / "run"

    def work():
        with folder_lock(out):
            begun.set()
            over.wait()

    thread = threading.Thread(target=work)
    thread.start()
    begun.wait()
    try:
        for call in (partial(fit_teacher, world), partial(distil, teacher)):
            with pytest.raises(ValueError, match="out: .*run' is not allowed now; process .* is working"):
                call(out, updates=1)
        assert [path.name for path in out.iterdir()] == [".lock"]
    finally:
        over.set()
        thread.join()


def test_what_differs_has_another_name(world, teacher, tmp_path):
    """Teachers by their training, adapted networks by their weights, students by both."""
    another = fit_teacher(world, tmp_path / "another", network=TINY, updates=4, batch_size=8, lr=1e-3)
    adapted = [adapt(Table(), world, output=kind) for kind in ("posterior", "posterior")]
    students = [
        distil(model, tmp_path / f"{i}{seed}", 2, updates=1, batch_size=8, seed=seed)
        for i, model in enumerate((teacher, another))
        for seed in (0, 1)
    ]
    names = [model.name for model in (teacher, another, *adapted, *students)]
    assert len(set(names)) == len(names) == 8
    assert all(name.rsplit("-", 1)[0] == "pairs-masked-dmmd-2-own" for name in names[4:])
    assert distil(teacher, tmp_path / "again", 2, updates=1, batch_size=8).name == students[0].name
    assert adapt(Table(), world, name="mine").name == "mine"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_students_of_half_precision_networks_are_float32(dtype, world, tmp_path, rng):
    network = Adapter(Theirs()).to(dtype)
    network.scale.data = network.scale.data.float()  # one weight is of another precision
    teacher = adapt(network, world)
    student = distil(teacher, tmp_path / "run", 1, updates=4, batch_size=8, lr=1e-4)
    before, after = network.state_dict(), student.denoiser.network.state_dict()
    assert {value.dtype for value in after.values()} == {torch.float32}
    assert all((after[key] != before[key].float()).float().mean() > 0.9 for key in before if "mix" in key)
    folder = save_pretrained(student, tmp_path / "saved")
    assert same_model(student, from_pretrained(folder, Adapter(Theirs())), rng)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_our_networks_of_half_precision_teach_and_sample(dtype, teacher, tmp_path):
    teacher.denoiser.to(dtype)
    student = distil(teacher, tmp_path / "run", 1, updates=2, batch_size=8)
    assert {value.dtype for value in student.denoiser.state_dict().values()} == {torch.float32}
    student.denoiser.to(dtype)  # it reads noise
    assert all(model.sample(5, 2).tokens.shape == (5, 2) for model in (teacher, student))


@pytest.mark.parametrize("kind", ["a table", "ours", "a table under uniform noise", "with noise"])
def test_a_student_of_masked_noise_without_noise_input_is_warned_of(kind, world, teacher, tmp_path):
    if kind != "ours":
        network = Adapter(Theirs()) if kind == "with noise" else Table()
        teacher = adapt(network, world, "uniform" if "uniform" in kind else "masked")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        distil(teacher, tmp_path / "run", 1, updates=1, batch_size=8, noise=0 if kind == "ours" else None)
    found = [str(w.message) for w in caught if w.category is UserWarning]
    assert len(found) == (kind in ("a table", "ours"))
    assert {w.filename for w in caught if w.category is UserWarning} <= {__file__}
    assert all("no noise input" in words and "see the page coins" in words for words in found)


@pytest.mark.parametrize("process", ["masked", "uniform"])
def test_a_student_begins_as_its_teacher_with_noise_and_learns(world, tmp_path, rng, process):
    teacher = fit_teacher(world, tmp_path / "teacher", process, network=TINY, updates=4, batch_size=8)
    fixed = {k: v.clone() for k, v in teacher.denoiser.state_dict().items()}
    student = distil(teacher, tmp_path / "student", 1, updates=2, batch_size=8, lr=0.0)
    z, t = teacher.process.prior((5, 2), rng), torch.ones(5)
    noise = student.denoiser.draw_noise(5, rng)
    assert noise is not None
    assert torch.allclose(student.denoiser(z, t, noise), teacher.denoiser(z, t), atol=1e-6)
    learned = distil(teacher, tmp_path / "learned", 1, updates=4, batch_size=8, lr=0.1)
    assert not torch.allclose(learned.denoiser(z, t, noise), teacher.denoiser(z, t), atol=1e-3)
    assert all(torch.equal(fixed[k], v) for k, v in teacher.denoiser.state_dict().items())
    assert learned.provenance["teacher_sha256"] == teacher.provenance["sha256"]
    assert learned.sample(3, 1).tokens.shape == (3, 2)


class Theirs(nn.Module):
    """A network of another make: letters begin at 2, the mask is 1, tied weights, no time."""

    def __init__(self, width: int = 8):
        super().__init__()
        self.embedding = nn.Embedding(5, width)
        self.mix = nn.Linear(2 * width, 2 * width)
        self.head = nn.Linear(width, 5, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, input_ids):
        h = self.embedding(input_ids)
        return self.head(h + self.mix(h.flatten(1)).view_as(h))


class Adapter(nn.Module):
    """The package's side of it, with noise input for a student."""

    def __init__(self, theirs: Theirs):
        super().__init__()
        self.theirs, self.scale = theirs, nn.Parameter(torch.zeros(3))

    def draw_noise(self, batch, generator):
        return torch.randn(batch, 1, 3, generator=generator)

    def forward(self, z, t, noise=None):
        logits = self.theirs(torch.where(z == 3, 1, z + 2))[..., 2:]
        return logits if noise is None else logits + self.scale * noise


def test_a_foreign_network_is_adapted_distilled_saved_and_loaded(world, tmp_path, rng):
    torch.manual_seed(0)
    adapter = Adapter(Theirs())
    teacher = adapt(adapter, world, name="theirs")
    assert not any(p.requires_grad for p in adapter.parameters())
    z, t = torch.tensor([[3, 3], [0, 3]]), torch.rand(2, generator=rng)
    log_x = teacher.denoiser(z, t)
    expected = Theirs.forward(adapter.theirs, torch.tensor([[1, 1], [2, 1]]))[..., 2:].log_softmax(-1)
    assert torch.allclose(log_x[:, 1], expected[:, 1], atol=1e-6) and log_x[1, 0].exp()[0] == 1
    student = distil(teacher, tmp_path / "run", 1, updates=4, batch_size=8, lr=0.1)
    assert student.denoiser.network.scale.any() and not student.recipe.network
    folder = save_pretrained(student, tmp_path / "saved")
    assert same_model(student, from_pretrained(folder, Adapter(Theirs())), rng)
    with pytest.raises(ValueError, match="network: None is not allowed"):
        from_pretrained(folder)
    with pytest.raises(ValueError, match=r"fit its network \(theirs.\S+ has the shape .5, 8., not .5, 16."):
        from_pretrained(folder, Adapter(Theirs(16)))
    with pytest.raises(ValueError, match="fit its network .embedding.weight is missing, scale is left over"):
        from_pretrained(folder, Table())
    with pytest.raises(ValueError, match="noise: 4"):
        distil(teacher, tmp_path / "other", 1, noise=4)


class Table(nn.Module):
    """Logits of every token for itself, without noise input."""

    def __init__(self, classes: int = 3):
        super().__init__()
        self.embedding = nn.Embedding(4, classes)

    def forward(self, z, t):
        return self.embedding(z)


def test_networks_of_another_shape_are_refused(world):
    with pytest.raises(ValueError, match=r"network: logits of shape \(2, 2, 2\)"):
        adapt(Table(2), world)


def test_what_is_no_network_cannot_be_distilled(tmp_path):
    with pytest.raises(ValueError, match="'coins-masked-exact' is not allowed"):
        distil(load_model("coins-masked-exact"), tmp_path / "run")
    with pytest.raises(ValueError, match="'coins-masked-exact' is not allowed"):
        save_pretrained(load_model("coins-masked-exact"), tmp_path / "saved")
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("name", ["own", "coins-masked-dmmd-1"])
def test_a_model_comes_back_from_its_folder(name, teacher, tmp_path, rng):
    model = (
        distil(teacher, tmp_path / "run", 2, updates=2, batch_size=8) if name == "own" else load_model(name)
    )
    records = evaluate(model, ["sample_entropy"], num=10)
    folder = save_pretrained(model, tmp_path / "saved", records, license="apache-2.0")
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    back = from_pretrained(folder)
    assert same_model(model, back, rng)
    assert (back.name, back.recipe, back.weights) == (model.name, model.recipe, model.weights)
    assert back.provenance == json.loads(json.dumps(model.provenance))
    assert (back.world.vocab_size, back.world.length) == (model.world.vocab_size, model.world.length)
    assert torch.equal(back.sample(9, 2, seed=5).tokens, model.sample(9, 2, seed=5).tokens)
    assert back.world.show(torch.tensor([[0, 1]])) == model.world.show(torch.tensor([[0, 1]]))
    card = ModelCard.load(folder / "README.md")
    facts = card.data.to_dict()
    assert facts["library_name"] == "dmmd_lite" and facts["license"] == "apache-2.0"
    assert {"discrete-diffusion", "d-mmd"} <= set(facts["tags"])
    assert (
        f"{records[0].value:.4g}" in card.text
        and f"| {model.name} | sample_entropy | {records[0].steps} |" in card.text
    )
    assert f'from_pretrained("{folder.name}")' in card.text
    assert str(tmp_path) not in card.content + (folder / "config.json").read_text()


def test_a_loaded_model_has_no_data_and_says_so(teacher, tmp_path):
    world = from_pretrained(save_pretrained(teacher, tmp_path / "saved")).world
    with pytest.raises(ValueError, match="pairs; it has nothing, as the data did not come with the model"):
        world.sample(2, generator_for("cpu", 0))


def test_damaged_folders_are_refused_in_one_line(teacher, tmp_path):
    folder = save_pretrained(teacher, tmp_path / "saved")
    weights, config = folder / "model.safetensors", folder / "config.json"
    good, facts = weights.read_bytes(), json.loads(config.read_text())
    damages = [
        (weights, good[:-1], "truncated or altered"),
        (config, b"{", "is not a model description"),
        (config, json.dumps({**facts, "recipe": {**facts["recipe"], "quantum": 1}}).encode(), "quantum"),
        (config, json.dumps({k: v for k, v in facts.items() if k != "sha256"}).encode(), "sha256 is missing"),
        (config, json.dumps(facts).replace('"name"', '"nome"').encode(), "name is missing"),
        (config, json.dumps({**facts, "world": {}}).encode(), "world.name is missing"),
        (config, json.dumps(facts).replace('"length": 2', '"length": "2"').encode(), "world.length: '2'"),
        (config, b"[" * 10**5, "is not a model description .RecursionError"),
    ]
    for path, content, words in damages:
        before = path.read_bytes()
        path.write_bytes(content)
        with pytest.raises(ValueError, match=words) as error:
            from_pretrained(folder)
        assert "\n" not in str(error.value)
        path.write_bytes(before)
    with pytest.raises(ValueError, match="only local folders are read"):
        from_pretrained("owner/model")
    with pytest.raises(ValueError, match="network: 'Linear' is not allowed; it is made of"):
        from_pretrained(folder, nn.Linear(1, 1))
    for path in (weights, config):
        path.unlink()
        path.mkdir()
        with pytest.raises(ValueError, match=f"is missing|it holds no {path.name}"):
            from_pretrained(folder)


def test_folders_may_be_in_the_home_folder(world, tmp_path, monkeypatch, rng):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    teacher = fit_teacher(world, "~/teacher", network=TINY, updates=2, batch_size=8)
    student = distil(teacher, "~/student", 2, updates=2, batch_size=8)
    save_pretrained(student, "~/saved")
    assert same_model(student, from_pretrained("~/saved"), rng)
    recipe = get_recipe("coins-masked-teacher", "smoke", {"training.steps": 2})
    assert train_recipe(recipe, "~/run") == tmp_path / "run" / "model"
    assert load_model("~/run").name == recipe.name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "saved", "student", "teacher"]


def test_weights_of_compiled_networks_fit_and_are_fitted_by_others(world, tmp_path, rng):
    """`torch.compile` puts a prefix before the names of all weights; here nothing is compiled."""
    plain = Adapter(Theirs())
    compiled = torch.compile(plain, backend="eager")
    assert all(key.startswith("_orig_mod.") for key in compiled.state_dict())
    for network, other in ((plain, torch.compile(Adapter(Theirs()))), (compiled, Adapter(Theirs()))):
        folder = save_pretrained(adapt(network, world), tmp_path / type(network).__name__)
        back = from_pretrained(folder, other).denoiser.network.state_dict()
        assert all(map(torch.equal, network.state_dict().values(), back.values()))


def test_a_loaded_model_can_be_measured_on_its_world(tmp_path):
    world = tokens_world("mine", torch.randint(3, (200, 4), generator=torch.Generator().manual_seed(0)))
    teacher = fit_teacher(world, tmp_path / "run", updates=2, network=TINY)
    folder = save_pretrained(teacher, tmp_path / "model")
    again = from_pretrained(folder, world=world)
    assert evaluate(again, ["coverage"], num=20, steps=2)[0].n == 20
    with pytest.raises(ValueError, match="split: 'test' is not allowed for mine"):
        evaluate(from_pretrained(folder), ["coverage"], num=20, steps=2)
    other = tokens_world("other", torch.zeros(50, 5, dtype=torch.long), vocab_size=3)
    with pytest.raises(ValueError, match="world: 'other' is not allowed; its sequences have 5 tokens"):
        from_pretrained(folder, world=other)


def test_a_reader_writes_few_lines():
    """On "Distil your own model": 30 from data, 20 from a network, imports and blank lines counted."""
    cells = read_page(page_path("distil_your_own")).cells
    written = [
        after.source for cell, after in zip(cells, cells[1:], strict=False) if "you write" in cell.source
    ]
    assert [cell.count("save_pretrained(") for cell in written] == [1, 1]
    assert all(f"{call}(" in written[0] for call in ("tokens_world", "fit_teacher", "distil", "evaluate"))
    assert all(f"{call}(" in written[1] for call in ("adapt", "distil", "from_pretrained"))
    data, network = (len(cell.splitlines()) for cell in written)
    assert data <= 30 and network <= 20
