"""The comparison of methods: who takes part on a world, what decides there, which command repeats a cell.

Every student of a world and a noise starts from the same network and learns from the same teacher; its
networks evaluate as many sequences (a backward pass counts two) as those of D-MMD, within a tenth (see
`students`).
"""

from collections.abc import Iterable
from dataclasses import replace
from itertools import product

from dmmd_lite.models.evaluation import evaluate
from dmmd_lite.models.store import model_of
from dmmd_lite.objectives import METHODS
from dmmd_lite.processes import PROCESSES
from dmmd_lite.recipes.catalogue import BEFORE_TUNING, get_recipe
from dmmd_lite.recipes.students import student_for
from dmmd_lite.recipes.trials import trials_of
from dmmd_lite.recipes.world_settings import compared_worlds, settings_of
from dmmd_lite.utils.checks import check_choice
from dmmd_lite.utils.records import Record

STEPS = (1, 4, 16)


def teacher(world: str, process: str) -> str:
    """Name of the recipe that every student of a world and process is distilled from."""
    return get_recipe(f"{world}-{process}-dmmd-1").teacher


def students(
    world: str, steps: Iterable[int] = STEPS, roles: Iterable[str] = tuple(METHODS)
) -> list[tuple[str, int]]:
    """The students that take part on a world, (recipe's name, sampling steps), by process, method and steps.

    A method whose training knows no number of steps has one student for several.
    """
    check_choice("world", world, compared_worlds())
    cells = (
        (student_for(role, world, process, k), k) for process, role, k in product(PROCESSES, roles, steps)
    )
    return [(name, k) for name, k in cells if name]


def try_out(name: str, trial: str, *, num: int = 2000, seed: int = 1) -> Record:
    """Train a student's trial (training seed 0, kept in the cache) and measure it on validation data
    by its world's first metric.

    num: samples, where the metric draws any; seed: of the samples. ValueError for an unknown trial.
    """
    recipe = BEFORE_TUNING[name]("laptop")
    changes = trials_of(recipe)
    if trial not in changes:
        raise ValueError(f"trial: {trial!r} is not allowed; choose from {list(changes)}")
    model = model_of(recipe.with_changes(changes[trial]))
    (record,) = evaluate(model, [settings_of(recipe.world).judged_by[0]], num=num, seed=seed, split="valid")
    return replace(record, details={**record.details, "trial": trial, "changes": changes[trial]})
