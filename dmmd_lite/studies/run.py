"""Running studies: train a variant, measure it on test data."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import product
from typing import Any

from dmmd_lite.models.evaluation import evaluate
from dmmd_lite.models.store import model_of
from dmmd_lite.recipes.catalogue import get_recipe
from dmmd_lite.recipes.recipe import Recipe
from dmmd_lite.recipes.world_settings import settings_of
from dmmd_lite.studies.definitions import STUDIES
from dmmd_lite.studies.study import BASELINE, DIVERGED, SAMPLES_KEPT, TEACHER_NETWORK, Variants
from dmmd_lite.training.loop import NonFiniteLoss
from dmmd_lite.utils.provenance import machine
from dmmd_lite.utils.records import Record, to_text


def variants(study: str, student: str) -> Variants:
    """All variants of a student in a study: the plain one first, the network it starts from last.

    ValueError for another student.
    """
    if student not in STUDIES[study].students:
        raise ValueError(
            f"student: {student!r} is not allowed in {study}; choose from {STUDIES[study].students}"
        )
    recipe = get_recipe(student)
    return {BASELINE: {}} | STUDIES[study].variants(recipe) | {TEACHER_NETWORK: recipe.start}


def run(
    study: str, student: str, variant: str, *, seed: int = 0, num: int | None = None, scale: str = "laptop"
) -> list[Record]:
    """Train a variant (kept in the cache) and measure it on test data, in the steps the student is for.

    num: samples, by default as many as on the leaderboard; seed: of the training. The records' model is
    called "STUDENT: VARIANT", their details hold the changes and, of images, the first samples. A training
    whose loss stops being finite leaves one record of how many updates that took. ValueError for an unknown
    variant.
    """
    known = variants(study, student)
    if variant not in known:
        raise ValueError(f"variant: {variant!r} is not allowed; choose from {list(known)}")
    recipe = varied(student, known[variant], scale)
    settings, steps = settings_of(recipe.world), get_recipe(student, scale).method.steps
    names = [*settings.judged_by, "output_entropy"]
    context = {"variant": variant, "changes": known[variant] if isinstance(known[variant], dict) else {}}
    told = {"model": f"{student}: {variant}"}
    try:
        model = model_of(recipe, 0 if variant == TEACHER_NETWORK else seed)
    except NonFiniteLoss as error:
        made = {"training_seed": seed, "measured": machine("cpu")}
        told |= {"world": recipe.world, "steps": steps, "provenance": made}
        return [Record(DIVERGED, error.step, None, None, 0, "none", context, **told)]
    num, drawn = num or settings.samples, None
    if model.world.image_shape is not None:
        drawn = model.sample(num, steps)
        context["samples"] = to_text(drawn.tokens[:SAMPLES_KEPT])
    found = evaluate(model, names, steps=steps, num=num, samples=drawn)
    return [replace(r, **told, details={**r.details, **context}) for r in found]


def varied(student: str, change: dict[str, Any] | str, scale: str = "laptop") -> Recipe:
    """The recipe of a variant: a student's with changes, or the one that is named."""
    return get_recipe(change, scale) if isinstance(change, str) else get_recipe(student, scale, change)


def measure(
    study: str, students: Iterable[str], variants: Iterable[str], seeds: Iterable[int], num: int | None = None
) -> list[dict]:
    """Records of `run` for every combination, as dictionaries."""
    cells = product(students, variants, seeds)
    return [r.to_dict() for name, v, seed in cells for r in run(study, name, v, seed=seed, num=num)]
