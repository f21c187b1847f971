"""Held positions in recipes, in models of one's own, and in what is read back."""

import pytest
import torch

from dmmd_lite.models.custom import distil, fit_teacher
from dmmd_lite.models.loading import load_model, train_recipe
from dmmd_lite.models.pretrained import from_pretrained, save_pretrained
from dmmd_lite.recipes.catalogue import get_recipe
from dmmd_lite.worlds import get_world
from dmmd_lite.worlds.holds import HOLDS, sample_held
from dmmd_lite.worlds.sudoku import Sudoku
from dmmd_lite.worlds.tokens import tokens_world

TINY = {"width": 16, "depth": 1, "heads": 2, "time_width": 8}


@pytest.fixture(scope="module")
def world():
    """Pairs of equal tokens, each twice: abab."""
    pairs = torch.cartesian_prod(torch.arange(4), torch.arange(4))
    return tokens_world("pairs", torch.cat([pairs, pairs], 1).repeat(40, 1))


def first_two(x, generator):
    """A function of the user's: the first two of four positions."""
    return (torch.arange(x.shape[1]) < 2).expand(x.shape)


@pytest.mark.parametrize("process", ("masked", "uniform"))
def test_models_of_ones_own_learn_to_complete(world, process, tmp_path):
    """A conditional teacher and its student copy what is held; folders and files know that they can."""
    options = {"network": TINY, "updates": 400, "batch_size": 64, "lr": 1e-2, "holds": first_two}
    teacher = fit_teacher(world, tmp_path / "teacher", process, **options)
    student = distil(teacher, tmp_path / "student", 1, updates=20, batch_size=16, holds="prefix")
    held, tokens = torch.tensor([True, True, False, False]), torch.tensor([3, 1, 0, 0])
    drawn = teacher.sample(400, 8, held=held, tokens=tokens).tokens
    assert torch.equal(drawn[:, :2], tokens[:2].expand(400, 2))
    assert (drawn[:, 2:] == tokens[:2]).all(1).float().mean() > 0.8
    save_pretrained(student, tmp_path / "saved")
    again = from_pretrained(tmp_path / "saved", world=world) if process == "masked" else student
    assert again.process.holding and student.recipe.holds == "prefix" and teacher.recipe.holds == "own"
    options = {"seed": 4, "held": held, "tokens": tokens}
    assert torch.equal(again.sample(20, **options).tokens, student.sample(20, **options).tokens)


def test_an_unconditional_masked_teacher_teaches_a_conditional_student(world, tmp_path):
    teacher = fit_teacher(world, tmp_path / "masked", network=TINY, updates=400, batch_size=64, lr=1e-2)
    student = distil(teacher, tmp_path / "student", 1, updates=150, batch_size=64, lr=3e-3, holds=first_two)
    held, tokens = torch.tensor([True, True, False, False]), torch.tensor([[2, 0, 0, 0], [1, 3, 0, 0]])
    drawn = student.sample(200, held=held.expand(200, 4), tokens=tokens.repeat(100, 1)).tokens
    assert (drawn[:, 2:] == drawn[:, :2]).all(1).float().mean() > 0.4  # by chance: a sixteenth
    unknowing = fit_teacher(world, tmp_path / "uniform", "uniform", network=TINY, updates=2, batch_size=4)
    with pytest.raises(ValueError, match="holds: 'own' is not allowed; .* was made without held positions"):
        distil(unknowing, tmp_path / "none", 1, holds=first_two)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    "holds, words",
    [
        ("everything", "holds: 'everything' is not allowed; choose one of"),
        ("clues", "holds: 'clues' is not allowed for pairs, whose data have none"),
        (lambda x, generator: x, r"holds: torch.int64 \[4, 4\] is not allowed; the function must give bool"),
        (lambda x, generator: None, "holds: NoneType is not allowed"),
    ],
)
def test_what_holds_nothing_known_is_refused(world, holds, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        fit_teacher(world, tmp_path / "run", network=TINY, updates=2, batch_size=4, holds=holds)


@pytest.mark.parametrize("holds", [name for name in HOLDS if name != "own"])
def test_conditions_are_drawn_as_their_names_say(holds, rng):
    x, held = sample_held(get_world("sudoku"), holds, 300, rng, "test")
    share = held.double().mean(1)
    if holds == "clues":
        assert (held.sum(1) == 40).all()
    else:
        assert share.min() < 0.1 and share.max() > 0.9
    if holds == "prefix":
        assert not (held[:, 1:] & ~held[:, :-1]).any() and not held.all(1).any()
    assert x.shape == held.shape == (300, 81)


@pytest.mark.parametrize("name", ("sudoku4-masked-dmmd-1", "sudoku_hard-uniform-dmmd-4"))
def test_recipes_train_with_what_they_hold(name, tmp_path, monkeypatch):
    """At smoke scale, with the test puzzles in the place of those to train on."""
    monkeypatch.setenv("DMMD_CACHE_DIR", str(tmp_path / "cache"))
    puzzles = Sudoku.puzzles
    monkeypatch.setattr(Sudoku, "puzzles", lambda self, split: puzzles(self, "test"))
    train_recipe(get_recipe(name, "smoke"), tmp_path / "run")
    model = load_model(str(tmp_path / "run"))
    assert model.process.holding == (model.recipe.holds != "")
    if model.recipe.holds:
        assert "hold" in dict(model.denoiser.network.stem.named_parameters())
        x, held = model.world.puzzles("test")
        drawn = model.sample(20, held=held[:20], tokens=x[:20]).tokens
        assert torch.equal(drawn[held[:20]], x[:20][held[:20]])


def test_blocks_hold_nothing():
    with pytest.raises(ValueError, match="holds: 'random' is not allowed for blocks"):
        get_recipe("docstrings-masked-teacher-block32", "smoke", {"holds": "random"})
