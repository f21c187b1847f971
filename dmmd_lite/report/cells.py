"""Cells of tables: means over training seeds, intervals, checkpoints."""

import html
from collections.abc import Iterable

import pandas as pd
from pandas import DataFrame

from dmmd_lite.utils.records import Record, by_seed, select

pd.options.styler.format.escape = "html"  # as in tables without a style


def steps_text(steps: int) -> str:
    """Return "1 step" or "4 steps"."""
    return f"{steps} step{'s' * (steps > 1)}"


def by_steps(lines: dict[tuple, list[str]], steps: list[int], names: list[str]) -> DataFrame:
    """Return lines of cells as a table with one column for each number of steps.

    Args:
    lines: key of a row -> its cells.
    names: names of the parts of a key.
    """
    frame = pd.DataFrame.from_dict(lines, orient="index", columns=[steps_text(k) for k in steps])
    frame.index = pd.MultiIndex.from_tuples(frame.index, names=names)
    return frame


def values_by_seed(records: Iterable[Record], model: str, steps: int, metric: str) -> list[float]:
    """Return one value for each training seed."""
    return [r.value for r in by_seed(select(records, name=metric, model=model, steps=steps)).values()]


def value_cell(records: Iterable[Record], model: str, steps: int, metric: str) -> str:
    """Return the mean over training seeds with minimum and maximum; the interval where there is one seed."""
    found = by_seed(select(records, name=metric, model=model, steps=steps)).values()
    values = [r.value for r in found]
    if len(values) > 1:
        return (
            f"{sum(values) / len(values):.3f} ({min(values):.3f} to {max(values):.3f}, {len(values)} seeds)"
        )
    return "".join(r.text(3) for r in found)


def checkpoint_cell(records: Iterable[Record], model: str, steps: int, metric: str) -> str:
    """Return the part of the training after which each seed's checkpoint was taken, per cent.

    "last" stands for checkpoints that were not chosen.
    """
    found = by_seed(select(records, name=metric, model=model, steps=steps)).values()
    runs = [r.provenance["training"] for r in found]
    if any(run.get("best_step") is None for run in runs):
        return "last"
    return ", ".join(f"{run['best_step'] / run['steps']:.0%}" for run in runs)


def as_html(table: DataFrame, linked: str) -> str:
    """Return a table as HTML, without its index. linked: the column whose cells are HTML, such as links."""
    others = [name for name in table.columns if name != linked]
    text = table.assign(**table[others].map(lambda cell: html.escape(str(cell))))
    return text.to_html(escape=False, index=False, border=0)
