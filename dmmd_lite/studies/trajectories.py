"""Trajectories of a training: probes of its players after every few updates, such as exact distributions."""

import tempfile
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from dmmd_lite.metrics.exact_laws import mean_law, total_variation
from dmmd_lite.models.loading import train_recipe, validator_of
from dmmd_lite.models.store import read_model
from dmmd_lite.models.task import task_of
from dmmd_lite.models.validation import validation_num
from dmmd_lite.objectives import METHODS
from dmmd_lite.recipes.recipe import Recipe
from dmmd_lite.utils.records import Record
from dmmd_lite.worlds import get_world

Probe = Callable[[dict[str, nn.Module]], Any]  # a function of the averaged players by name
DRAWS = 4096  # draws of the input noise behind a student's distribution


def monitor(recipe: Recipe, every: int, probe: Probe, *, seed: int = 0) -> tuple[dict[int, Any], dict]:
    """Train a recipe from the start and keep probe(players) after every `every` updates and at the end.

    Returns {update: result of the probe} and the provenance of the model, which itself is not kept.
    """
    seen: dict[int, Any] = {}

    def validate(players: dict[str, nn.Module]) -> float:
        seen[min(every * (len(seen) + 1), recipe.training.steps)] = probe(players)
        return 0.0

    monitored = recipe.with_changes({"training.validate_every": every})
    with tempfile.TemporaryDirectory() as folder:
        model = read_model(train_recipe(monitored, folder, seed=seed, validate=validate))
    return seen, model.provenance


def distribution_of_student(recipe: Recipe, draws: int = DRAWS) -> Callable[[dict[str, nn.Module]], Tensor]:
    """Return a probe of the distribution of a student of an enumerable world, at its number of steps.

    The distribution is [V^L], in the order of the world's sequences, the mean over `draws` noise draws.
    """
    task, student = task_of(recipe), METHODS[recipe.role].student

    def probe(players: dict[str, nn.Module]) -> Tensor:
        return mean_law(players[student], task.process, task.world, recipe.method.steps, draws)

    return probe


def record_distributions(recipe: Recipe, frames: int, *, seed: int = 0, draws: int = DRAWS) -> Record:
    """Train a student and record its distribution `frames` times at equal distances.

    Returns the final total variation, with details["film"] = {"updates": [...], "laws": [...]}.
    """
    every = max(1, recipe.training.steps // frames)
    found, provenance = monitor(recipe, every, distribution_of_student(recipe, draws), seed=seed)
    last = float(total_variation(found[max(found)], get_world(recipe.world)))
    laws = [[round(probability, 5) for probability in law.tolist()] for law in found.values()]
    film = {"film": {"updates": list(found), "laws": laws}}
    return _record(recipe, "total_variation", last, draws, film, provenance)


def record_averaging(recipe: Recipe, frames: int, *, seed: int = 0) -> Record:
    """Record the metric of a student's raw and of its averaged weights `frames` times while it trains.

    The recipe is trained twice from the same seed, the second time without averaging, which changes nothing
    in the training itself. The metric is the one that chooses its checkpoints, on validation data, or the
    total variation on an enumerable world. Returns the last averaged value, with details["swings"] =
    {"updates": [...], "averaged": [...], "raw": [...]}.
    """
    task, metric, every = task_of(recipe), recipe.validation, max(1, recipe.training.steps // frames)
    probe = validator_of(task) or _distance(recipe)
    averaged, provenance = monitor(recipe, every, probe, seed=seed)
    raw, _ = monitor(recipe.with_changes({"training.ema.generator": 0.0}), every, probe, seed=seed)
    seen = {"updates": list(averaged), "averaged": list(averaged.values()), "raw": list(raw.values())}
    num = validation_num(recipe.scale, task.world, metric) if metric else DRAWS
    last = averaged[max(averaged)]
    return _record(recipe, metric or "total_variation", last, num, {"swings": seen}, provenance)


def _record(recipe: Recipe, metric: str, value: float, num: int, details: dict, provenance: dict) -> Record:
    """Return the final value of a monitored training: an exact distance, or a validation."""
    reference = "the world's law"
    if metric == recipe.validation:
        reference, details = f"{recipe.world}, validation data", details | {"split": "valid"}
    steps = recipe.method.steps
    context = {"weights": "ema", "steps": steps, "seed": 0, "provenance": provenance}
    return Record(metric, value, None, None, num, reference, details, recipe.name, recipe.world, **context)


def _distance(recipe: Recipe) -> Probe:
    """Return a probe of a student's total variation from its world."""
    distribution = distribution_of_student(recipe)
    return lambda players: float(total_variation(distribution(players), get_world(recipe.world)))
