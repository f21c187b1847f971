"""One style for every figure: colours, markers, intervals, grids of panels and of images."""

from collections.abc import Iterable, Sequence

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dmmd_lite.utils.records import Record

sns.set_theme(context="notebook", style="whitegrid", palette="colorblind")
PALETTE = sns.color_palette("colorblind")
MARKERS = "osD^vPX*"


def grid(
    rows: int, columns: int, panel: tuple[float, float] = (5.5, 3.5), number: int | None = None, **options
) -> tuple[Figure, np.ndarray]:
    """Make a figure of equal panels and return it with its axes [rows, columns].

    Args:
    panel: width and height of one panel, inches.
    number: panels in use, in reading order; the others stay blank.
    options: keyword arguments of `plt.subplots`.
    """
    size = (panel[0] * columns, panel[1] * rows)
    fig, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained", **options)
    for ax in axes.flat[number:] if number is not None else ():
        ax.axis("off")
    return fig, axes


def series_style(series: int) -> dict:
    """Return the colour and the marker of a series, as keyword arguments of `plot`."""
    return {"color": PALETTE[series % len(PALETTE)], "marker": MARKERS[series % len(MARKERS)]}


def image_grid(images: Sequence[np.ndarray], columns: int = 16, title: str = "") -> Figure:
    """Draw uint8 images [height, width(, 3)] side by side."""
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    size = (0.5 * columns, 0.5 * rows + 0.3 * bool(title))
    fig, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for ax, image in zip(axes.flat, images, strict=False):
        ax.imshow(image, cmap="gray_r", vmin=0, vmax=255)
    fig.subplots_adjust(wspace=0.08, hspace=0.08)
    if title:
        fig.suptitle(title, fontsize=10)
    return fig


def rows_of_images(images: dict[str, np.ndarray]) -> Figure:
    """Draw one titled row for each name: equally many images [n, height, width] of every name."""
    columns = len(next(iter(images.values())))
    fig = image_grid([image for row in images.values() for image in row], columns)
    for row, name in enumerate(images):
        fig.axes[columns * row].set_title(name, fontsize=8, loc="left", pad=2)
    fig.set_figheight(0.66 * len(images))
    fig.subplots_adjust(hspace=0.45)
    return fig


def interval_line(
    ax: Axes, records: Iterable[Record], x: str, label: str, series: int, live: bool = False
) -> None:
    """Draw values with their 95 % intervals against the field `x`.

    Args:
    series: decides the colour and the marker.
    live: whether a page has just computed the records: hollow markers without a line. Committed records are
    a line of filled markers.
    """
    ordered = sorted(records, key=lambda r: getattr(r, x))
    if not ordered:
        return
    style = {"capsize": 2, "markersize": 6} | series_style(series)
    if live:
        style |= {"linestyle": "none", "markerfacecolor": "white"}
    value = np.array([r.value for r in ordered])
    low = np.array([r.value if r.low is None else r.low for r in ordered])
    high = np.array([r.value if r.high is None else r.high for r in ordered])
    between = np.clip([value - low, high - value], 0, None)
    ax.errorbar([getattr(r, x) for r in ordered], value, yerr=between, label=label, **style)


def seeds_line(ax: Axes, values: dict[float, list[float]], label: str, series: int) -> None:
    """Draw means over training seeds, {x: one value per seed}, with bars from minimum to maximum."""
    at = sorted(x for x, found in values.items() if found)
    means = np.array([np.mean(values[x]) for x in at])
    between = [means - [min(values[x]) for x in at], [max(values[x]) for x in at] - means]
    style = {"capsize": 2, "markersize": 6} | series_style(series)
    ax.errorbar(at, means, yerr=np.clip(between, 0, None), label=label, **style)


def log_steps(ax: Axes, steps: Iterable[int], label: str = "sampling steps") -> None:
    """Make the x axis logarithmic, with the numbers of steps written out."""
    steps = sorted(set(steps))
    ax.set_xscale("log", base=2)
    ax.set_xticks(steps, [str(s) for s in steps])
    ax.set_xlabel(label)


def class_shares(found: dict[str, dict]) -> Figure:
    """Draw the shares of classes, one panel for each name; the shares of the reference are a line.

    Args:
    found: name -> details of a `class_histogram` record.
    """
    fig, axes = grid(-(-len(found) // 5), 5, (2.2, 1.7), len(found), sharex=True, sharey=True)
    for ax, (name, details) in zip(axes.flat, found.items(), strict=False):
        real = details["reference_shares"]
        ax.bar(range(len(real)), details["shares"], color=PALETTE[0])
        ax.step(np.arange(-0.5, len(real)), [*real, real[-1]], where="post", color="black")
        ax.set_title(name, fontsize=8)
        ax.set_xticks(range(len(real)))
        ax.tick_params(labelsize=7)
    return fig
