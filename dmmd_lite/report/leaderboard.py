"""The comparison of methods: who takes part on a world, what decides there, which command repeats a cell.

Every student of a world and a noise starts from the same network and learns from the same teacher; its
networks evaluate as many sequences (a backward pass counts two) as those of D-MMD, within a tenth (see
`students`).
"""

from collections.abc import Iterable
from itertools import product

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from pandas import DataFrame

from dmmd_lite.metrics.suite import METRICS
from dmmd_lite.processes import PROCESSES
from dmmd_lite.recipes.catalogue import RECIPES, get_recipe
from dmmd_lite.recipes.students import PLANS, student_for
from dmmd_lite.recipes.world_settings import settings_of
from dmmd_lite.report.cells import by_steps, checkpoint_cell, value_cell, values_by_seed
from dmmd_lite.report.plots import seeds_line
from dmmd_lite.studies.comparison import STEPS, teacher
from dmmd_lite.utils.records import best_top_p, field_of, load_results, select

NAMES = {role: plan.label for role, plan in PLANS.items()}
PAGES = ("leaderboard", "coins", "table1_steps_images", "fig1_steps_text")  # with records


def committed_records() -> list[dict]:
    """Every committed record against test data that a cell can be filled with, whatever page it is of; of
    several for the same measurement the last."""
    everything = (
        r for page in PAGES for r in load_results(page) if r["name"] in settings_of(r["world"]).judged_by
    )
    same = ("name", "model", "training_seed", "steps", "n", "seed", "temperature", "top_p")
    found: dict[tuple, dict] = {}
    for r in select(everything, model=RECIPES.__contains__, split="test"):
        found[tuple(field_of(r, field) for field in same)] = r
    return list(found.values())


def top_p_of(model: str, steps: int) -> float:
    """The top-p a model is sampled with in so many steps: for text the best one of the committed validation
    records."""
    return best_top_p((r for page in PAGES for r in load_results(page)), model, steps)


def command(record: dict) -> str:
    """The command line that makes a record again, training its model first if it has to."""
    words = ["dmmd-lite evaluate", record["model"]]
    if seed := field_of(record, "training_seed"):
        words.append(f"--train-seed {seed}")
    words.append(f"--steps {record['steps']}")
    if METRICS[record["name"]].needs != "law":  # metrics of the sampler's law draw no samples
        words.append(f"--num {record['n']}")
    if record["seed"]:
        words.append(f"--seed {record['seed']}")
    for option, field in (("--temperature", "temperature"), ("--top-p", "top_p")):
        if record[field] != 1:
            words.append(f"{option} {record[field]:g}")
    if record["details"].get("greedy_tail"):
        words.append("--greedy-tail")
    return " ".join([*words, "--metrics", ",".join(settings_of(record["world"]).judged_by)])


def methods_table(records: list[dict], world: str, metric: str, steps: Iterable[int] = STEPS) -> DataFrame:
    """A world's methods by steps: the mean over training seeds, least and most of them, their number.

    "not defined" is a method that the noise or the steps do not suit (see its plan), "–" one the catalogue
    does not have; cells that no record fills are empty. Of several records of one training seed the last
    counts. The teacher comes first. Values of single seeds with their intervals are in `seeds_table`.
    """
    steps, lines = list(steps), {}
    for process in PROCESSES:
        start = teacher(world, process)
        lines[process, "teacher"] = [value_cell(records, start, k, metric) for k in steps]
        for role, label in NAMES.items():
            names = {k: student_for(role, world, process, k) for k in steps}
            lines[process, label] = [
                value_cell(records, name, k, metric) if name else _missing(role, process, k)
                for k, name in names.items()
            ]
    return by_steps(lines, steps, ["noise", "method"])


def winners_table(records: list[dict], worlds: Iterable[str], steps: Iterable[int] = STEPS) -> DataFrame:
    """Who is best where: for every world, noise and number of steps the method, or the teacher, of the least
    mean over training seeds, and the next. "in every seed" is one whose worst seed is below the next one's
    best, both having several; exact teachers and those of the digits and the text have one by nature. Cells
    of fewer than two methods stay empty."""
    steps, rows = list(steps), {}
    for world, process in product(worlds, PROCESSES):
        metric, line = settings_of(world).judged_by[0], []
        for k in steps:
            names = {"teacher": teacher(world, process)}
            names |= {label: student_for(role, world, process, k) for role, label in NAMES.items()}
            found = {label: values_by_seed(records, name, k, metric) for label, name in names.items() if name}
            found = {label: values for label, values in found.items() if values}
            line.append(_first_two(found) if len(found.keys() - {"teacher"}) > 1 else "")
        rows[world, process] = line
    return by_steps(rows, steps, ["world", "noise"])


def _missing(role: str, process: str, steps: int) -> str:
    return "–" if PLANS[role].is_defined(process, steps) else "not defined"


def _first_two(found: dict[str, list[float]]) -> str:
    means = {label: sum(values) / len(values) for label, values in found.items()}
    best, then = sorted(means, key=means.get)[:2]
    fewest = min(
        len(values) for label, values in found.items() if label in (best, then) and label != "teacher"
    )
    apart = max(found[best]) < min(found[then])
    how = "one seed" if fewest == 1 else "in every seed" if apart else "on average"
    return f"{best} {means[best]:.3g}, then {then} {means[then]:.3g} ({how})"


def as_recommended(records: list[dict], world: str, metric: str) -> DataFrame:
    """Every method at a number of steps its authors recommend, beside its teacher at as many.

    "as good": in how many training seeds no worse than the teacher (point values). "checkpoint": the part of
    the training after which each seed's weights were taken.
    """
    rows = []
    for process, plan in product(PROCESSES, PLANS.values()):
        steps, published = plan.recommended
        name = plan.student_for(world, process, steps)
        own = values_by_seed(records, name, steps, metric) if name else []
        above = values_by_seed(records, teacher(world, process), steps, metric)
        if not own:
            continue
        row = {"noise": process, "method": plan.label, "recommended steps": published, "steps": steps}
        row |= {"student": value_cell(records, name, steps, metric), "teacher": "not measured", "as good": ""}
        if above:
            wins = sum(value <= above[0] for value in own)
            row |= {"teacher": f"{above[0]:.3f}", "as good": f"{wins} of {len(own)} seeds"}
        rows.append(row | {"checkpoint": checkpoint_cell(records, name, steps, metric)})
    return pd.DataFrame(rows)


def last_against_chosen(last: list[dict], chosen: list[dict], metrics: Iterable[str]) -> DataFrame:
    """Students at the end of their training (`last`) beside the same runs at their chosen checkpoints."""
    rows = []
    for model, steps in dict.fromkeys((r["model"], r["steps"]) for r in last):
        recipe, (first, *_) = get_recipe(model), metrics
        row = {"noise": recipe.process, "method": NAMES[recipe.role], "steps": steps}
        row["checkpoint"] = checkpoint_cell(chosen, model, steps, first)
        for metric in metrics:
            title = metric.replace("_", " ")
            row[f"{title}, chosen"] = value_cell(chosen, model, steps, metric)
            row[f"{title}, last"] = value_cell(last, model, steps, metric)
        rows.append(row)
    return pd.DataFrame(rows)


def seeds_table(records: list[dict], world: str) -> DataFrame:
    """Every record of a world by itself: value, 95 % interval, samples and the command that repeats it."""
    rows = [
        {
            "model": r["model"],
            "steps": r["steps"],
            "training seed": field_of(r, "training_seed"),
            "metric": r["name"],
            "value": f"{r['value']:.4f}",
            "95 % interval": "exact" if r["low"] is None else f"{r['low']:.4f} to {r['high']:.4f}",
            "n": r["n"],
            "command": command(r),
        }
        for r in select(records, world=world)
    ]
    return pd.DataFrame(rows)


def methods_against_steps(
    records: list[dict],
    world: str,
    metrics: list[str],
    logarithmic: tuple[str, ...] = (),
    truth: dict[str, float] | None = None,
) -> Figure:
    """Every method and the teacher against sampling steps, a row a metric, a column a noise: means over
    training seeds, bars from the least to the most of them. truth: what exact samples have, dotted."""
    fig, axes = plt.subplots(
        len(metrics),
        2,
        figsize=(10, 3.4 * len(metrics)),
        sharex=True,
        sharey="row",
        squeeze=False,
        layout="constrained",
    )
    for row, metric in zip(axes, metrics, strict=True):
        for ax, process in zip(row, PROCESSES, strict=True):
            _against_steps(ax, records, world, process, metric)
            ax.set_yscale("log" if metric in logarithmic else "linear")
            if truth and metric in truth:
                ax.axhline(truth[metric], color="black", linestyle=":")
    return fig


def _against_steps(ax, records: list[dict], world: str, process: str, metric: str) -> None:
    series = {"teacher": {k: teacher(world, process) for k in STEPS}}
    for role, label in NAMES.items():
        names = {k: student_for(role, world, process, k) for k in STEPS}
        series[label] = {k: name for k, name in names.items() if name}
    for place, (label, names) in enumerate(series.items()):
        values = {k: values_by_seed(records, name, k, metric) for k, name in names.items()}
        if any(values.values()):
            seeds_line(ax, values, label, place)
    ax.set_xscale("log", base=2)
    ax.set_xticks(STEPS, STEPS)
    ax.set_xlabel("sampling steps")
    ax.set_ylabel(metric.replace("_", " "))
    ax.set_title(f"{world}, {process}", fontsize=10)
    ax.legend(fontsize=7)
