"""English prose that needs no download: the docstrings of Python's standard library.

The text depends on the Python version, so what is fitted on it is stored with a sha256 of the text.
`python -m dmmd_lite.worlds.docstrings` fits the Markov world's counts again and rewrites `data/markov.json`.
"""

import ast
import hashlib
import json
import platform
import re
import sysconfig
import warnings
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from dmmd_lite.paths import data_dir
from dmmd_lite.worlds.markov import DATA_FILE, SYMBOLS

SKIPPED_FOLDERS = {"tests", "test", "testing", "idle_test", "_vendor", "site-packages"}
SMOOTHING = 0.5


def docstrings() -> Iterator[str]:
    """Every docstring of the standard library, file by file in the order of their paths."""
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py"), key=lambda p: p.relative_to(root).parts):
        if SKIPPED_FOLDERS.isdisjoint(path.relative_to(root).parts):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # old modules hold invalid escape sequences
                tree = ast.parse(path.read_bytes())
            for node in ast.walk(tree):
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                    yield ast.get_docstring(node) or ""


def is_prose(paragraph: str) -> bool:
    """Whether a paragraph, joined into one line, reads like prose.

    It has at least 8 words and no doctest prompt, more than 93 % letters, spaces and plain punctuation,
    more than 60 % lower-case words, and ends as a sentence does.
    """
    words = paragraph.split()
    return (
        len(words) >= 8
        and ">>>" not in paragraph
        and sum(c.isalpha() or c in " ,.;:'()-" for c in paragraph) > 0.93 * len(paragraph)
        and sum(word.islower() for word in words) > 0.6 * len(words)
        and paragraph[-1] in ".:!?"
    )


def paragraphs() -> list[str]:
    """The distinct paragraphs of prose, one line each, in order of appearance. Takes about 7 seconds."""
    lines = (" ".join(part.split()) for text in docstrings() for part in re.split(r"\n\s*\n", text))
    return list(dict.fromkeys(line for line in lines if is_prose(line)))


def to_symbols(text: str) -> str:
    """Text in the 27 symbols: lower case, with every run of other characters turned into one space."""
    return re.sub("[^a-z]+", " ", text.lower())


def fit_transition_table() -> dict:
    """How often each symbol follows each other one, with provenance: the contents of the data file.

    counts[a][b] counts symbol b after symbol a; `smoothing` is to be added to every count.
    """
    prose = paragraphs()
    stream = to_symbols(" ".join(prose))
    pairs = Counter(pairwise(stream))
    return {
        "symbols": SYMBOLS,
        "smoothing": SMOOTHING,
        "source": "docstrings of the Python standard library, filtered by dmmd_lite.worlds.docstrings",
        "python": platform.python_version(),
        "paragraphs": len(prose),
        "characters": len(stream),
        "sha256": hashlib.sha256(stream.encode()).hexdigest(),
        "counts": [[pairs[a, b] for b in SYMBOLS] for a in SYMBOLS],
    }


def main() -> None:
    """Write the data file, one row of counts a line."""
    fit = fit_transition_table()
    rows = ",\n  ".join(json.dumps(row) for row in fit.pop("counts"))
    head = json.dumps(fit, indent=1).removesuffix("\n}")
    (data_dir() / DATA_FILE).write_text(f'{head},\n "counts": [\n  {rows}\n ]\n}}\n')


if __name__ == "__main__":
    main()
