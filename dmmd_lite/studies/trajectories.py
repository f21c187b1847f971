"""Watching a student learn: anything about its players after every few updates, such as its exact law."""

import tempfile
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from dmmd_lite.metrics.exact_laws import mean_law, total_variation
from dmmd_lite.models.model import read_model
from dmmd_lite.models.store import train_recipe, validator_of
from dmmd_lite.models.task import task_of
from dmmd_lite.models.validation import validation_num
from dmmd_lite.objectives import METHODS
from dmmd_lite.recipes.recipe import Recipe
from dmmd_lite.utils.records import Record
from dmmd_lite.worlds import get_world

Probe = Callable[[dict[str, nn.Module]], Any]  # from the averaged players by name
DRAWS = 4096  # of the noise, for a law


def monitor(recipe: Recipe, every: int, probe: Probe, *, seed: int = 0) -> tuple[dict[int, Any], dict]:
    """Train a recipe from the start and keep what look(players) says every `every` updates and at the end.

    Returns {update: what was said} and the provenance of the model; nothing else is kept of the training.
    """
    seen: dict[int, Any] = {}

    def validate(players: dict[str, nn.Module]) -> float:
        seen[min(every * (len(seen) + 1), recipe.training.steps)] = probe(players)
        return 0.0

    watched = recipe.with_changes({"training.validate_every": every})
    with tempfile.TemporaryDirectory() as folder:
        model = read_model(train_recipe(watched, folder, seed=seed, validate=validate))
    return seen, model.provenance


def distribution_of_student(recipe: Recipe, draws: int = DRAWS) -> Callable[[dict[str, nn.Module]], Tensor]:
    """A look at the law of a student of an enumerable world in the sampling steps it is for.

    The law is [V^L], in the order of the world's sequences, the mean over `draws` noise draws.
    """
    task, student = task_of(recipe), METHODS[recipe.role].student

    def probe(players: dict[str, nn.Module]) -> Tensor:
        return mean_law(players[student], task.process, task.world, recipe.method.steps, draws)

    return probe


def record_laws(recipe: Recipe, frames: int, *, seed: int = 0, draws: int = DRAWS) -> Record:
    """A student watched `frames` times at equal distances, as a record: the total variation it ends at, with
    the laws on the way in details["film"] = {"updates": [...], "laws": [...]}."""
    every = max(1, recipe.training.steps // frames)
    laws, provenance = monitor(recipe, every, distribution_of_student(recipe, draws), seed=seed)
    last = float(total_variation(laws[max(laws)], get_world(recipe.world)))
    strip = {"updates": list(laws), "laws": [[round(p, 5) for p in law.tolist()] for law in laws.values()]}
    return _record(recipe, "total_variation", last, draws, {"film": strip}, provenance)


def record_averaging(recipe: Recipe, looks: int, *, seed: int = 0) -> Record:
    """How much a student's raw weights swing and its averaged ones do not, looked at `looks` times.

    The recipe is trained twice from the same seed, the second time without averaging, which changes nothing
    in the training itself. What is looked at is what its checkpoints are chosen by, on validation data, or
    the total variation on an enumerable world. The record has the last averaged value; details["swings"] =
    {"updates": [...], "averaged": [...], "raw": [...]}.
    """
    world, chosen, every = get_world(recipe.world), recipe.validation, max(1, recipe.training.steps // looks)
    probe = validator_of(task_of(recipe)) or _distance(recipe)
    averaged, provenance = monitor(recipe, every, probe, seed=seed)
    raw, _ = monitor(recipe.with_changes({"training.ema.generator": 0.0}), every, probe, seed=seed)
    seen = {"updates": list(averaged), "averaged": list(averaged.values()), "raw": list(raw.values())}
    metric, num = (
        (chosen, validation_num(recipe.scale, world, chosen)) if chosen else ("total_variation", DRAWS)
    )
    return _record(recipe, metric, averaged[max(averaged)], num, {"swings": seen}, provenance)


def _record(recipe: Recipe, metric: str, value: float, num: int, details: dict, provenance: dict) -> Record:
    """What a watched training ended at: an exact distance to the world's law, or a validation."""
    reference = "the world's law"
    if metric == recipe.validation:
        reference, details = f"{recipe.world}, validation data", details | {"split": "valid"}
    steps = recipe.method.steps
    context = {"weights": "ema", "steps": steps, "seed": 0, "provenance": provenance}
    return Record(metric, value, None, None, num, reference, details, recipe.name, recipe.world, **context)


def _distance(recipe: Recipe) -> Probe:
    law = distribution_of_student(recipe)
    return lambda players: float(total_variation(law(players), get_world(recipe.world)))
