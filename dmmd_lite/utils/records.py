"""One measured number, a `Record`, with everything needed to know what it means, and how records are read.

Metric functions fill the first block of fields; whoever samples a model adds the context with
`dataclasses.replace`. Records are plain JSON on disk, one list of them per file.
"""

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING

from dmmd_lite.utils.checks import Name, check, check_choice
from dmmd_lite.utils.extras import require
from dmmd_lite.utils.files import append_line, write_json
from dmmd_lite.utils.paths import data_dir

if TYPE_CHECKING:
    from pandas import DataFrame
    from torch import Tensor

RESULTS_READ = ".results_read"  # in a page's folder: names of the committed records it read, one a line
LEVEL = 0.95  # of intervals, unless a record says otherwise
CHARACTERS = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Record:
    """One measured number.

    Args:
    value: the estimate.
    low, high: its interval, None where the number is exact.
    n: number of samples behind it.
    reference: what it is compared with.
    details: extractor, floors, settings.
    model: name of the model.
    world: name of the world.
    weights: "raw", "ema" or "exact".
    steps: nominal sampling steps.
    evaluations: network calls per sequence.
    seed: of sampling.
    temperature, top_p: how the samples were sharpened.
    provenance: recipe, training seed, commit, hardware, versions, date.
    level: how often such an interval contains the expectation of the value at the same n; None where this is
        not known, for intervals of an earlier method that contain it less often than in 95 % of cases.
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
    level: float | None = LEVEL

    @property
    def training_seed(self) -> int:
        """Seed of the model's training; 0 for what was not trained."""
        return self.provenance.get("training_seed", 0)

    @property
    def split(self) -> str:
        """Data split that the samples are compared with."""
        return self.details.get("split", "test")

    @property
    def greedy_tail(self) -> bool | None:
        """Whether sampling ended greedily; None where this is not recorded."""
        return self.details.get("greedy_tail")

    @property
    def variant(self) -> str | None:
        """Name of the variant of a study; None outside studies."""
        return self.details.get("variant")

    @property
    def changes(self) -> str:
        """Changes to the recipe in words, "none" for an unchanged one."""
        changed = self.details.get("changes", {})
        return ", ".join(f"{key} = {value}" for key, value in changed.items()) or "none"

    @property
    def interval(self) -> tuple[float, float]:
        """The interval; the value itself at both ends where it is exact."""
        return (self.value, self.value) if self.low is None else (self.low, self.high)

    def text(self, digits: int) -> str:
        """Return "value [low, high]", with the level if it is not 95 %; the value alone where it is exact."""
        between = "" if self.low is None else f" [{self.low:.{digits}f}, {self.high:.{digits}f}]"
        return f"{self.value:.{digits}f}{between}{self.level_text}"

    @property
    def level_text(self) -> str:
        """The level of the interval in brackets, "" for 95 % and for exact values."""
        if self.low is None or self.level == LEVEL:
            return ""
        return " (below 95 %)" if self.level is None else f" ({self.level:.1%})".replace("%", " %")

    def to_dict(self) -> dict:
        """Return the record as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> "Record":
        """Make a record from what `to_dict` returned. ValueError for an unknown key."""
        known = [f.name for f in fields(cls)]
        for key in values:
            check_choice("record key", key, known)
        return cls(**values)


def select(records: Iterable[Record], **wanted) -> list[Record]:
    """Return the records whose fields or properties equal the given values; a callable is a predicate."""

    def fits(found, value) -> bool:
        return value(found) if isinstance(value, Callable) else found == value

    return [r for r in records if all(fits(getattr(r, name), value) for name, value in wanted.items())]


def spread(values: list[float]) -> str:
    """Return the minimum and maximum of values, one per training seed, and their number, as text."""
    ends = dict.fromkeys(f"{v:.3g}" for v in (min(values), max(values)))
    return " to ".join(ends) + (f" ({len(values)} seeds)" if len(values) > 1 else "")


def best_top_p(records: Iterable[Record], model: str, steps: int | None = None) -> float:
    """Return the sampling top-p at which a model has its minimum gradient moment on the validation split.

    Args:
    records: trials of training seed 0 count; without any, the answer is 1.
    steps: choose among the trials with this number of sampling steps, if there are any.
    """
    tried = select(records, name="gradient_moment", model=model, split="valid", training_seed=0)
    tried = select(tried, steps=steps) or tried
    return min(tried, key=lambda r: r.value).top_p if tried else 1.0


def table(records: Iterable[Record], rows: list[str], columns: str = "name", digits: int = 4) -> "DataFrame":
    """Return records as a table of "value [low, high]".

    Rows and columns are in the order of the records. The first of several records for one cell is shown.

    Args:
    rows: fields or properties; the table has one row for each combination of their values.
    columns: the field with one column for each value.
    digits: decimals of the values.
    """
    require("pandas")
    import pandas as pd

    lines: dict[tuple, dict] = {}
    for r in records:
        line = lines.setdefault(tuple(_row_label(getattr(r, name)) for name in rows), {})
        line.setdefault(getattr(r, columns), r.text(digits))
    index = pd.MultiIndex.from_tuples(list(lines), names=rows)
    seen = dict.fromkeys(column for line in lines.values() for column in line)
    frame = pd.DataFrame(list(lines.values()), index=index, columns=list(seen))
    return frame.fillna("").rename_axis(columns=columns)


def _row_label(value):
    """Return a row's label: "" for None, floats with at most two decimals."""
    return "" if value is None else round(value, 2) if isinstance(value, float) else value


def encode_tokens(tokens: "Tensor") -> list[str]:
    """Return tokens [n, L] as n strings of L characters. ValueError for a token of 36 or more."""
    if tokens.max() >= len(CHARACTERS):
        raise ValueError(f"tokens: {int(tokens.max())} is not allowed; only 0 to {len(CHARACTERS) - 1}")
    return ["".join(CHARACTERS[token] for token in row) for row in tokens.tolist()]


def decode_tokens(rows: Iterable[str]) -> "Tensor":
    """Return the tokens [n, L] that `encode_tokens` wrote."""
    import torch

    return torch.tensor([[CHARACTERS.index(character) for character in row] for row in rows])


def save_records(page: str, records: Iterable[Record | dict], **extra) -> None:
    """Write {"page": page, "records": records, **extra} as `<page>.json` beside the executed page.

    Does nothing where the page is not run by `run_page`, for instance in JupyterLab. ValueError for a page's
    name that cannot be a file's.

    Args:
    page: the page's name. `run_page` replaces it by the name of the file that it runs, so that the records
        of a copied page are its own.
    records: records, or dictionaries for a page that is swept and whose rows have other columns.
    extra: JSON values.
    """
    check("page", page, Name)
    if folder := os.environ.get("DMMD_PAGE_OUT"):
        page = os.environ.get("DMMD_PAGE", page)
        rows = [r.to_dict() if isinstance(r, Record) else r for r in records]
        write_json(Path(folder, f"{page}.json"), {"page": page, "records": rows, **extra})


def read_records(path: Path) -> list[Record]:
    """Read a file of records. ValueError, which names the file, where it is damaged or has an unknown key."""
    try:
        return [
            Record.from_dict(values) for values in json.loads(path.read_text(encoding="utf-8"))["records"]
        ]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"results: {path}: it is damaged or of another version ({error})") from None


def load_results(name: str) -> list[Record]:
    """Read the records of `data/results/<name>.json`.

    A page that is run by `run_page` notes the name in the file `RESULTS_READ` of its folder, for its footer.
    ValueError, listing the results there are, if there is none of this name.
    """
    known = {path.stem: path for path in sorted((data_dir() / "results").glob("*.json"))}
    check_choice("results", name, known)
    if folder := os.environ.get("DMMD_PAGE_OUT"):
        append_line(Path(folder, RESULTS_READ), name)
    return read_records(known[name])
