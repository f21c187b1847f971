"""One look for every figure: colours, markers, intervals, image grids."""

from collections.abc import Iterable, Sequence

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

sns.set_theme(context="notebook", style="whitegrid", palette="colorblind")


PALETTE = sns.color_palette("colorblind")
MARKERS = "osD^vPX*"


def image_grid(images: Sequence[np.ndarray], columns: int = 16, title: str = "") -> Figure:
    """uint8 images [height, width(, 3)] side by side."""
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    fig, axes = plt.subplots(
        rows, columns, figsize=(0.5 * columns, 0.5 * rows + 0.3 * bool(title)), squeeze=False
    )
    for ax in axes.flat:
        ax.axis("off")
    for ax, image in zip(axes.flat, images, strict=False):
        ax.imshow(image, cmap="gray_r", vmin=0, vmax=255)
    fig.subplots_adjust(wspace=0.08, hspace=0.08)
    if title:
        fig.suptitle(title, fontsize=10)
    return fig


def interval_line(ax, records: Iterable[dict], x: str, label: str, series: int, live: bool = False) -> None:
    """Values against field `x` with 95 % intervals. Committed records are a filled line of `series`' colour
    and marker; what a page computed live is drawn hollow, beside it."""
    ordered = sorted(records, key=lambda r: r[x])
    if not ordered:
        return
    at, value = [r[x] for r in ordered], np.array([r["value"] for r in ordered])
    spread = np.array(
        [
            [
                r["value"] - (r["value"] if r["low"] is None else r["low"]),
                (r["value"] if r["high"] is None else r["high"]) - r["value"],
            ]
            for r in ordered
        ]
    ).T
    look = {
        "color": PALETTE[series % len(PALETTE)],
        "marker": MARKERS[series % len(MARKERS)],
        "capsize": 2,
        "markersize": 6,
    }
    if live:
        look |= {"linestyle": "none", "markerfacecolor": "white"}
    ax.errorbar(at, value, yerr=spread.clip(min=0), label=label, **look)


def log_steps(ax, steps: Iterable[int], label: str = "sampling steps") -> None:
    """A logarithmic axis with the steps written out."""
    steps = sorted(set(steps))
    ax.set_xscale("log", base=2)
    ax.set_xticks(steps, [str(s) for s in steps])
    ax.set_xlabel(label)


def seeds_line(ax, values: dict[int, list[float]], label: str, series: int) -> None:
    """Means over training seeds, {x: one value a seed}, with bars from the least to the most of them."""
    at = sorted(x for x, found in values.items() if found)
    means = np.array([np.mean(values[x]) for x in at])
    spread = [means - [min(values[x]) for x in at], [max(values[x]) for x in at] - means]
    look = {"color": PALETTE[series % len(PALETTE)], "marker": MARKERS[series % len(MARKERS)]}
    ax.errorbar(at, means, yerr=np.clip(spread, 0, None), label=label, capsize=2, markersize=6, **look)


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
    fig, axes = panels(len(found), 5, 1.7)
    for ax, (name, details) in zip(axes, found.items(), strict=True):
        real = details["reference_shares"]
        ax.bar(range(len(real)), details["shares"], color=PALETTE[0])
        ax.step(np.arange(-0.5, len(real)), [*real, real[-1]], where="post", color="black")
        ax.set_title(name, fontsize=8)
        ax.set_xticks(range(len(real)))
        ax.tick_params(labelsize=7)
    fig.tight_layout()
    return fig


def panels(number: int, columns: int, height: float) -> tuple[Figure, list]:
    """So many small panels of equal axes."""
    rows = -(-number // columns)
    fig, axes = plt.subplots(
        rows, columns, figsize=(11, height * rows), sharex=True, sharey=True, squeeze=False
    )
    for ax in axes.flat[number:]:
        ax.axis("off")
    return fig, list(axes.flat[:number])
