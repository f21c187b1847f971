"""What came out of a study: verdicts on what was expected, tables and figures."""

from collections.abc import Callable, Iterable
from itertools import product
from math import inf

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from pandas import DataFrame
from torch import Tensor

from dmmd_lite.metrics.bootstrap import bootstrap_mean
from dmmd_lite.processes import PROCESSES
from dmmd_lite.recipes.catalogue import get_recipe
from dmmd_lite.recipes.world_settings import settings_of
from dmmd_lite.report.plots import MARKERS, PALETTE, log_steps, rows_of_images, seeds_line
from dmmd_lite.studies.definitions import STUDIES
from dmmd_lite.studies.run import variants
from dmmd_lite.studies.study import BASELINE, DIVERGED, NO_NOISE_INPUT, SEEDS, TEACHER_NETWORK
from dmmd_lite.utils.records import field_of, from_text, select, spread, table
from dmmd_lite.worlds import get_world


def by_world(study: str) -> list[list[str]]:
    """The students of a study, those of one world together."""
    worlds: dict[str, list[str]] = {}
    for student in STUDIES[study].students:
        worlds.setdefault(get_recipe(student).world, []).append(student)
    return list(worlds.values())


def records_of_student(records: Iterable[dict], student: str, metric: str) -> dict[str, dict[int, dict]]:
    """Records of a metric: variant -> training seed -> record; of several for one seed the last counts."""
    found: dict[str, dict[int, dict]] = {}
    for r in select(records, name=metric, model=lambda name: name.startswith(f"{student}: ")):
        found.setdefault(r["details"]["variant"], {})[field_of(r, "training_seed")] = r
    return found


def kept_samples(records: Iterable[dict], student: str) -> dict[str, Tensor]:
    """The first samples of every variant of a student of images, training seed 0, as tokens [n, L]."""
    found = records_of_student(records, student, "class_histogram")
    return {name: from_text(r[0]["details"]["samples"]) for name, r in found.items() if 0 in r}


def verdicts(study: str, records: list[dict]) -> list[dict[str, str]]:
    """What became of the expectations: a row for each of them and each student that has its variants.

    Training seeds differ by more than samples do, so what counts is whether all seeds of one variant are
    below all of the other: "confirmed" or "refuted" with three seeds of both (the network before
    distillation has one), "seen" or "not seen" with fewer; "undecided" is anything between. A training that
    diverged is infinitely bad.
    """
    rows = []
    for student in STUDIES[study].students:
        recipe, known = get_recipe(student), variants(study, student)
        for expected in STUDIES[study].expected:
            mine = expected.process in ("", recipe.process)
            if mine and {expected.less, expected.more} <= known.keys():
                found = records_of_student(
                    records, student, expected.metric or settings_of(recipe.world).judged_by[0]
                )
                diverged = records_of_student(records, student, DIVERGED)
                less, more = (
                    [r["value"] for r in found.get(v, {}).values()] + [inf] * len(diverged.get(v, {}))
                    for v in (expected.less, expected.more)
                )
                needed = [1 if v == TEACHER_NETWORK else SEEDS for v in (expected.less, expected.more)]
                enough = len(less) >= needed[0] and len(more) >= needed[1]
                came = "not run yet"
                if less and more:
                    came = f"{_verdict(less, more, enough)}: {spread(less)} against {spread(more)}"
                rows.append({"student": student, "expected": expected.text, "came out": came})
    return rows


def _verdict(less: list[float], more: list[float], enough: bool) -> str:
    if max(less) < min(more):
        return "confirmed" if enough else "seen"
    if min(less) > max(more):
        return "refuted" if enough else "not seen"
    return "undecided"


def verdict_table(study: str, records: list[dict]) -> DataFrame:
    """What was expected of a study (`studies.verdicts`) and what came out."""
    return pd.DataFrame(verdicts(study, records)).set_index(["student", "expected"])


def study_table(records: Iterable[dict]) -> DataFrame:
    """Every training of a study: its changes to the recipe and what it measured."""
    found = [r for r in records if "variant" in r["details"]]
    return table(found, ["model", "changes", "training_seed", "steps", "n"], digits=3)


def noise_ratios(study: str, records: list[dict]) -> DataFrame:
    """Fréchet distance and output entropy of students with noise input over those without, means over the
    training seeds both have, with the least and the most of them."""
    lines: dict[tuple, dict] = {}
    for student, metric in product(STUDIES[study].students, ("frechet", "output_entropy")):
        found, recipe = records_of_student(records, student, metric), get_recipe(student)
        mine, without = found.get(BASELINE, {}), found.get(NO_NOISE_INPUT, {})
        ratios = [mine[seed]["value"] / without[seed]["value"] for seed in mine.keys() & without.keys()]
        if ratios:
            spread = f" ({min(ratios):.2f} to {max(ratios):.2f}, {len(ratios)} seeds)" if ratios[1:] else ""
            line = lines.setdefault((recipe.world, recipe.process, metric.replace("_", " ")), {})
            steps = recipe.method.steps
            line[f"{steps} step{'s' * (steps > 1)}"] = f"{sum(ratios) / len(ratios):.2f}{spread}"
    return pd.DataFrame.from_dict(lines, orient="index").fillna("")


def level_shares(study: str, records: list[dict]) -> DataFrame:
    """How much of an image has the most frequent level of its world's test images: in these, and in the
    samples kept of every variant, training seed 0, with 95 % intervals over images."""
    columns: dict[str, dict[str, str]] = {}
    for student in STUDIES[study].students:
        test = get_world(get_recipe(student).world).split("test")
        level = int(test.flatten().mode().values)
        column = columns.setdefault(f"{student}: level {level}", {})
        for name, tokens in ({"test images": test} | kept_samples(records, student)).items():
            share, low, high = bootstrap_mean((tokens == level).double().mean(-1).numpy())
            column[name] = f"{share:.3f} [{low:.3f}, {high:.3f}]"
    return pd.DataFrame(columns).fillna("")


def study_dots(records: list[dict], study: str, student: str, metric: str) -> Figure:
    """Values of all variants of a student, one line each, a point a training seed; the range of the plain
    variant is shaded."""
    found = records_of_student(records, student, metric)
    names = [name for name in variants(study, student) if name in found]
    fig, ax = plt.subplots(figsize=(8, 0.3 * len(names) + 1), layout="constrained")
    for line, name in enumerate(names):
        for seed, r in found[name].items():
            look = {"color": PALETTE[seed % len(PALETTE)], "marker": MARKERS[seed % len(MARKERS)]}
            ends = [r["value"] if r[side] is None else r[side] for side in ("low", "high")]
            ax.plot(ends, [line, line], color=look["color"], linewidth=1)
            ax.plot(r["value"], line, **look)
    plain = [r["value"] for r in found.get(BASELINE, {}).values()]
    if plain:
        ax.axvspan(min(plain), max(plain), color="gray", alpha=0.25)
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.set_xscale("log")
    ax.set_xlabel(metric.replace("_", " "))
    ax.set_title(student, fontsize=10)
    return fig


def study_lines(
    ax, records: list[dict], student: str, metric: str, at: Callable[[dict], float | None]
) -> None:
    """A metric of a student's variants against at(changes to the recipe), None leaving a variant out: means
    over training seeds, bars from the least to the most; dotted what there was before distillation."""
    found, process = records_of_student(records, student, metric), get_recipe(student).process
    series, before = list(PROCESSES).index(process), found.pop(TEACHER_NETWORK, {})
    places = {}
    for by_seed in found.values():
        place = at(next(iter(by_seed.values()))["details"]["changes"])
        if place is not None:
            places[place] = [r["value"] for r in by_seed.values()]
    seeds_line(ax, places, process, series)
    for r in before.values():
        ax.axhline(r["value"], color=PALETTE[series], linestyle=":")


def noise_input_lines(study: str, records: list[dict]) -> Figure:
    """Fréchet distance and output entropy of students with noise input and without, against their steps, a
    row a world; dotted the teacher in as many steps."""
    titles = {"frechet": "Fréchet distance", "output_entropy": "output entropy, nats"}
    worlds = by_world(study)
    size = (11, 3.6 * len(worlds))
    fig, axes = plt.subplots(len(worlds), 2, figsize=size, squeeze=False, layout="constrained")
    for row, students in zip(axes, worlds, strict=True):
        for ax, (metric, title) in zip(row, titles.items(), strict=True):
            for k, (process, variant) in enumerate(
                product(PROCESSES, (BASELINE, NO_NOISE_INPUT, TEACHER_NETWORK))
            ):
                values = {}
                for student in students:
                    recipe, found = get_recipe(student), records_of_student(records, student, metric)
                    if recipe.process == process and variant in found:
                        values[recipe.method.steps] = [r["value"] for r in found[variant].values()]
                if variant == TEACHER_NETWORK:
                    ax.plot(list(values), [v[0] for v in values.values()], ":", color="gray")
                else:
                    label = f"{process}, {'with' if variant == BASELINE else 'without'} noise"
                    seeds_line(ax, values, label, k)
            log_steps(ax, {get_recipe(student).method.steps for student in students})
            ax.set_title(f"{get_recipe(students[0]).world}: {title}")
        row[0].set_yscale("log")
    axes[0, 0].legend(fontsize=8)
    return fig


def study_samples(records: list[dict], student: str) -> Figure:
    """The first samples of every variant of a student of images, training seed 0, a row each."""
    world = get_world(get_recipe(student).world)
    return rows_of_images({name: world.show(x) for name, x in kept_samples(records, student).items()})


def swings_on_the_way(records: list[dict]) -> Figure:
    """What `watching.swings` saw, a panel a record: raw weights thin, averaged ones thick."""
    fig, axes = plt.subplots(1, len(records), figsize=(11, 3), layout="constrained", squeeze=False)
    for ax, r in zip(axes[0], records, strict=True):
        seen = r["details"]["swings"]
        for k, (kind, width) in enumerate((("raw", 1), ("averaged", 2.5))):
            ax.plot(seen["updates"], seen[kind], color=PALETTE[k], linewidth=width, label=kind)
        ax.set_yscale("log")
        ax.set_title(f"{r['model']}, seed {field_of(r, 'training_seed')}", fontsize=9)
        ax.set_ylabel(r["name"].replace("_", " "), fontsize=9)
    axes[0, 0].legend(fontsize=8)
    fig.supxlabel("updates", fontsize=9)
    return fig
