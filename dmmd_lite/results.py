"""Reading records, the dictionaries that `load_results` gives: pick some, tabulate them, choose by them.

Besides a record's own fields every function knows `training_seed` (0 where nothing was trained) and `split`,
that of the real data it is compared with ("test" where none is named).
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # pandas belongs to the extra `book`
    from pandas import DataFrame


def field_of(record: dict, field: str):
    """The value of a record's field, or of `training_seed`, `split`, `greedy_tail` or, in words, `changes` to
    the recipe."""
    match field:
        case "training_seed":
            return record["provenance"].get("training_seed", 0)
        case "split":
            return record["details"].get("split", "test")
        case "greedy_tail":  # None where nothing is said of it
            return record["details"].get(field)
        case "changes":
            changed = record["details"].get("changes", {})
            return ", ".join(f"{key} = {value}" for key, value in changed.items()) or "none"
        case _:
            return record[field]


def select(records: Iterable[dict], **wanted) -> list[dict]:
    """Records whose fields have the values asked for, or make a function asked for true."""

    def fits(record: dict, field: str, value) -> bool:
        found = field_of(record, field)
        return value(found) if isinstance(value, Callable) else found == value

    return [r for r in records if all(fits(r, field, value) for field, value in wanted.items())]


def spread(values: list[float]) -> str:
    """The least and the most of some values, one a training seed, and how many there are."""
    ends = dict.fromkeys(f"{v:.3g}" for v in (min(values), max(values)))
    return " to ".join(ends) + (f" ({len(values)} seeds)" if len(values) > 1 else "")


def best_top_p(records: Iterable[dict], model: str, steps: int | None = None) -> float:
    """The sampling top-p of a model's least gradient moment on the validation split, training seed 0; 1 where
    none was tried. steps: choose among the trials in so many sampling steps, if there are any."""
    tried = select(records, name="gradient_moment", model=model, split="valid", training_seed=0)
    tried = select(tried, steps=steps) or tried
    return min(tried, key=lambda r: r["value"])["top_p"] if tried else 1.0


def table(records: Iterable[dict], rows: list[str], columns: str = "name", digits: int = 4) -> "DataFrame":
    """Records as a table of "value [low, high]", a row for every combination of the fields `rows`.

    Of several records for one cell the first is shown. Rows and columns come in the order of the records.
    """
    import pandas as pd

    lines: dict[tuple, dict] = {}
    for r in records:
        spread = "" if r["low"] is None else f" [{r['low']:.{digits}f}, {r['high']:.{digits}f}]"
        line = lines.setdefault(tuple(_written(field_of(r, field)) for field in rows), {})
        line.setdefault(field_of(r, columns), f"{r['value']:.{digits}f}{spread}")
    index = pd.MultiIndex.from_tuples(list(lines), names=rows)
    seen = dict.fromkeys(column for line in lines.values() for column in line)
    frame = pd.DataFrame(list(lines.values()), index=index, columns=list(seen))
    return frame.fillna("").rename_axis(columns=columns)


def _written(value):
    """A row's label: nothing for None, two decimals at most."""
    return "" if value is None else round(value, 2) if isinstance(value, float) else value
