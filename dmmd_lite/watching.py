"""Watching a student of an enumerable world learn: its exact law after every few updates."""

import tempfile

from torch import Tensor, nn

from dmmd_lite.methods import METHODS
from dmmd_lite.metrics.exact import exact_law, total_variation
from dmmd_lite.recipe import Recipe
from dmmd_lite.records import Record
from dmmd_lite.rng import generator_for
from dmmd_lite.store import process_of, read_model, train_recipe
from dmmd_lite.worlds import get_world


def watch(recipe: Recipe, every: int, *, seed: int = 0, draws: int = 4096) -> dict[int, Tensor]:
    """Train a student from the start and return its law after every `every` updates, and after the last.

    The law is that of the averaged weights in the sampling steps the student is for, over all sequences of
    the world in their order, [V^L], the mean over `draws` noise draws. Nothing is kept of the training.
    """
    return _trained(recipe, every, seed, draws)[0]


def film(recipe: Recipe, frames: int, *, seed: int = 0, draws: int = 4096) -> Record:
    """A student watched `frames` times at equal distances, as a record: the total variation it ends at, with
    the laws on the way in details["film"] = {"updates": [...], "laws": [...]}."""
    every = max(1, recipe.training.steps // frames)
    laws, provenance = _trained(recipe, every, seed, draws)
    last = float(total_variation(laws[max(laws)], get_world(recipe.world)))
    strip = {"updates": list(laws), "laws": [[round(p, 5) for p in law.tolist()] for law in laws.values()]}
    return Record(
        "total_variation",
        last,
        None,
        None,
        draws,
        "the world's law",
        {"film": strip},
        recipe.name,
        recipe.world,
        "ema",
        recipe.method.steps,
        seed=0,
        provenance=provenance,
    )


def _trained(recipe: Recipe, every: int, seed: int, draws: int) -> tuple[dict[int, Tensor], dict]:
    world, process = get_world(recipe.world), process_of(recipe)
    student, laws = METHODS[recipe.role].student, {}
    steps = recipe.training.steps

    def look(players: dict[str, nn.Module]) -> float:
        law = exact_law(players[student], process, world, recipe.method.steps, draws, generator_for("cpu", 0))
        laws[min(every * (len(laws) + 1), steps)] = law.mean(0)
        return float(total_variation(law.mean(0), world))

    watched = recipe.with_changes({"training.validate_every": every})
    with tempfile.TemporaryDirectory() as folder:
        model = read_model(train_recipe(watched, folder, seed=seed, validate=look))
    return laws, model.provenance
