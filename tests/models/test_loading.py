"""The store: what is saved comes back, what is damaged is refused, what is missing is trained once."""

import hashlib
import json
from dataclasses import replace

import pytest
import torch
from helpers import contents, exit_codes, save_random_model, start_process

from dmmd_lite.models import loading
from dmmd_lite.models.loading import (
    cached_folder,
    fingerprint,
    load_model,
    method_of,
    released_path,
    train_recipe,
)
from dmmd_lite.models.store import read_model
from dmmd_lite.models.task import task_of
from dmmd_lite.recipes.catalogue import RECIPES, get_recipe
from dmmd_lite.utils.files import read_tensors, write_tensors
from dmmd_lite.utils.paths import data_dir

TEACHER, STUDENT = "coins-masked-teacher", "coins-masked-dmmd-1"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of its own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("DMMD_CACHE_DIR", str(folder))
    return folder


@pytest.fixture
def saved(tmp_path, rng):
    """Path of a saved student, without ending."""
    save_random_model(STUDENT, tmp_path / "model", rng)
    return tmp_path / "model"


@pytest.mark.parametrize("name", [STUDENT, "digits-uniform-teacher"])
def test_a_model_comes_back_in_half_precision(name, tmp_path, rng):
    denoiser = save_random_model(name, tmp_path / "model", rng)
    model = load_model(str(tmp_path))
    assert (model.name, model.world.name) == (name, name.split("-")[0])
    assert model.recipe == get_recipe(name, "smoke") and model.weights == "ema"
    back = model.denoiser.state_dict()
    for key, value in denoiser.state_dict().items():
        assert torch.equal(back[key], value.half().float())
    assert model.provenance["training"]["best_step"] == 7 and model.provenance["training_seed"] == 3
    assert model.provenance["parameters"] == sum(p.numel() for p in denoiser.parameters())
    assert not any(p.requires_grad for p in model.denoiser.parameters())
    z, t = model.process.prior((2, model.world.length), rng), torch.ones(2)
    noise = model.denoiser.draw_noise(2, rng)
    assert torch.equal(model.denoiser(z, t, noise), denoiser.half().float()(z, t, noise))


def rewrite(path, **changes):
    """Change entries of a model's description."""
    file = path.with_suffix(".json")
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def replace_weights(path, content):
    """Other bytes under the recorded name, and their own sha256 in the description."""
    path.with_suffix(".safetensors").write_bytes(content)
    rewrite(path, sha256=hashlib.sha256(content).hexdigest())


def altered(path, rng):
    weights = bytearray(path.with_suffix(".safetensors").read_bytes())
    weights[-1] ^= 1
    path.with_suffix(".safetensors").write_bytes(weights)
    return "truncated or altered"


def truncated(path, rng):
    weights = path.with_suffix(".safetensors")
    weights.write_bytes(weights.read_bytes()[:-1])
    return "truncated or altered"


def pickled(path, rng):
    torch.save({"weight": 1.0}, path.with_suffix(".pt"))
    replace_weights(path, path.with_suffix(".pt").read_bytes())
    return "does not fit its network"


def of_another_recipe(path, rng):
    save_random_model("digits-masked-teacher", path.with_name("other"), rng)
    replace_weights(path, path.with_name("other.safetensors").read_bytes())
    return "network .noise_projection.weight is missing, stem.merge.bias is left over, .* and 4 more"


def without_weights(path, rng):
    path.with_suffix(".safetensors").unlink()
    return "is missing"


def garbage(path, rng):
    path.with_suffix(".json").write_bytes(b"\xff{not json")
    return "is not a model description"


def something_else(path, rng):
    path.with_suffix(".json").write_text('["a", "list"]')
    return "is not a model description"


def without_seed(path, rng):
    facts = json.loads(path.with_suffix(".json").read_text())
    del facts["seed"]
    path.with_suffix(".json").write_text(json.dumps(facts))
    return "is not a model description"


def no_recipe(path, rng):
    rewrite(path, recipe=5)
    return "is not a model description"


def recipe_of_the_future(path, rng):
    rewrite(path, recipe={**get_recipe(STUDENT, "smoke").to_dict(), "quantum": True})
    return "recipe: key 'quantum' is not allowed"


def of_another_width(path, rng):
    file = path.with_suffix(".safetensors")
    write_tensors(file, {key: v[..., :1].contiguous() for key, v in read_tensors(file)[0].items()})
    replace_weights(path, file.read_bytes())
    return r"blocks.0.\S+ has the shape \(\d+, 1\), not \(\d+, \d+\)"


def a_folder(path, rng):
    path.with_suffix(".safetensors").unlink()
    path.with_suffix(".safetensors").mkdir()
    return "is missing"


def description_is_a_folder(path, rng):
    path.with_suffix(".json").unlink()
    path.with_suffix(".json").mkdir()
    return "model.json"


def seed_of_another_type(path, rng):
    rewrite(path, seed="3")
    return "is not a model description .seed: '3' is not allowed"


def nested(path, rng):
    rewrite(path, recipe={"network": json.loads("[" * 200 + "]" * 200)})
    return "is not a model description .more than 50 levels"


def nested_too_deeply_to_read(path, rng):
    path.with_suffix(".json").write_text("[" * 10**5)
    return "is not a model description .RecursionError"


DAMAGES = [of_another_width, a_folder, description_is_a_folder, seed_of_another_type, nested]
DAMAGES += [nested_too_deeply_to_read, altered, truncated, pickled, of_another_recipe, without_weights]
DAMAGES += [garbage, something_else]


@pytest.mark.parametrize("spoil", [*DAMAGES, without_seed, no_recipe, recipe_of_the_future])
def test_damaged_models_are_refused_in_one_line(spoil, saved, rng):
    words = spoil(saved, rng)
    with pytest.raises(ValueError, match=words) as error:
        load_model(str(saved.parent))
    assert "\n" not in str(error.value)


def outcome(folder, whole, expected) -> str:
    """What loading a model comes to, beside the undamaged one and its samples."""
    try:
        model = load_model(folder)
    except ValueError as error:
        return "refused" if "\n" not in str(error) else "refused in several lines"
    state = model.denoiser.state_dict()
    if not all(torch.equal(state[key], v) for key, v in whole.denoiser.state_dict().items()):
        return "other weights"
    if model.recipe == whole.recipe and not torch.equal(model.sample(4, 2).tokens, expected):
        return "other samples"
    return "harmless"


def test_a_flipped_bit_in_a_description_is_refused_in_one_line_or_does_no_harm(saved, rng):
    file, folder = saved.with_suffix(".json"), str(saved.parent)
    good, whole = file.read_bytes(), load_model(folder)
    expected, found = whole.sample(4, 2).tokens, []
    for bit in torch.randint(8 * len(good), (300,), generator=rng).tolist():
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        file.write_bytes(bad)
        found.append(outcome(folder, whole, expected))
    assert set(found) == {"refused", "harmless"}
    assert 100 < found.count("refused") < 300


def test_unknown_models_are_refused(tmp_path):
    with pytest.raises(ValueError, match="recipe: 'coins-masked' is not allowed"):
        load_model("coins-masked")
    with pytest.raises(ValueError, match="the folder holds neither model.json nor config.json"):
        load_model(str(tmp_path))
    with pytest.raises(ValueError, match="it has nothing to train"):
        train_recipe(get_recipe("coins-masked-exact"), tmp_path / "run")
    assert contents(tmp_path) == {}


def test_exact_models_need_no_files(cache):
    model = load_model("parity-uniform-exact")
    assert model.weights == "exact" and not cache.exists()


def load_and_count(folder):
    """Load the missing student; leave a file for every run that trains."""
    train = loading.train

    def counted(*arguments, **options):
        result = train(*arguments, **options)
        name = options["identity"]["recipe"]["name"]
        (folder / f"{name}-{id(result)}-{loading.os.getpid()}").touch()
        return result

    loading.train = counted
    model = load_model(STUDENT, "smoke")
    (folder / f"sha256-{model.provenance['sha256']}-{loading.os.getpid()}").touch()


def test_eight_processes_train_a_missing_model_once(tmp_path, cache):
    """The student and, before it, its start, as when eight pages at once need them."""
    marks = tmp_path / "marks"
    marks.mkdir()
    environment = {"DMMD_CACHE_DIR": str(cache)}
    processes = [
        start_process(load_and_count, marks, output=tmp_path / f"output{i}", **environment) for i in range(8)
    ]
    assert exit_codes(*processes) == [0] * 8
    names = [path.name.rsplit("-", 1)[0] for path in marks.iterdir()]
    used = [name for name in names if name.startswith("sha256-")]
    assert len(used) == 8 and len(set(used)) == 1
    assert len(names) - len(used) == 2, "a model was trained more than once"
    assert len([path for path in (cache / "models").iterdir() if path.is_dir()]) == 2


def test_the_cache_keeps_apart_what_differs(cache, monkeypatch):
    recipe = get_recipe(STUDENT, "smoke")
    longer = recipe.with_changes({"training.steps": 21})
    folders = [cached_folder(recipe, 0), cached_folder(recipe, 1), cached_folder(longer, 0)]
    assert len(set(folders)) == 3 and all(folder.parent == cache / "models" for folder in folders)
    before = fingerprint(recipe)
    assert before == fingerprint(get_recipe(STUDENT, "smoke"))
    monkeypatch.setitem(
        RECIPES, TEACHER, lambda scale: replace(get_recipe("parity-masked-teacher"), scale=scale)
    )
    assert fingerprint(recipe) != before  # another start


def method(recipe, rng=None):
    return method_of(task_of(recipe))[0]


def test_student_and_auxiliary_begin_as_their_start(cache, rng):
    recipe = get_recipe(STUDENT, "smoke")
    start = load_model(recipe.start, "smoke").denoiser
    players = method(recipe).players
    z, t = torch.randint(3, (20, 2), generator=rng), torch.rand(20, generator=rng)
    noise = players["generator"].draw_noise(20, rng)
    assert noise is not None and players["auxiliary"].draw_noise(20, rng) is None
    assert torch.equal(players["generator"](z, t, noise), start(z, t))
    assert torch.equal(players["auxiliary"](z, t), start(z, t))
    with pytest.raises(ValueError, match="network: .* is not allowed; it must match that of"):
        method(recipe.with_changes({"network.width": 16}))
    with pytest.raises(ValueError, match="network: .* is not allowed; it must match that of"):
        method(recipe.with_changes({"network.depth": 3}))


def test_first_weights_do_not_depend_on_what_the_cache_holds(cache):
    recipe = get_recipe(STUDENT, "smoke").with_changes({"start": "", "teacher": TEACHER})
    trained, found = (method(recipe).players["generator"].state_dict() for _ in range(2))
    assert all(torch.equal(trained[key], found[key]) for key in trained)


RELEASED = sorted(path.stem for path in (data_dir() / "models").glob("*.json") if path.stem in RECIPES)


@pytest.mark.parametrize("name", RELEASED)
def test_what_ships_is_what_the_recipe_says_now(name):
    assert released_path(get_recipe(name), 0) is not None


def test_released_models_are_found_for_exactly_their_recipe(tmp_path, cache, rng, monkeypatch):
    monkeypatch.setattr(loading, "data_dir", lambda: tmp_path)
    (tmp_path / "models").mkdir()
    path = tmp_path / "models" / TEACHER
    save_random_model(TEACHER, path, rng)
    recipe = get_recipe(TEACHER, "smoke")
    assert released_path(recipe, 0) == path
    assert released_path(recipe, 1) is None
    assert released_path(recipe.with_changes({"training.steps": 21}), 0) is None
    assert released_path(get_recipe(STUDENT, "smoke"), 0) is None
    assert load_model(TEACHER, "smoke").provenance == read_model(path).provenance
    assert not cache.exists()


@pytest.mark.parametrize("path", sorted((data_dir() / "models").glob("*.json")), ids=lambda path: path.stem)
def test_released_files_are_what_their_descriptions_say(path):
    weights = path.with_suffix(".safetensors").read_bytes()
    assert hashlib.sha256(weights).hexdigest() == json.loads(path.read_text())["sha256"]
    if path.stem in RECIPES:
        assert load_model(path.stem).provenance["sha256"] == hashlib.sha256(weights).hexdigest()
