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
from dmmd_lite.utils.records import select

HIDDEN_SETTINGS = ("ratio", "threads", "device")  # of a benchmark's settings: its name and machine say so


def costs(records: list[dict], world: str, steps: int, scale: str = "laptop") -> DataFrame:
    """What the methods take on a world: updates, sequences evaluated, networks beside student and teacher,
    the minutes that the runs behind the records took, on whatever machine, and the floor on probabilities of
    a teacher that is exact. One-step methods stand with their one-step students."""
    rows = []
    one_step = [role for role, plan in PLANS.items() if plan.why_one_step]
    for name, _ in dict.fromkeys(students(world, [steps]) + students(world, [1], one_step)):
        recipe = get_recipe(name, scale)
        runs = [r["provenance"]["training"]["seconds"] / 60 for r in select(records, model=name)]
        rows.append(
            {
                "noise": recipe.process,
                "method": NAMES[recipe.role],
                "updates": recipe.training.steps,
                "batch": recipe.training.batch_size,
                "forward passes an update": round(_forwards(recipe), 2),
                "sequences": round(recipe.training.steps * recipe.training.batch_size * _forwards(recipe)),
                "networks beside student and teacher": len(recipe.training.lr)
                - 1
                + METHODS[recipe.role].copies,
                "operations": f"{cost(recipe)['flop']:.1e}",
                "minutes": f"{min(runs):.1f} to {max(runs):.1f}" if runs else "",
                "teacher's floor": f"{recipe.floor:g}" if recipe.teacher.endswith("-exact") else "no floor",
            }
        )
    return pd.DataFrame(rows).set_index(["noise", "method"])


def _forwards(recipe: Recipe) -> float:
    return METHODS[recipe.role].forwards(recipe.method)


def costs_table(scale: str, names: Iterable[str]) -> DataFrame:
    """What recipes take at a scale, counted (`cost`)."""
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
    """What training the released models took, as measured: time, machine, date; and operations a second."""
    rows = {}
    for path in sorted((data_dir() / "models").glob("*.json")):
        facts = json.loads(path.read_text())
        if "role" not in facts["recipe"]:  # a feature extractor
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
    """What the benchmarks found, in the records `bench_*.json` there are: medians over rounds of ratios
    measured in one run, with 95 % intervals."""
    rows = []
    for path in sorted((data_dir() / "results").glob("bench_*.json")):
        for r in json.loads(path.read_text())["records"]:
            between = "" if r["low"] is None else f" [{r['low']:.2f}, {r['high']:.2f}]"
            at = [
                f"{k} {v}"
                for k, v in r["details"].items()
                if isinstance(v, str | int) and k not in HIDDEN_SETTINGS
            ]
            rows.append(
                {
                    "measured": r["name"],
                    "at": ", ".join(at),
                    "ratio": f"{r['value']:.2f}{between}",
                    "rounds": r["n"],
                    "machine": r["provenance"]["measured"]["hardware"],
                }
            )
    frame = DataFrame(rows, columns=["measured", "at", "ratio", "rounds", "machine"])
    return frame.set_index(["measured", "at"])
