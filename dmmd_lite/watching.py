"""Watching a student learn: anything about its players after every few updates, such as its exact law."""

import tempfile
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from dmmd_lite.methods import METHODS
from dmmd_lite.metrics.exact import mean_law, total_variation
from dmmd_lite.recipe import Recipe
from dmmd_lite.records import Record
from dmmd_lite.store import process_of, read_model, train_recipe, validation_num, validator
from dmmd_lite.worlds import get_world

Look = Callable[[dict[str, nn.Module]], Any]  # from the averaged players by name
DRAWS = 4096  # of the noise, for a law


def watch(recipe: Recipe, every: int, look: Look, *, seed: int = 0) -> tuple[dict[int, Any], dict]:
    """Train a recipe from the start and keep what look(players) says every `every` updates and at the end.

    Returns {update: what was said} and the provenance of the model; nothing else is kept of the training.
    """
    seen: dict[int, Any] = {}

    def validate(players: dict[str, nn.Module]) -> float:
        seen[min(every * (len(seen) + 1), recipe.training.steps)] = look(players)
        return 0.0

    watched = recipe.with_changes({"training.validate_every": every})
    with tempfile.TemporaryDirectory() as folder:
        model = read_model(train_recipe(watched, folder, seed=seed, validate=validate))
    return seen, model.provenance


def law_of(recipe: Recipe, draws: int = DRAWS) -> Callable[[dict[str, nn.Module]], Tensor]:
    """A look at the law of a student of an enumerable world in the sampling steps it is for.

    The law is [V^L], in the order of the world's sequences, the mean over `draws` noise draws.
    """
    world, process, student = get_world(recipe.world), process_of(recipe), METHODS[recipe.role].student

    def look(players: dict[str, nn.Module]) -> Tensor:
        return mean_law(players[student], process, world, recipe.method.steps, draws)

    return look


def film(recipe: Recipe, frames: int, *, seed: int = 0, draws: int = DRAWS) -> Record:
    """A student watched `frames` times at equal distances, as a record: the total variation it ends at, with
    the laws on the way in details["film"] = {"updates": [...], "laws": [...]}."""
    every = max(1, recipe.training.steps // frames)
    laws, provenance = watch(recipe, every, law_of(recipe, draws), seed=seed)
    last = float(total_variation(laws[max(laws)], get_world(recipe.world)))
    strip = {"updates": list(laws), "laws": [[round(p, 5) for p in law.tolist()] for law in laws.values()]}
    return _record(recipe, "total_variation", last, draws, {"film": strip}, provenance)


def swings(recipe: Recipe, looks: int, *, seed: int = 0) -> Record:
    """How much a student's raw weights swing and its averaged ones do not, looked at `looks` times.

    The recipe is trained twice from the same seed, the second time without averaging, which changes nothing
    in the training itself. What is looked at is what its checkpoints are chosen by, on validation data, or
    the total variation on an enumerable world. The record has the last averaged value; details["swings"] =
    {"updates": [...], "averaged": [...], "raw": [...]}.
    """
    world, chosen, every = get_world(recipe.world), recipe.validation, max(1, recipe.training.steps // looks)
    look = validator(recipe) if chosen else _distance(recipe)
    averaged, provenance = watch(recipe, every, look, seed=seed)
    raw, _ = watch(recipe.with_changes({"training.ema.generator": 0.0}), every, look, seed=seed)
    seen = {"updates": list(averaged), "averaged": list(averaged.values()), "raw": list(raw.values())}
    metric, num = (chosen, validation_num(recipe.scale, world)) if chosen else ("total_variation", DRAWS)
    return _record(recipe, metric, averaged[max(averaged)], num, {"swings": seen}, provenance)


def _record(recipe: Recipe, metric: str, value: float, num: int, details: dict, provenance: dict) -> Record:
    """What a watched training ended at: an exact distance to the world's law, or a validation."""
    reference = "the world's law"
    if metric == recipe.validation:
        reference, details = f"{recipe.world}, validation data", details | {"split": "valid"}
    steps = recipe.method.steps
    context = {"weights": "ema", "steps": steps, "seed": 0, "provenance": provenance}
    return Record(metric, value, None, None, num, reference, details, recipe.name, recipe.world, **context)


def _distance(recipe: Recipe) -> Look:
    law = law_of(recipe)
    return lambda players: float(total_variation(law(players), get_world(recipe.world)))
