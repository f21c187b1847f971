"""Tables of the benchmarks: what few-step students keep of their teacher's best result."""

from collections.abc import Iterable
from itertools import product

import pandas as pd
from pandas import DataFrame

from dmmd_lite.metrics.suite import METRICS
from dmmd_lite.processes import PROCESSES
from dmmd_lite.recipes.catalogue import RECIPES
from dmmd_lite.recipes.students import PLANS, student_for
from dmmd_lite.report.cells import over_draws, steps_text, values_by_seed
from dmmd_lite.studies.comparison import teacher
from dmmd_lite.utils.records import Record, select


def best_of_teacher(records: Iterable[Record], world: str, process: str, metric: str) -> Record | None:
    """Return a teacher's best record of a metric, over all its sampling steps; None without records."""
    found = over_draws(select(records, model=teacher(world, process), name=metric))
    return min(found, key=lambda r: METRICS[metric].sign * r.value, default=None)


def kept_table(records: list[Record], world: str, metric: str, bars: dict[int, float]) -> DataFrame:
    """Return the share of the teacher's best value that D-MMD students keep, beside the best other method.

    Args:
    metric: one of which more is better.
    bars: steps -> the share that was expected before the runs.
    """
    rows = []
    for process, (k, bar) in product(PROCESSES, bars.items()):
        best = best_of_teacher(records, world, process, metric)
        mine = values_by_seed(records, f"{world}-{process}-dmmd-{k}", k, metric)
        if best is None or not mine:
            continue
        others = _others(records, world, process, k, metric)
        rival = max(others, key=others.get, default=None)
        rows.append(
            {
                "noise": process,
                "steps": k,
                "teacher's best": f"{best.value:.3f} ({steps_text(best.steps)})",
                "D-MMD by seed": ", ".join(f"{value:.3f}" for value in mine),
                "kept": f"{min(mine) / best.value:.2f} (expected {bar:g})",
                "best other": f"{rival} {others[rival]:.3f}" if rival else "not run yet",
            }
        )
    return pd.DataFrame(rows)


def _others(records: list[Record], world: str, process: str, steps: int, metric: str) -> dict[str, float]:
    """Return the best value over training seeds of every other method at some steps, by its label."""
    others = {plan.label: role for role, plan in PLANS.items() if role != "dmmd"}
    names = {label: student_for(role, world, process, steps) for label, role in others.items()}
    names = {label: name for label, name in names.items() if name in RECIPES}
    found = {label: values_by_seed(records, name, steps, metric) for label, name in names.items()}
    return {label: max(values) for label, values in found.items() if values}
