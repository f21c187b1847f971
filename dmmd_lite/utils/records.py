"""One measured number: a `Record` with everything needed to know what it means, and how records are read.

Metric functions fill the first block of fields; whoever samples a model adds the context with
`dataclasses.replace`. Records are plain JSON on disk, one list of them per file.
"""

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING

from dmmd_lite.utils.files import write_json
from dmmd_lite.utils.paths import data_dir

if TYPE_CHECKING:
    from pandas import DataFrame
    from torch import Tensor

RESULTS_READ = ".results_read"  # in a page's folder: names of the committed records it read, one a line


@dataclass(frozen=True)
class Record:
    """One measured number.

    value: the estimate. low, high: its 95 % interval (None where the number is exact).
    n: samples behind it. reference: what it is compared with. details: extractor, floors, settings.
    model, weights ("raw", "ema" or "exact"), steps (nominal), evaluations (network calls per sequence),
    seed (of sampling), world, temperature, top_p: how the samples were made.
    provenance: recipe, training seed, commit, hardware, versions, date.
    """

    name: str
    value: float
    low: float | None
    high: float | None
    n: int
    reference: str
    details: dict = field(default_factory=dict)
    model: str = ""
    world: str = ""
    weights: str = ""
    steps: int | None = None
    evaluations: float | None = None
    seed: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    provenance: dict = field(default_factory=dict)

    def to_dict(self) -> dict:
        """The record as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> "Record":
        """The inverse of `to_dict`; an unknown key is a ValueError that lists the known ones."""
        known = [f.name for f in fields(cls)]
        for key in values:
            if key not in known:
                raise ValueError(f"record key: {key!r} is not allowed; choose from {known}")
        return cls(**values)


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


CHARACTERS = "0123456789abcdefghijklmnopqrstuvwxyz"


def to_text(tokens: "Tensor") -> list[str]:
    """Tokens [n, L] as n strings of L characters. ValueError for a token of 36 or more."""
    if tokens.max() >= len(CHARACTERS):
        raise ValueError(f"tokens: {int(tokens.max())} is not allowed; only 0 to {len(CHARACTERS) - 1}")
    return ["".join(CHARACTERS[token] for token in row) for row in tokens.tolist()]


def from_text(rows: Iterable[str]) -> "Tensor":
    """The inverse of `to_text`: tokens [n, L]."""
    import torch

    return torch.tensor([[CHARACTERS.index(character) for character in row] for row in rows])


def save_records(page: str, records: list[dict], **extra) -> None:
    """Write {"page": page, "records": records, **extra} as `<page>.json` beside the executed page.

    Does nothing where the page is not run by `run_page`, for instance in JupyterLab.
    """
    if folder := os.environ.get("DMMD_PAGE_OUT"):
        write_json(Path(folder, f"{page}.json"), {"page": page, "records": records, **extra})


def load_results(name: str) -> list[dict]:
    """Read the records of `data/results/<name>.json`, as written by `save_records`.

    A page that is run by `run_page` notes the name in the file `RESULTS_READ` of its folder, for its footer.
    Raises ValueError, listing the results there are, if there is none of this name.
    """
    known = {path.stem: path for path in sorted((data_dir() / "results").glob("*.json"))}
    if name not in known:
        raise ValueError(f"results: {name!r} does not exist; choose from {list(known)}")
    if folder := os.environ.get("DMMD_PAGE_OUT"):
        with Path(folder, RESULTS_READ).open("a") as file:
            file.write(f"{name}\n")
    return json.loads(known[name].read_text())["records"]
