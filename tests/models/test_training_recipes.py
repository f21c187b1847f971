"""Every method: its recipes train at smoke scale, cost as much as D-MMD's and resume after a kill."""

import copy

import pytest
import torch
from helpers import LEAST_P, Killed, kill_after, tiny_network
from safetensors.torch import load_file
from scipy.stats import binomtest
from torch import nn

from dmmd_lite.denoisers.base import NetworkDenoiser
from dmmd_lite.models import loading
from dmmd_lite.models.loading import load_model, method_of, train_recipe
from dmmd_lite.models.task import task_of
from dmmd_lite.objectives import METHODS
from dmmd_lite.processes import get_process
from dmmd_lite.recipes.catalogue import RECIPES, get_recipe, scales_of
from dmmd_lite.recipes.cost import cost
from dmmd_lite.recipes.recipe import Recipe
from dmmd_lite.sampling import sample
from dmmd_lite.training.loop import train
from dmmd_lite.training.options import TrainingOptions
from dmmd_lite.training.state import CHECKPOINT
from dmmd_lite.worlds import get_world

BY_ROLE = {role: [name for name in RECIPES if get_recipe(name, "smoke").role == role] for role in METHODS}


def first(role, world):
    """Return a method's first recipe of a world for every process it has one for."""
    names = {
        get_recipe(name).process: name for name in reversed(BY_ROLE[role]) if name.startswith(f"{world}-")
    }
    return list(names.values())


COINS = [name for role in METHODS for name in first(role, "coins")]
DIGITS = [name for role in METHODS for name in first(role, "digits")]
OTHER_WORLDS = [name for role in METHODS for name in first(role, "permutations")] + first(
    "redi", "docstrings"
)


def test_every_method_has_recipes():
    assert {get_recipe(name).role for name in COINS} == set(METHODS)


@pytest.mark.parametrize("name", COINS + DIGITS + OTHER_WORLDS)
def test_a_smoke_recipe_trains_and_samples(name, tmp_path):
    """Students learn from exact posteriors on tiny worlds, else from networks; text has a ReDi variant."""
    recipe = get_recipe(name, "smoke")
    train_recipe(recipe, tmp_path / "run", validate=lambda players: 0.0)
    model = load_model(str(tmp_path / "run"))
    assert model.recipe == recipe
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    tokens = sample(
        model.denoiser,
        model.process,
        8,
        model.world.length,
        recipe.method.steps,
        generator=torch.Generator().manual_seed(0),
    ).tokens
    assert tokens.shape == (8, model.world.length)
    assert tokens.min() >= 0 and tokens.max() < model.world.vocab_size
    start = load_model(recipe.start, "smoke").denoiser.state_dict()
    trained = model.denoiser.state_dict()
    assert any(not torch.equal(trained[key], start[key]) for key in start)


@pytest.mark.parametrize("name", COINS)
@pytest.mark.parametrize("killed", [6, 11])
def test_a_killed_run_resumes_to_the_same_bits(name, killed, tmp_path):
    """For methods with rounds, one kill is in the middle of a round and one at its beginning."""
    changes = {"training.steps": 17, "training.batch_size": 8, "training.checkpoint_every": 1}
    if hasattr(get_recipe(name).method, "round_updates"):
        changes["method.round_updates"] = 5
    recipe = get_recipe(name, "smoke", changes)
    world = get_world(recipe.world)

    def run(folder, data):
        method, _ = method_of(task_of(recipe))
        return train(method, data, recipe.training, folder)

    run(tmp_path / "whole", world.sample)
    with pytest.raises(Killed):
        run(tmp_path / "killed", kill_after(killed, world.sample))
    run(tmp_path / "killed", world.sample)
    whole, resumed = (load_file(tmp_path / name / CHECKPOINT) for name in ("whole", "killed"))
    assert whole.keys() == resumed.keys()
    assert [key for key in whole if not torch.equal(whole[key], resumed[key])] == []


@pytest.mark.parametrize("name", [*COINS, "coins-masked-teacher", "docstrings-ar-judge"])
@pytest.mark.parametrize(
    "change, words",
    [
        (lambda x, vocab_size: x.float(), "tensor.* is not allowed; it must be int64 tokens"),
        (lambda x, vocab_size: x - 1, "tokens -1 to .* are not allowed; they must be 0 to"),
        (lambda x, vocab_size: x.clamp(max=0) + vocab_size, "tokens .* are not allowed"),
    ],
    ids=["floats", "negative", "V"],
)
def test_data_that_are_no_tokens_are_refused_before_the_first_step(name, change, words, tmp_path):
    recipe = get_recipe(name, "smoke")
    (method, _), world = method_of(task_of(recipe)), get_world(recipe.world)

    def data(batch, generator):
        return change(torch.zeros(batch, world.length, dtype=torch.long), world.vocab_size)

    with pytest.raises(ValueError, match=f"^data: {words}"):
        train(method, data, recipe.training, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


@pytest.mark.parametrize("role", [role for role in METHODS if role != "dmmd"])
def test_every_method_has_the_budget_of_dmmd(role):
    """Students evaluate as many sequences as D-MMD's, within a tenth; their networks differ in inputs."""
    for name in BY_ROLE[role]:
        for scale in ("laptop", "gpu", "paper"):
            recipe = get_recipe(name, scale)
            other = get_recipe(f"{recipe.world}-{recipe.process}-dmmd-{recipe.method.steps}", scale)
            passes = [
                METHODS[r.role].forwards(r.method) * r.training.steps * r.training.batch_size
                for r in (recipe, other)
            ]
            assert passes[0] == pytest.approx(passes[1], rel=0.1), (name, scale)
            differ = {key for key, _ in other.network.items() ^ recipe.network.items()}
            assert differ <= {"noise", "noise_std", "mixture"}
            assert (recipe.start, recipe.teacher) == (other.start, other.teacher)


@pytest.mark.parametrize("name", DIGITS + COINS + ["docstrings-masked-redi-4"])
def test_a_step_costs_the_forward_passes_of_its_method_spec(name, monkeypatch):
    """The sequences that networks evaluate in 24 steps are counted: once each, twice more where parameters
    have gradients, once more where only inputs have. Samplers may leave out sequences that do not change.
    Updates alternate on tiny worlds; their teacher is a network here, so that it counts."""
    recipe = get_recipe(name, "smoke", {"training.batch_size": 8})
    recipe = recipe.with_changes({"teacher": recipe.start})
    if recipe.role == "redi":  # all pairs of a round are drawn at its beginning
        recipe = recipe.with_changes({"method.round_updates": 24 // (2 + (recipe.process == "masked"))})
    method, _ = method_of(task_of(recipe))
    plain, counted = NetworkDenoiser.hidden, []
    players = {id(player): name for name, player in method.players.items()}

    def count(self, z, t, noise=None):
        h = plain(self, z, t, noise)
        counted.append((len(z), players.get(id(self)), h.requires_grad))
        return h

    monkeypatch.setattr(NetworkDenoiser, "hidden", count)
    generator = torch.Generator().manual_seed(0)
    data, passes, steps = get_world(recipe.world), 0, 24
    for step in range(steps):
        counted.clear()
        losses = method.losses(step, data.sample(8, generator), generator)
        for n, player, grad in counted:
            passes += n * (1 + (2 if player in losses else 1) * grad)
    expected = METHODS[recipe.role].forwards(recipe.method)
    assert passes / (8 * steps) == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("role", METHODS)
def test_recipes_are_whole_at_every_scale(role):
    spec = METHODS[role]
    for name in BY_ROLE[role]:
        for scale in scales_of(name):
            recipe = get_recipe(name, scale)
            assert recipe.name == name and isinstance(recipe.method, spec.settings)
            assert set(recipe.training.ema) <= set(recipe.training.lr) and spec.student in recipe.training.lr
    assert cost(get_recipe(BY_ROLE[role][0], "smoke"))["memory_gb"] > 0


def test_numbers_that_may_be_none_are_read_strictly():
    recipe = get_recipe("coins-masked-dimo-1", "smoke")
    assert recipe.with_changes({"method.beta": -1}).method.beta == -1.0
    assert recipe.with_changes({"method.smoothing": None}).method.smoothing is None
    with pytest.raises(ValueError, match="method.beta: 'much' is not allowed; it must be a finite number"):
        recipe.with_changes({"method.beta": "much"})


@pytest.mark.parametrize("name, random", [("coins-masked-dimo-1", 0.4), ("coins-masked-redi-1", 0.7)])
def test_students_of_random_starts_are_sampled_from_them(name, random, tmp_path, rng):
    """A saved model keeps the distribution of its start, in which 0.6 or 0.3 of the symbols are MASK."""
    train_recipe(get_recipe(name, "smoke", {"training.steps": 1}), tmp_path / "run")
    model = load_model(str(tmp_path / "run"))
    start = sample(model.denoiser, model.process, 5000, 2, 1, generator=rng, trajectory=True).trajectory[0]
    assert binomtest(int((start < 2).sum()), start.numel(), random).pvalue > LEAST_P


def test_new_switches_leave_the_identity_of_old_students_alone():
    """Settings that are None do not enter the hash by which the cache finds trained models."""
    recipe = get_recipe("coins-masked-dmmd-1", "smoke")
    assert None in recipe.to_dict()["method"].values()
    changed = recipe.with_changes({"method.smoothing": 0.1})
    assert loading.fingerprint(changed) != loading.fingerprint(recipe)
    known = {key: value for key, value in recipe.to_dict()["method"].items() if value is not None}

    class Old:
        """The recipe as it was before there were such settings."""

        start, teacher, validation, scale = recipe.start, recipe.teacher, recipe.validation, recipe.scale

        def to_dict(self):
            return {**recipe.to_dict(), "method": known}

    assert loading.fingerprint(Old()) == loading.fingerprint(recipe)


class NeverLast(nn.Module):
    """Another network, whose last class is impossible: its logit is -inf."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network, self.draw_noise = network, network.draw_noise

    def forward(self, z, t, noise=None):
        logits = self.network(z, t, noise)
        return logits.index_fill(-1, torch.tensor([logits.shape[-1] - 1]), -torch.inf)


@pytest.mark.parametrize(
    "role, process_name", [(role, process) for role, spec in METHODS.items() for process in spec.processes]
)
def test_every_method_learns_where_a_class_is_impossible(role, process_name, tmp_path, rng):
    """Losses stay finite, weights move, and students do not draw the class."""
    spec, process = METHODS[role], get_process(process_name, 4)
    settings = spec.settings(steps=2)
    network = NeverLast(tiny_network(process, 3, rng, noise=2))

    def fresh(noise=True):
        return NetworkDenoiser(copy.deepcopy(network), spec.process(settings, process))

    teacher = NetworkDenoiser(copy.deepcopy(network), process).requires_grad_(False)
    method = spec.make(settings, fresh, teacher, process)
    options = TrainingOptions(20, 16, dict.fromkeys(method.players, 1e-3), warmup=0)
    result = train(method, lambda batch, g: torch.randint(3, (batch, 3), generator=g), options, tmp_path)
    student = result.raw[spec.student]
    assert any((a != b).any() for a, b in zip(student.parameters(), network.parameters(), strict=True))
    drawn = sample(student, spec.process(settings, process), 200, 3, 2, generator=rng).tokens
    assert (drawn < 3).all()
