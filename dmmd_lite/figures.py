"""Figures of the comparison of methods; each takes what it shows and returns a figure."""

from collections.abc import Callable
from itertools import product

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from dmmd_lite.boards import of_seeds
from dmmd_lite.leaderboard import NAMES, STEPS, teacher
from dmmd_lite.metrics.limits import one_step_sdtt
from dmmd_lite.plots import MARKERS, PALETTE, image_grid, interval_line, log_steps, seeds_line
from dmmd_lite.processes import PROCESSES
from dmmd_lite.recipes import get_recipe
from dmmd_lite.results import field_of, select
from dmmd_lite.students import student_for
from dmmd_lite.studies import BEFORE, PLAIN, WITHOUT, by_world, kept_samples, of_student, variants
from dmmd_lite.worlds import get_world
from dmmd_lite.worlds.enumerable import EnumerableWorld


def stacked_laws(laws: dict[str, np.ndarray], world: EnumerableWorld) -> Figure:
    """Laws [V^L] as stacked bars, one a name; what never occurs in the world is hatched."""
    fig, ax = plt.subplots(figsize=(8, 0.34 * len(laws) + 1.2))
    left = np.zeros(len(laws))
    for k, outcome in enumerate(world.show(world.all_sequences())):
        share = np.array([float(law[k]) for law in laws.values()])
        hatch = "//" if world.law()[k] == 0 else ""
        ax.barh(list(laws), share, left=left, color=PALETTE[k], hatch=hatch, label=outcome)
        left += share
    ax.invert_yaxis()
    ax.set_xlim(0, 1)
    ax.set_xlabel("probability (hatched: never occurs in the world)")
    ax.tick_params(labelsize=9)
    ax.legend(ncols=4, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    fig.tight_layout()
    return fig


def laws_on_the_way(films: dict[str, dict], world: EnumerableWorld) -> Figure:
    """Films (`watching.film`) of several students: the probability of every outcome that occurs, and of all
    that never do, against the part of the training; dotted where the world has them."""
    truth, outcomes = world.law().numpy(), world.show(world.all_sequences())
    fig, axes = _panels(len(films), 4, 2.3)
    for ax, (name, strip) in zip(axes, films.items(), strict=True):
        way, law = np.array(strip["updates"]) / strip["updates"][-1], np.array(strip["laws"])
        for k in np.flatnonzero(truth):  # in the colours of `stacked_laws`
            look = {"color": PALETTE[k], "marker": MARKERS[k], "markersize": 3, "linewidth": 1}
            ax.plot(way, law[:, k], label=outcomes[k], **look)
            ax.axhline(truth[k], color=PALETTE[k], linestyle=":", linewidth=1)
        ax.plot(way, law[:, truth == 0].sum(1), "--", color="gray", label="never occur", linewidth=1)
        ax.set_title(name, fontsize=9)
        ax.set_ylim(0, 1)
    axes[0].legend(fontsize=7)
    fig.supxlabel("part of the training", fontsize=9)
    fig.supylabel("probability", fontsize=9)
    fig.tight_layout()
    return fig


def rows_of_images(images: dict[str, np.ndarray]) -> Figure:
    """Equally many images [n, height, width] of every name, a titled row each."""
    columns = len(next(iter(images.values())))
    fig = image_grid([image for row in images.values() for image in row], columns)
    for row, name in enumerate(images):
        fig.axes[columns * row].set_title(name, fontsize=8, loc="left", pad=2)
    fig.set_figheight(0.66 * len(images))
    fig.subplots_adjust(hspace=0.45)
    return fig


def class_shares(found: dict[str, dict]) -> Figure:
    """Details of `class_histogram` records: shares of the classes as bars, the reference's as a line."""
    fig, axes = _panels(len(found), 5, 1.7)
    for ax, (name, details) in zip(axes, found.items(), strict=True):
        real = details["reference_shares"]
        ax.bar(range(len(real)), details["shares"], color=PALETTE[0])
        ax.step(np.arange(-0.5, len(real)), [*real, real[-1]], where="post", color="black")
        ax.set_title(name, fontsize=8)
        ax.set_xticks(range(len(real)))
        ax.tick_params(labelsize=7)
    fig.tight_layout()
    return fig


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
        values = {k: of_seeds(records, name, k, metric) for k, name in names.items()}
        if any(values.values()):
            seeds_line(ax, values, label, place)
    ax.set_xscale("log", base=2)
    ax.set_xticks(STEPS, STEPS)
    ax.set_xlabel("sampling steps")
    ax.set_ylabel(metric.replace("_", " "))
    ax.set_title(f"{world}, {process}", fontsize=10)
    ax.legend(fontsize=7)


def _panels(number: int, columns: int, height: float) -> tuple[Figure, list]:
    """So many small panels of equal axes."""
    rows = -(-number // columns)
    fig, axes = plt.subplots(
        rows, columns, figsize=(11, height * rows), sharex=True, sharey=True, squeeze=False
    )
    for ax in axes.flat[number:]:
        ax.axis("off")
    return fig, list(axes.flat[:number])


def swept_metrics(rows: list[dict], swept: list[str]) -> Figure:
    """Records of a sweep (`sweep.gather`), a panel a metric, against the first swept column that varies.

    A line for every combination of the other swept columns, and of the fields that tell the records of one
    run apart. Values that are no numbers stand in the order in which they come.
    """
    rows = [{"low": None, "high": None, **row} for row in rows if row["name"] is not None]
    x, *others = [key for key in swept if len({row[key] for row in rows}) > 1] or ["run"]
    fields = [key for key in ("model", "steps", "temperature", "top_p", "seed") if key in rows[0]]
    pairs = {key: {(row["run"], row[key]) for row in rows} for key in fields}
    others += [key for key, found in pairs.items() if len(found) > len({run for run, _ in found})]
    places = list(dict.fromkeys(row[x] for row in rows))
    numeric = all(isinstance(place, int | float) and not isinstance(place, bool) for place in places)
    lines, metrics = {}, list(dict.fromkeys(row["name"] for row in rows))
    for row in rows:
        at = row[x] if numeric else places.index(row[x])
        lines.setdefault(tuple(row[key] for key in others), []).append({**row, x: at})
    columns = min(3, len(metrics))
    size = (4 * columns + 3 * bool(others), 3.4 * -(-len(metrics) // columns))
    fig, axes = plt.subplots(
        -(-len(metrics) // columns), columns, figsize=size, squeeze=False, layout="constrained"
    )
    legend = {}
    for ax, metric in zip(axes.flat, metrics, strict=False):
        for place, (values, found) in enumerate(lines.items()):
            named = zip(others, values, strict=True)
            label = ", ".join(f"{key.removeprefix('p_')} {value}" for key, value in named)
            interval_line(ax, select(found, name=metric), x, label, place)
        legend |= {label: handle for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
        if not numeric:
            ax.set_xticks(range(len(places)), places)
        ax.set_xlabel(x.removeprefix("p_"))
        ax.set_ylabel(metric.replace("_", " "))
    for ax in list(axes.flat)[len(metrics) :]:
        ax.axis("off")
    if others:
        fig.legend(legend.values(), legend, loc="outside right upper", fontsize=7)
    return fig


def study_dots(records: list[dict], study: str, student: str, metric: str) -> Figure:
    """Values of all variants of a student, one line each, a point a training seed; the range of the plain
    variant is shaded."""
    found = of_student(records, student, metric)
    names = [name for name in variants(study, student) if name in found]
    fig, ax = plt.subplots(figsize=(8, 0.3 * len(names) + 1), layout="constrained")
    for line, name in enumerate(names):
        for seed, r in found[name].items():
            look = {"color": PALETTE[seed % len(PALETTE)], "marker": MARKERS[seed % len(MARKERS)]}
            ends = [r["value"] if r[side] is None else r[side] for side in ("low", "high")]
            ax.plot(ends, [line, line], color=look["color"], linewidth=1)
            ax.plot(r["value"], line, **look)
    plain = [r["value"] for r in found.get(PLAIN, {}).values()]
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
    found, process = of_student(records, student, metric), get_recipe(student).process
    series, before = list(PROCESSES).index(process), found.pop(BEFORE, {})
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
            for k, (process, variant) in enumerate(product(PROCESSES, (PLAIN, WITHOUT, BEFORE))):
                values = {}
                for student in students:
                    recipe, found = get_recipe(student), of_student(records, student, metric)
                    if recipe.process == process and variant in found:
                        values[recipe.method.steps] = [r["value"] for r in found[variant].values()]
                if variant == BEFORE:
                    ax.plot(list(values), [v[0] for v in values.values()], ":", color="gray")
                else:
                    label = f"{process}, {'with' if variant == PLAIN else 'without'} noise"
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


def clamp_curve(records: list[dict], here: list[dict], world: EnumerableWorld) -> Figure:
    """Where one round of SDTT ends on the coins, against the clamp: the least loss as a line, committed
    students filled, those trained `here` hollow."""
    curve = np.logspace(-20, -3, 18)
    fig, ax = plt.subplots(figsize=(6, 3.6))
    least = [float(one_step_sdtt(world, clamp)[0, 0]) for clamp in curve]
    ax.plot(curve, least, color=PALETTE[0], label="reverse KL, least loss")
    marginal = float(world.law().view([world.vocab_size] * world.length)[0].sum())
    ax.axhline(marginal, color="black", linestyle=":", label="marginal of the world")
    for k, divergence in enumerate(("reverse_kl", "forward_kl")):
        for source, colour in ((records, PALETTE[k]), (here, "white")):
            points = [r for r in source if r["details"].get("divergence") == divergence]
            at = [r["details"]["clamp"] for r in points]
            heads = [sum(r["details"]["heads"]) / 2 for r in points]
            label = divergence.replace("_kl", " KL") + (", computed here" if source is here else ", seeds")
            ax.plot(at, heads, MARKERS[k], color=PALETTE[k], markerfacecolor=colour, label=label)
    ax.set_xscale("log")
    ax.set_xlabel("clamp: least probability of a target")
    ax.set_ylabel("probability of heads")
    ax.legend(fontsize=8)
    return fig


def text_frontier(records: list[dict]) -> Figure:
    """Text models sampled at several top-p: perplexity against the share of distinct 4-grams, and the
    gradient moment against top-p. Records of one world and one number of steps."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    metrics = ("perplexity", "distinct_4grams", "gradient_moment")
    for place, model in enumerate(dict.fromkeys(r["model"] for r in records)):
        found = {m: {r["top_p"]: r["value"] for r in select(records, model=model, name=m)} for m in metrics}
        at = sorted(found["gradient_moment"])
        look = {"color": PALETTE[place % len(PALETTE)], "marker": MARKERS[place % len(MARKERS)]}
        across, up = ([found[m][p] for p in at] for m in ("perplexity", "distinct_4grams"))
        left.plot(across, up, label=model.split("-", 1)[1], **look)
        right.plot(at, [found["gradient_moment"][p] for p in at], **look)
    left.set_xlabel("perplexity")
    left.set_xscale("log")
    left.set_ylabel("distinct 4-grams")
    left.legend(fontsize=7)
    right.set_xlabel("sampling top-p")
    right.set_ylabel("gradient moment")
    right.set_yscale("log")
    return fig
