"""Tables of what training takes, counted and measured."""

import json
from collections.abc import Iterable

import pandas as pd
from pandas import DataFrame

from dmmd_lite.objectives import METHODS
from dmmd_lite.recipes.catalogue import get_recipe
from dmmd_lite.recipes.cost import cost
from dmmd_lite.recipes.recipe import Recipe
from dmmd_lite.recipes.students import PLANS
from dmmd_lite.report.leaderboard import NAMES
from dmmd_lite.studies.comparison import students
from dmmd_lite.utils.paths import data_dir
from dmmd_lite.utils.records import Record, read_records, select

HIDDEN_SETTINGS = ("ratio", "threads", "device")  # settings that a benchmark's name and machine already tell


def costs(records: Iterable[Record], world: str, steps: int, scale: str | None = None) -> DataFrame:
    """Return what the methods take on a world; one-step methods are listed with their one-step students.

    Counted are updates, evaluated sequences, networks beside student and teacher, and operations; measured
    are the minutes of the runs behind the records, on the machines they ran on. The last column is the floor
    on probabilities of an exact teacher.
    """
    rows = []
    one_step = [role for role, plan in PLANS.items() if plan.why_one_step]
    for name, _ in dict.fromkeys(students(world, [steps]) + students(world, [1], one_step)):
        recipe = get_recipe(name, scale)
        training, method = recipe.training, METHODS[recipe.role]
        forwards = method.forwards(recipe.method)
        runs = [r.provenance["training"]["seconds"] / 60 for r in select(records, model=name)]
        rows.append(
            {
                "noise": recipe.process,
                "method": NAMES[recipe.role],
                "updates": training.steps,
                "batch": training.batch_size,
                "forward passes an update": round(forwards, 2),
                "sequences": round(training.steps * training.batch_size * forwards),
                "networks beside student and teacher": len(training.lr) - 1 + method.copies,
                "operations": f"{cost(recipe)['flop']:.1e}",
                "minutes": f"{min(runs):.1f} to {max(runs):.1f}" if runs else "",
                "teacher's floor": f"{recipe.floor:g}" if recipe.teacher.endswith("-exact") else "no floor",
            }
        )
    return pd.DataFrame(rows).set_index(["noise", "method"])


def costs_table(scale: str, names: Iterable[str]) -> DataFrame:
    """Return what recipes take at a scale, as `cost` counts it."""
    rows = {}
    for name in names:
        counted = cost(recipe := get_recipe(name, scale))
        rows[name] = {
            "updates": f"{recipe.training.steps:,}",
            "batch": recipe.training.batch_size,
            "parameters, millions": round(counted["parameters"] / 1e6, 2),
            "tokens": f"{counted['tokens']:.1e}",
            "operations": f"{counted['flop']:.1e}",
            "hours at 400 TFLOP/s": f"{counted['hours_at_400_tflops']:.2g}",
            "memory, GB": f"{counted['memory_gb']:.2g}",
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def costs_of_released() -> DataFrame:
    """Return what training the released models took: time, machine, date, operations per second."""
    rows = {}
    for path in sorted((data_dir() / "models").glob("*.json")):
        facts = json.loads(path.read_text(encoding="utf-8"))
        if "role" not in facts["recipe"]:  # this file belongs to a feature extractor
            continue
        recipe, training = Recipe.from_dict(facts["recipe"]), facts["training"]
        rows[facts["name"]] = {
            "scale": recipe.scale,
            "updates": f"{training['steps']:,}",
            "minutes": round(training["seconds"] / 60, 1),
            "GFLOP/s": round(cost(recipe)["flop"] / training["seconds"] / 1e9),
            "machine": facts["provenance"]["hardware"],
            "date": facts["provenance"]["date"],
            "MB on disk": round(path.with_suffix(".safetensors").stat().st_size / 1e6, 2),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def measured_ratios() -> DataFrame:
    """Return what the benchmarks found, from the records `bench_*.json`.

    Ratios are medians over rounds of times measured in one run, with intervals of 95 % or of the level beside
    them.
    """
    rows = []
    for path in sorted((data_dir() / "results").glob("bench_*.json")):
        for r in read_records(path):
            settings = {k: v for k, v in r.details.items() if k not in HIDDEN_SETTINGS}
            rows.append(
                {
                    "measured": r.name,
                    "at": ", ".join(f"{k} {v}" for k, v in settings.items() if isinstance(v, str | int)),
                    "ratio": r.text(2),
                    "rounds": r.n,
                    "machine": r.provenance["measured"]["hardware"],
                }
            )
    frame = DataFrame(rows, columns=["measured", "at", "ratio", "rounds", "machine"])
    return frame.set_index(["measured", "at"])
