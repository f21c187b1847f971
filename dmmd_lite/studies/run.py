"""Running studies: train a variant and measure it on test data."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import product
from typing import Any

from dmmd_lite.models.evaluation import evaluate
from dmmd_lite.models.loading import model_of
from dmmd_lite.recipes.catalogue import get_recipe
from dmmd_lite.recipes.recipe import Recipe
from dmmd_lite.recipes.world_settings import settings_of
from dmmd_lite.studies.definitions import STUDIES
from dmmd_lite.studies.study import BASELINE, DIVERGED, SAMPLES_KEPT, TEACHER_NETWORK, Variants
from dmmd_lite.training.loop import NonFiniteLoss
from dmmd_lite.utils.checks import check_choice
from dmmd_lite.utils.provenance import machine
from dmmd_lite.utils.records import Record, encode_tokens


def variants(study: str, student: str) -> Variants:
    """Return all variants of a student: the unchanged one first, the network it starts from last.

    ValueError for a student that is not in the study.
    """
    check_choice(f"student of {study}", student, STUDIES[study].students)
    recipe = get_recipe(student)
    return {BASELINE: {}} | STUDIES[study].variants(recipe) | {TEACHER_NETWORK: recipe.start}


def run(
    study: str, student: str, variant: str, *, seed: int = 0, num: int | None = None, scale: str = "laptop"
) -> list[Record]:
    """Train a variant (kept in the cache) and measure it on test data, at the student's number of steps.

    The records' model is called "STUDENT: VARIANT"; their details hold the changes and, of images, the first
    samples. A training whose loss stops being finite leaves one record of its number of updates. ValueError
    for an unknown variant.

    Args:
    seed: of the training.
    num: samples, by default as many as on the leaderboard.
    """
    known = variants(study, student)
    check_choice("variant", variant, known)
    recipe = varied(student, known[variant], scale)
    settings, steps = settings_of(recipe.world), get_recipe(student, scale).method.steps
    names = [*settings.judged_by, "output_entropy"]
    details = {"variant": variant, "changes": known[variant] if isinstance(known[variant], dict) else {}}
    name = f"{student}: {variant}"
    try:
        model = model_of(recipe, 0 if variant == TEACHER_NETWORK else seed)
    except NonFiniteLoss as error:
        context = {"world": recipe.world, "steps": steps}
        context["provenance"] = {"training_seed": seed, "measured": machine("cpu")}
        return [Record(DIVERGED, error.step, None, None, 0, "none", details, name, **context)]
    num, drawn = num or settings.samples, None
    if model.world.image_shape is not None:
        drawn = model.sample(num, steps)
        details["samples"] = encode_tokens(drawn.tokens[:SAMPLES_KEPT])
    found = evaluate(model, names, steps=steps, num=num, samples=drawn)
    return [replace(r, model=name, details={**r.details, **details}) for r in found]


def varied(student: str, change: dict[str, Any] | str, scale: str = "laptop") -> Recipe:
    """Return the recipe of a variant: a student's with changes, or the one that `change` names."""
    return get_recipe(change, scale) if isinstance(change, str) else get_recipe(student, scale, change)


def measure(
    study: str, students: Iterable[str], variants: Iterable[str], seeds: Iterable[int], num: int | None = None
) -> list[Record]:
    """Return the records of `run` for every combination of students, variants and training seeds."""
    cells = product(students, variants, seeds)
    return [r for name, variant, seed in cells for r in run(study, name, variant, seed=seed, num=num)]
