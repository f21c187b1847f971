"""The comparison of methods as tables and figures, and the command that repeats a cell.

Every student of a world and a noise starts from the same network and learns from the same teacher; its
networks evaluate as many sequences (a backward pass counts two) as those of D-MMD, within a tenth (see
`recipes.students`).
"""

from collections.abc import Iterable
from itertools import product

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pandas import DataFrame

from dmmd_lite.metrics.suite import METRICS
from dmmd_lite.processes import PROCESSES
from dmmd_lite.recipes.catalogue import RECIPES, get_recipe
from dmmd_lite.recipes.students import PLANS, student_for
from dmmd_lite.recipes.world_settings import WORLD_SETTINGS, settings_of
from dmmd_lite.report.cells import by_steps, checkpoint_cell, over_draws, value_cell, values_by_seed
from dmmd_lite.report.plots import grid, log_steps, seeds_line
from dmmd_lite.studies.comparison import STEPS, teacher
from dmmd_lite.utils.records import Record, best_top_p, load_results, select

NAMES = {role: plan.label for role, plan in PLANS.items()}
PAGES = ("leaderboard", "coins", "table1_steps_images", "fig1_steps_text")  # with records


def committed_records() -> list[Record]:
    """Return the committed records on test data that can fill a cell, whatever page measured them.

    The last of several for the same measurement counts.
    """
    everything = (
        r
        for page in PAGES
        for r in load_results(page)
        if r.world in WORLD_SETTINGS and r.name in settings_of(r.world).judged_by
    )
    found: dict[tuple, Record] = {}
    for r in select(everything, model=RECIPES.__contains__, split="test"):
        key = (r.name, r.model, r.training_seed, r.steps, r.n, r.seed, r.temperature, r.top_p)
        found[key] = r
    return list(found.values())


def top_p_of(model: str, steps: int) -> float:
    """Return the sampling top-p of a model: for text the best of the committed validation records."""
    return best_top_p((r for page in PAGES for r in load_results(page)), model, steps)


def command(record: Record) -> str:
    """Return the command line that makes a record again, training its model first if necessary."""
    words = ["dmmd-lite evaluate", record.model]
    if record.training_seed:
        words.append(f"--train-seed {record.training_seed}")
    words.append(f"--steps {record.steps}")
    if METRICS[record.name].needs != "law":  # exact metrics enumerate and draw no samples
        words.append(f"--num {record.n}")
    if record.seed:
        words.append(f"--seed {record.seed}")
    for option, value in (("--temperature", record.temperature), ("--top-p", record.top_p)):
        if value != 1:
            words.append(f"{option} {value:g}")
    if record.greedy_tail:
        words.append("--greedy-tail")
    return " ".join([*words, "--metrics", ",".join(settings_of(record.world).judged_by)])


def _entrants(world: str, process: str, steps: int) -> dict[str, str | None]:
    """Return who is compared: "teacher" or a method's label -> the recipe, None without one."""
    students = {label: student_for(role, world, process, steps) for role, label in NAMES.items()}
    known = {label: name if name in RECIPES else None for label, name in students.items()}
    return {"teacher": teacher(world, process)} | known


def methods_table(records: list[Record], world: str, metric: str, steps: Iterable[int] = STEPS) -> DataFrame:
    """Return a world's methods by steps: mean over training seeds, minimum and maximum, number of seeds.

    "not defined" is a method that the noise or the steps do not suit (its plan), "–" a student that the
    catalogue does not have; cells that no record fills are empty. The last of several records of one training
    seed counts. The teacher comes first. `seeds_table` has the values of single seeds with their intervals.
    """
    steps, lines = list(steps), {}
    for process in PROCESSES:
        entrants = {k: _entrants(world, process, k) for k in steps}
        for role, label in ({"": "teacher"} | NAMES).items():
            lines[process, label] = [
                value_cell(records, found[label], k, metric) if found[label] else _missing(role, process, k)
                for k, found in entrants.items()
            ]
    return by_steps(lines, steps, ["noise", "method"])


def _missing(role: str, process: str, steps: int) -> str:
    """Return the cell of a method without a student."""
    return "not defined" if role in PLANS and not PLANS[role].is_defined(process, steps) else "–"


def winners_table(records: list[Record], worlds: Iterable[str], steps: Iterable[int] = STEPS) -> DataFrame:
    """Return the best and the second best of methods and teacher, by mean over training seeds.

    There is one row for each world and noise, one column for each number of steps. "in every seed" means that
    the worst seed of the best is better than the best seed of the second, both having several; teachers have
    one by nature. Cells of fewer than two methods stay empty.
    """
    steps, rows = list(steps), {}
    for world, process in product(worlds, PROCESSES):
        metric, line = settings_of(world).judged_by[0], []
        for k in steps:
            names = {label: name for label, name in _entrants(world, process, k).items() if name}
            found = {label: values_by_seed(records, name, k, metric) for label, name in names.items()}
            found = {label: values for label, values in found.items() if values}
            enough = len(found.keys() - {"teacher"}) > 1
            line.append(_first_two(found, METRICS[metric].sign) if enough else "")
        rows[world, process] = line
    return by_steps(rows, steps, ["world", "noise"])


def _first_two(found: dict[str, list[float]], sign: int) -> str:
    """Return the best and the second best of values by seed, in words. sign: -1 where more is better."""
    means = {label: sum(values) / len(values) for label, values in found.items()}
    best, then = sorted(means, key=lambda label: sign * means[label])[:2]
    fewest = min(len(found[label]) for label in (best, then) if label != "teacher")
    apart = max(sign * v for v in found[best]) < min(sign * v for v in found[then])
    how = "one seed" if fewest == 1 else "in every seed" if apart else "on average"
    return f"{best} {means[best]:.3g}, then {then} {means[then]:.3g} ({how})"


def as_recommended(records: list[Record], world: str, metric: str) -> DataFrame:
    """Return every method at a number of steps its authors recommend, beside its teacher at as many.

    "as good" counts the training seeds that are no worse than the teacher, by values. "checkpoint" is the
    part of the training after which each seed's weights were taken.
    """
    rows = []
    for process, plan in product(PROCESSES, PLANS.values()):
        steps, published = plan.recommended
        names = _entrants(world, process, steps)
        name, above = names[plan.label], names["teacher"]
        values = values_by_seed(records, name, steps, metric) if name else []
        rival = values_by_seed(records, above, steps, metric) if above else []
        if not values:
            continue
        row = {"noise": process, "method": plan.label, "recommended steps": published, "steps": steps}
        row |= {"student": value_cell(records, name, steps, metric), "teacher": "not measured", "as good": ""}
        if rival:
            sign = METRICS[metric].sign
            wins = sum(sign * value <= sign * rival[0] for value in values)
            row |= {"teacher": f"{rival[0]:.3f}", "as good": f"{wins} of {len(values)} seeds"}
        rows.append(row | {"checkpoint": checkpoint_cell(records, name, steps, metric)})
    return pd.DataFrame(rows)


def last_against_chosen(last: list[Record], chosen: list[Record], metrics: Iterable[str]) -> DataFrame:
    """Return students at the end of their training (`last`) beside the same runs at chosen checkpoints."""
    rows = []
    for model, steps in dict.fromkeys((r.model, r.steps) for r in last):
        recipe, (first, *_) = get_recipe(model), metrics
        row = {"noise": recipe.process, "method": NAMES[recipe.role], "steps": steps}
        row["checkpoint"] = checkpoint_cell(chosen, model, steps, first)
        for metric in metrics:
            title = metric.replace("_", " ")
            row[f"{title}, chosen"] = value_cell(chosen, model, steps, metric)
            row[f"{title}, last"] = value_cell(last, model, steps, metric)
        rows.append(row)
    return pd.DataFrame(rows)


def seeds_table(records: list[Record], world: str) -> DataFrame:
    """Return every record of a world: value, 95 % interval, samples and the command that repeats it."""
    rows = [
        {
            "model": r.model,
            "steps": r.steps,
            "training seed": r.training_seed,
            "metric": r.name,
            "value": f"{r.value:.4f}",
            "95 % interval": "exact" if r.low is None else f"{r.low:.4f} to {r.high:.4f}{r.level_text}",
            "n": r.n,
            "command": command(r),
        }
        for r in select(records, world=world)
    ]
    return pd.DataFrame(rows)


def draws_table(records: list[Record]) -> DataFrame:
    """Return the cells with several draws of samples: their mean, and the spread between and within draws."""
    rows = [
        {
            "model": r.model,
            "steps": r.steps,
            "metric": r.name,
            "mean": r.text(4),
            "draws": len(r.details["sampling_seeds"]),
            "between draws": f"{r.details['between_draws']:.4f}",
            "within a draw": f"{r.details['within_a_draw']:.4f}",
        }
        for r in over_draws(records)
        if "sampling_seeds" in r.details
    ]
    return pd.DataFrame(rows)


def methods_against_steps(
    records: list[Record],
    world: str,
    metrics: list[str],
    logarithmic: tuple[str, ...] = (),
    truth: dict[str, float] | None = None,
    steps: Iterable[int] = STEPS,
) -> Figure:
    """Draw every method and the teacher against sampling steps: means over training seeds with their range.

    Args:
    metrics: one row each; there is one column for each noise.
    logarithmic: metrics on a logarithmic axis.
    truth: metric -> the value of exact samples, a dotted line.
    steps: numbers of steps to show; beyond those of students there is the teacher alone.
    """
    steps = list(steps)
    fig, axes = grid(len(metrics), len(PROCESSES), (5, 3.4), sharex=True, sharey="row")
    for row, metric in zip(axes, metrics, strict=True):
        for ax, process in zip(row, PROCESSES, strict=True):
            _against_steps(ax, records, world, process, metric, steps)
            ax.set_yscale("log" if metric in logarithmic else "linear")
            if truth and metric in truth:
                ax.axhline(truth[metric], color="black", linestyle=":")
    return fig


def _against_steps(
    ax: Axes, records: list[Record], world: str, process: str, metric: str, steps: list[int]
) -> None:
    """Draw one panel of `methods_against_steps`."""
    entrants = {k: _entrants(world, process, k) for k in steps}
    for place, label in enumerate(("teacher", *NAMES.values())):
        names = {k: found[label] for k, found in entrants.items() if found[label]}
        values = {k: values_by_seed(records, name, k, metric) for k, name in names.items()}
        if any(values.values()):
            seeds_line(ax, values, label, place)
    log_steps(ax, steps)
    ax.set_ylabel(metric.replace("_", " "))
    ax.set_title(f"{world}, {process}", fontsize=10)
    if ax.get_legend_handles_labels()[0]:
        ax.legend(fontsize=7)
