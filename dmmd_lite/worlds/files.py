"""Files of data: which split each one is, and what they hold. No path is a pattern or an address."""

import gzip
import json
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

from dmmd_lite.utils.extras import require
from dmmd_lite.utils.files import sha256_of

SPLIT_WORDS = {"train": ("train",), "valid": ("valid", "validation", "val", "dev"), "test": ("test",)}
ALL_WORDS = ", ".join("|".join(words) for words in SPLIT_WORDS.values())
FORMATS = {".parquet": "parquet", ".json": "json", ".jsonl": "json", ".txt": "text"}
COMPRESSED = ".gz"  # may follow the ending of text and JSON
TEXT_COLUMN = "text"
BATCH = 1000  # rows of a Parquet file read together


def format_of(file: Path) -> str | None:
    """Return "parquet", "json" or "text" by a file's ending, in upper or lower case; None for another one."""
    ending, zipped = file.suffix.lower(), False
    if ending == COMPRESSED:
        ending, zipped = file.with_suffix("").suffix.lower(), True
    found = FORMATS.get(ending)
    return None if zipped and found == "parquet" else found


def split_words(name: str) -> set[str]:
    """Return the splits whose words are among the words of a name, which are its runs of letters."""
    words = set(re.findall(r"[^\W\d_]+", name.lower()))
    return {split for split, known in SPLIT_WORDS.items() if not words.isdisjoint(known)}


def by_split(what: str, names: Iterable[str]) -> dict[str, list[str]]:
    """Sort names of files or of parts of a set by the split whose word is in them.

    Returns only splits that have names. Errors: ValueError, which begins with `what`, for names with words of
    no split or of several ones, and where no name has the word "train".
    """
    names = list(names)
    unclear = [name for name in names if len(split_words(name)) != 1]
    if unclear:
        words = f"each must have a word of one split: {ALL_WORDS}"
        raise ValueError(f"{what} {unclear} are not allowed; {words}")
    parts = {split: [name for name in names if split in split_words(name)] for split in SPLIT_WORDS}
    if not parts["train"]:
        raise ValueError(f"{what} {names} are not allowed; one must be 'train'")
    return {split: chosen for split, chosen in parts.items() if chosen}


def splits_in_words(names: dict[str, list[str]]) -> str:
    """Say what every split is made of, in the order of `SPLIT_WORDS`; file names may hold any bytes."""
    words = "; ".join(f"{split}: {', '.join(names[split])}" for split in SPLIT_WORDS)
    return words.encode(errors="backslashreplace").decode()


def files_by_split(path: Path) -> dict[str, list[Path]]:
    """Find a file, or all data files directly in a folder, by split.

    A single file is "train", and so are all files of a folder where no name has the word of a split; a
    warning names them if they are several. Hidden files are ignored; a warning names everything else in the
    folder that is no data file. Errors: ValueError for no file or several formats, for what cannot be read as
    a file, and as for `by_split`.
    """
    where, entries = f"path: {str(path)!r}", [path]
    if path.is_dir():
        with reading(where):
            entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    files = [entry for entry in entries if format_of(entry) and not (entry.is_dir() and entry != path)]
    formats = sorted({format_of(file) for file in files})
    if len(formats) != 1:
        found = f"files of the kinds {formats}" if formats else "no file"
        allowed = f"one kind of {list(FORMATS)}, text and JSON also with {COMPRESSED}"
        raise ValueError(f"{where} holds {found}; it must hold {allowed}")
    if broken := [file.name for file in files if not file.is_file()]:
        raise ValueError(f"{where} holds {broken}, which cannot be read as files")
    if others := [entry.name for entry in entries if entry not in files]:
        warn_unread(where, others)
    names = [file.name for file in files]
    if entries == [path] or not any(map(split_words, names)):
        if len(files) > 1:
            words = f"{names} are all training data, as no name has the word of a split: {ALL_WORDS}"
            warnings.warn(f"{where}: {words}", stacklevel=2)
        return {"train": files}
    names = by_split(f"{where}: the files", names)
    return {split: [path / name for name in chosen] for split, chosen in names.items()}


def warn_unread(where: str, names: list[str]) -> None:
    """Warn that some files or parts of a source are not read."""
    warnings.warn(f"{where}: {names} are not read", stacklevel=2)


def read_texts(file: Path) -> Iterator[str]:
    """Yield the documents of a file: the strings of a column, or paragraphs between blank lines.

    Errors: ValueError of one line that names the file, where it is damaged, not UTF-8, or without a column
    "text" of strings.
    """
    with reading(file.name):
        for text in _READERS[format_of(file)](file):
            check_text(text)
            yield text


def check_text(text) -> None:
    """Raise ValueError unless a document is a string that UTF-8 can hold."""
    if not isinstance(text, str):
        raise ValueError(f"the column {TEXT_COLUMN!r} must hold nothing but strings")
    text.encode()


def check_columns(names: list[str]) -> None:
    """Raise ValueError unless one of the columns holds text."""
    if TEXT_COLUMN not in names:
        raise ValueError(f"it has no column {TEXT_COLUMN!r}; its columns are {sorted(names)}")


def read_parquet(file: Path, choose: Callable[[list[str]], list[str]]) -> Iterator[tuple[list, ...]]:
    """Yield batches of rows of a Parquet file: the columns that `choose` takes from its columns' names."""
    require("pyarrow")
    from pyarrow.parquet import ParquetFile

    with file.open("rb") as stream:
        parquet = ParquetFile(stream)
        columns = choose(parquet.schema_arrow.names)
        for batch in parquet.iter_batches(BATCH, columns=columns):
            yield tuple(batch.column(name).to_pylist() for name in columns)


def digest_of(file: Path) -> str:
    """Compute the SHA-256 of a file; ValueError where it cannot be read."""
    with reading(file.name):
        return sha256_of(file)


@contextmanager
def reading(where: str) -> Iterator[None]:
    """Turn every error of a block that reads data into a ValueError of one line, which names `where`."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # several libraries raise
        raise ValueError(f"{where} cannot be read ({first_line(error)})") from None


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, with the error's type unless it is a plain ValueError."""
    kind = "" if type(error) is ValueError else f"{type(error).__name__}: "
    return f"{kind}{error}".partition("\n")[0]


def _lines(file: Path) -> Iterator[str]:
    open_text = gzip.open if file.suffix.lower() == COMPRESSED else open
    with open_text(file, "rt", encoding="utf-8-sig") as stream:
        for line in stream:
            if "\0" in line:
                raise ValueError("it holds NUL bytes; text must be UTF-8")
            yield line


def _paragraphs(file: Path) -> Iterator[str]:
    blocks = groupby(_lines(file), str.isspace)
    return ("".join(lines).removesuffix("\n") for blank, lines in blocks if not blank)


def _json_texts(file: Path) -> Iterator[str]:
    """Yield the texts of one object a line, or of one list of objects."""
    for number, line in enumerate(lines := _lines(file), 1):
        if line.isspace():
            continue
        if line.lstrip().startswith("["):
            rows = json.loads(line + "".join(lines))
        else:
            rows = [json.loads(line)]
        for row in rows:
            if not isinstance(row, dict):
                raise ValueError(f"line {number}: {row!r:.60} is no object with the key {TEXT_COLUMN!r}")
            check_columns(list(row))
            yield row[TEXT_COLUMN]


def _parquet_texts(file: Path) -> Iterator[str]:
    def choose(names: list[str]) -> list[str]:
        check_columns(names)
        return [TEXT_COLUMN]

    return (text for (column,) in read_parquet(file, choose) for text in column)


_READERS = {"parquet": _parquet_texts, "json": _json_texts, "text": _paragraphs}
