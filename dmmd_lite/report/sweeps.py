"""Figures of sweeps."""

from types import SimpleNamespace

from matplotlib.figure import Figure

from dmmd_lite.report.plots import grid, interval_line
from dmmd_lite.utils.records import select

FIELDS = ("model", "steps", "temperature", "top_p", "seed")  # they distinguish the records of one run


def swept_metrics(rows: list[dict], swept: list[str]) -> Figure:
    """Draw the records of a sweep, one panel for each metric, against the first swept column that varies.

    There is one line for each combination of the other swept columns that vary and of the fields in which
    records of one run differ. Values that are no numbers have equal distances, in their order.

    Args:
    rows: rows of the parquet file that `sweep.gather` writes.
    swept: names of the swept columns, "p_NAME".
    """
    rows = [{"low": None, "high": None, **row} for row in rows if row["name"] is not None]
    x, *others = [key for key in swept if len({row[key] for row in rows}) > 1] or ["run"]
    pairs = {key: {(row["run"], row[key]) for row in rows} for key in FIELDS if key in rows[0]}
    others += [key for key, found in pairs.items() if len(found) > len({run for run, _ in found})]
    places = list(dict.fromkeys(row[x] for row in rows))
    numeric = all(isinstance(place, int | float) and not isinstance(place, bool) for place in places)
    lines, metrics = {}, list(dict.fromkeys(row["name"] for row in rows))
    for row in rows:
        point = SimpleNamespace(**row | {x: row[x] if numeric else places.index(row[x])})
        lines.setdefault(tuple(row[key] for key in others), []).append(point)
    columns = min(3, len(metrics))
    fig, axes = grid(-(-len(metrics) // columns), columns, (4 + bool(others), 3.4), len(metrics))
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
    if others:
        fig.legend(legend.values(), legend, loc="outside right upper", fontsize=7)
    return fig
