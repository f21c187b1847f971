"""Cells of tables: means over training seeds, intervals, missing values."""

import pandas as pd
from pandas import DataFrame

from dmmd_lite.utils.records import field_of, select


def by_steps(lines: dict[tuple, list[str]], steps: list[int], names: list[str]) -> DataFrame:
    """Lines of cells with a column for each number of steps; names: of the parts of a line's key."""
    columns = [f"{k} step" if k == 1 else f"{k} steps" for k in steps]
    frame = pd.DataFrame.from_dict(lines, orient="index", columns=columns)
    frame.index = pd.MultiIndex.from_tuples(frame.index, names=names)
    return frame


def value_cell(records: list[dict], model: str, steps: int, metric: str) -> str:
    found = values_by_seed(records, model, steps, metric)
    if len(found) > 1:
        return f"{sum(found) / len(found):.3f} ({min(found):.3f} to {max(found):.3f}, {len(found)} seeds)"
    alone = select(records, name=metric, model=model, steps=steps)[-1:]
    return "".join(f"{r['value']:.3f}{interval_text(r, 3)}" for r in alone)


def interval_text(record: dict, digits: int) -> str:
    """The 95 % interval of a record, where it has one."""
    low, high = record["low"], record["high"]
    return "" if low is None else f" [{low:.{digits}f}, {high:.{digits}f}]"


def values_by_seed(records: list[dict], model: str, steps: int, metric: str) -> list[float]:
    """One value a training seed; of several the last counts."""
    mine = select(records, name=metric, model=model, steps=steps)
    return list({field_of(r, "training_seed"): r["value"] for r in mine}.values())


def checkpoint_cell(records: list[dict], model: str, steps: int, metric: str) -> str:
    """Where in their training the checkpoints of a student's seeds were taken, in per cent; "last" if not
    chosen."""
    mine = {field_of(r, "training_seed"): r for r in select(records, name=metric, model=model, steps=steps)}
    runs = [r["provenance"]["training"] for r in mine.values()]
    if any(run.get("best_step") is None for run in runs):
        return "last"
    return ", ".join(f"{run['best_step'] / run['steps']:.0%}" for run in runs)


def as_html(table: DataFrame) -> str:
    """A table whose cells are HTML, without its index."""
    return table.to_html(escape=False, index=False, border=0)
