"""Figures of sweeps."""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from dmmd_lite.report.plots import interval_line
from dmmd_lite.utils.records import select


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
