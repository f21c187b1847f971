"""The comparison of methods: who takes part on a world, and trials of their settings.

Every student of a world and a noise starts from the same network and learns from the same teacher; its
networks evaluate as many sequences (a backward pass counts two) as those of D-MMD, within a tenth (see
`recipes.students`).
"""

from collections.abc import Iterable
from dataclasses import replace
from itertools import product

from dmmd_lite.models.evaluation import evaluate
from dmmd_lite.models.loading import model_of
from dmmd_lite.objectives import METHODS
from dmmd_lite.processes import PROCESSES
from dmmd_lite.recipes.catalogue import BEFORE_TUNING, RECIPES, get_recipe
from dmmd_lite.recipes.students import student_for
from dmmd_lite.recipes.trials import trials_of
from dmmd_lite.recipes.world_settings import compared_worlds, settings_of
from dmmd_lite.utils.checks import check_choice
from dmmd_lite.utils.records import Record

STEPS = (1, 4, 16)


def teacher(world: str, process: str) -> str | None:
    """Return the recipe from which a world's students under a noise are distilled; None without students."""
    student = f"{world}-{process}-dmmd-{settings_of(world).student_steps[0]}"
    return get_recipe(student).teacher if student in RECIPES else None


def students(
    world: str, steps: Iterable[int] = STEPS, roles: Iterable[str] = tuple(METHODS)
) -> list[tuple[str, int]]:
    """Return the students that take part on a world, (recipe's name, sampling steps).

    They are ordered by process, method and steps. A method whose training does not depend on the number of
    steps has one student for several. ValueError for a world without a comparison.
    """
    check_choice("world", world, compared_worlds())
    cells = product(PROCESSES, roles, steps)
    found = ((student_for(role, world, process, k), k) for process, role, k in cells)
    return [(name, k) for name, k in found if name in RECIPES]


def try_out(name: str, trial: str, *, num: int = 2000, seed: int = 1) -> Record:
    """Train a student's trial (training seed 0, kept in the cache) and measure it on validation data.

    The metric is the first of its world. ValueError for an unknown trial.

    Args:
    num: samples, where the metric draws any.
    seed: of the samples.
    """
    recipe = BEFORE_TUNING[name](settings_of(name.split("-")[0]).shown_at)
    changes = trials_of(recipe)
    check_choice("trial", trial, changes)
    model = model_of(recipe.with_changes(changes[trial]))
    (record,) = evaluate(model, [settings_of(recipe.world).judged_by[0]], num=num, seed=seed, split="valid")
    return replace(record, details={**record.details, "trial": trial, "changes": changes[trial]})
