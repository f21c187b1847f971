"""Outcomes of studies: verdicts on what was expected, tables and figures."""

from collections.abc import Callable, Iterable
from itertools import product
from math import inf

import pandas as pd
from IPython.display import Markdown, display
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pandas import DataFrame
from torch import Tensor

from dmmd_lite.metrics.intervals import mean_share
from dmmd_lite.pages.display import show
from dmmd_lite.processes import PROCESSES
from dmmd_lite.recipes.catalogue import get_recipe
from dmmd_lite.recipes.world_settings import settings_of
from dmmd_lite.report.cells import steps_text
from dmmd_lite.report.plots import PALETTE, grid, log_steps, rows_of_images, seeds_line, series_style
from dmmd_lite.studies.definitions import STUDIES
from dmmd_lite.studies.run import variants
from dmmd_lite.studies.study import BASELINE, DIVERGED, NO_NOISE_INPUT, SEEDS, TEACHER_NETWORK
from dmmd_lite.utils.records import Record, decode_tokens, select, spread, table
from dmmd_lite.worlds import get_world

ABOUT_VERDICTS = """**What came out.** Expectations were written down before the runs. Training seeds differ
by more than samples do, so a verdict asks whether every seed of one side is below every seed of the other:
"confirmed" or "refuted" with three seeds of both, "seen" or "not seen" with fewer, which is an observation
and no claim; "undecided" is anything between."""
ABOUT_SAMPLES = """**What the pictures look like.** The first samples of every variant, training seed 0,
nothing picked."""
ABOUT_NUMBERS = """**All numbers.** Each line is a training run, with 95 % intervals over samples. To repeat
it, use the commit that its record names, `dmmd-lite train STUDENT --set KEY=VALUE --seed SEED --out FOLDER`
with the changes of its line, and `dmmd-lite evaluate FOLDER --num N` with its n."""


def show_study(study: str, committed: list[Record], computed: list[Record]) -> None:
    """Display the verdicts, samples and numbers of a study, and the records that a page has just computed."""
    with pd.option_context("display.max_colwidth", None, "display.max_rows", None):
        display(Markdown(ABOUT_VERDICTS), verdict_table(study, committed), Markdown(ABOUT_SAMPLES))
        for student in STUDIES[study].students:
            if kept_samples(committed, student):
                alt = f"First samples of every variant of {student}, a row each."
                show(study_samples(committed, student), alt)
        display(Markdown(ABOUT_NUMBERS), study_table(committed))
        display(Markdown("What this page measured, with few samples:"), study_table(computed))


def by_world(study: str) -> dict[str, list[str]]:
    """Return the students of a study by world."""
    worlds: dict[str, list[str]] = {}
    for student in STUDIES[study].students:
        worlds.setdefault(get_recipe(student).world, []).append(student)
    return worlds


def records_of_student(records: Iterable[Record], student: str, metric: str) -> dict[str, dict[int, Record]]:
    """Return records of a metric: variant -> training seed -> record; the last of several counts."""
    found: dict[str, dict[int, Record]] = {}
    for r in select(records, name=metric, model=lambda name: name.startswith(f"{student}: ")):
        found.setdefault(r.variant, {})[r.training_seed] = r
    return found


def kept_samples(records: Iterable[Record], student: str) -> dict[str, Tensor]:
    """Return the first samples of every variant of a student of images, training seed 0, tokens [n, L]."""
    found = records_of_student(records, student, "class_histogram")
    return {name: decode_tokens(r[0].details["samples"]) for name, r in found.items() if 0 in r}


def verdicts(study: str, records: list[Record]) -> list[dict[str, str]]:
    """Return one row for each expectation and each student that has its variants, with the outcome.

    The outcome follows `ABOUT_VERDICTS`; the network before distillation has one seed, and a training that
    diverged counts as an infinite value.
    """
    rows = []
    for student, expected in product(STUDIES[study].students, STUDIES[study].expected):
        recipe, sides = get_recipe(student), (expected.less, expected.more)
        if expected.process not in ("", recipe.process) or not {*sides} <= variants(study, student).keys():
            continue
        metric = expected.metric or settings_of(recipe.world).judged_by[0]
        found = records_of_student(records, student, metric)
        diverged = records_of_student(records, student, DIVERGED)
        less, more = (
            [r.value for r in found.get(v, {}).values()] + [inf] * len(diverged.get(v, {})) for v in sides
        )
        needed = [1 if v == TEACHER_NETWORK else SEEDS for v in sides]
        outcome = "not run yet"
        if less and more:
            enough = len(less) >= needed[0] and len(more) >= needed[1]
            outcome = f"{_verdict(less, more, enough)}: {spread(less)} against {spread(more)}"
        rows.append({"student": student, "expected": expected.text, "came out": outcome})
    return rows


def _verdict(less: list[float], more: list[float], enough: bool) -> str:
    """Return the verdict on the expectation that all values of `less` are below all of `more`."""
    if max(less) < min(more):
        return "confirmed" if enough else "seen"
    if min(less) > max(more):
        return "refuted" if enough else "not seen"
    return "undecided"


def verdict_table(study: str, records: list[Record]) -> DataFrame:
    """Return the `verdicts` of a study as a table."""
    return pd.DataFrame(verdicts(study, records)).set_index(["student", "expected"])


def study_table(records: Iterable[Record]) -> DataFrame:
    """Return every training of a study: its changes to the recipe and its measurements."""
    found = [r for r in records if r.variant is not None]
    return table(found, ["model", "changes", "training_seed", "steps", "n"], digits=3)


def noise_ratios(study: str, records: list[Record]) -> DataFrame:
    """Return Fréchet distance and output entropy of students with noise input over those without.

    The cells are means over the training seeds that both have, with minimum and maximum.
    """
    lines: dict[tuple, dict] = {}
    for student, metric in product(STUDIES[study].students, ("frechet", "output_entropy")):
        found, recipe = records_of_student(records, student, metric), get_recipe(student)
        plain, without = found.get(BASELINE, {}), found.get(NO_NOISE_INPUT, {})
        ratios = [plain[seed].value / without[seed].value for seed in plain.keys() & without.keys()]
        if ratios:
            ends = f" ({min(ratios):.2f} to {max(ratios):.2f}, {len(ratios)} seeds)" if ratios[1:] else ""
            line = lines.setdefault((recipe.world, recipe.process, metric.replace("_", " ")), {})
            line[steps_text(recipe.method.steps)] = f"{sum(ratios) / len(ratios):.2f}{ends}"
    return pd.DataFrame.from_dict(lines, orient="index").fillna("")


def level_shares(study: str, records: list[Record]) -> DataFrame:
    """Return the share of pixels at the most frequent level of a world's test images.

    The rows are the test images and the samples kept of every variant, training seed 0, with 95 % intervals
    over images.
    """
    columns: dict[str, dict[str, str]] = {}
    for student in STUDIES[study].students:
        test = get_world(get_recipe(student).world).split("test")
        level = int(test.flatten().mode().values)
        column = columns.setdefault(f"{student}: level {level}", {})
        for name, tokens in ({"test images": test} | kept_samples(records, student)).items():
            share, low, high = mean_share((tokens == level).double().mean(-1).numpy())
            column[name] = f"{share:.3f} [{low:.3f}, {high:.3f}]"
    return pd.DataFrame(columns).fillna("")


def study_dots(records: list[Record], study: str, student: str, metric: str) -> Figure:
    """Draw all variants of a student, one line each, one point for each training seed.

    The range of the unchanged recipe is shaded.
    """
    found = records_of_student(records, student, metric)
    names = [name for name in variants(study, student) if name in found]
    fig, ((ax,),) = grid(1, 1, (8, 0.3 * len(names) + 1))
    for line, name in enumerate(names):
        for seed, r in found[name].items():
            style = series_style(seed)
            ax.plot(r.interval, [line, line], color=style["color"], linewidth=1)
            ax.plot(r.value, line, **style)
    if plain := [r.value for r in found.get(BASELINE, {}).values()]:
        ax.axvspan(min(plain), max(plain), color="gray", alpha=0.25)
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.set(xscale="log", xlabel=metric.replace("_", " "))
    ax.set_title(student, fontsize=10)
    return fig


def study_lines(
    ax: Axes, records: list[Record], student: str, metric: str, at: Callable[[dict], float | None]
) -> None:
    """Draw a metric of a student's variants: means over training seeds, bars from minimum to maximum.

    A dotted line is the network before distillation.

    Args:
    at: changes to the recipe -> place on the x axis; None leaves a variant out.
    """
    found, process = records_of_student(records, student, metric), get_recipe(student).process
    series, before = list(PROCESSES).index(process), found.pop(TEACHER_NETWORK, {})
    places = {}
    for seeds in found.values():
        place = at(next(iter(seeds.values())).details["changes"])
        if place is not None:
            places[place] = [r.value for r in seeds.values()]
    seeds_line(ax, places, process, series)
    for r in before.values():
        ax.axhline(r.value, color=PALETTE[series], linestyle=":")


def noise_input_lines(study: str, records: list[Record]) -> Figure:
    """Draw Fréchet distance and output entropy of students with and without noise input, against their steps.

    There is one row for each world; the teacher in as many steps is dotted.
    """
    titles, worlds = (
        {"frechet": "Fréchet distance", "output_entropy": "output entropy, nats"},
        by_world(study),
    )
    inputs = {BASELINE: "with noise", NO_NOISE_INPUT: "without noise", TEACHER_NETWORK: ""}
    fig, axes = grid(len(worlds), len(titles))
    for row, (world, students) in zip(axes, worlds.items(), strict=True):
        for ax, (metric, title) in zip(row, titles.items(), strict=True):
            for k, (process, variant) in enumerate(product(PROCESSES, inputs)):
                values = {}
                for student in students:
                    recipe, found = get_recipe(student), records_of_student(records, student, metric)
                    if recipe.process == process and variant in found:
                        values[recipe.method.steps] = [r.value for r in found[variant].values()]
                if variant == TEACHER_NETWORK:
                    ax.plot(list(values), [v[0] for v in values.values()], ":", color="gray")
                else:
                    seeds_line(ax, values, f"{process}, {inputs[variant]}", k)
            log_steps(ax, {get_recipe(student).method.steps for student in students})
            ax.set_title(f"{world}: {title}")
        row[0].set_yscale("log")
    axes[0, 0].legend(fontsize=8)
    return fig


def study_samples(records: list[Record], student: str) -> Figure:
    """Draw the first samples of every variant of a student of images, training seed 0, one row each."""
    world = get_world(get_recipe(student).world)
    return rows_of_images({name: world.show(x) for name, x in kept_samples(records, student).items()})


def averaging_curves(records: list[Record]) -> Figure:
    """Draw what `trajectories.record_averaging` recorded, one panel for each record.

    Raw weights are thin lines, averaged weights thick ones.
    """
    fig, axes = grid(1, len(records), (11 / len(records), 3))
    for ax, r in zip(axes[0], records, strict=True):
        seen = r.details["swings"]
        for k, (kind, width) in enumerate((("raw", 1), ("averaged", 2.5))):
            ax.plot(seen["updates"], seen[kind], color=PALETTE[k], linewidth=width, label=kind)
        ax.set_yscale("log")
        ax.set_title(f"{r.model}, seed {r.training_seed}", fontsize=9)
        ax.set_ylabel(r.name.replace("_", " "), fontsize=9)
    axes[0, 0].legend(fontsize=8)
    fig.supxlabel("updates", fontsize=9)
    return fig
