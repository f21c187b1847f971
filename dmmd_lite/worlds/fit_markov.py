"""The fit of the Markov world: counts of symbol pairs in the docstrings of the standard library.

`python -m dmmd_lite.worlds.fit_markov` counts again and rewrites `data/markov.json`.
"""

import json
import platform
from collections import Counter
from itertools import pairwise

from dmmd_lite.utils.files import sha256_of, write_text
from dmmd_lite.utils.paths import data_dir
from dmmd_lite.worlds.docstrings import docstrings, prose_of
from dmmd_lite.worlds.markov import DATA_FILE
from dmmd_lite.worlds.text import SYMBOLS, to_symbols

SMOOTHING = 0.5


def paragraphs() -> list[str]:
    """Collect the standard library's distinct paragraphs of prose, in order, in about 7 seconds."""
    return list(dict.fromkeys(line for _, text in docstrings() for line in prose_of(text)))


def fit_transition_table() -> dict:
    """Count how often each symbol follows each other one: the contents of the data file, with provenance.

    counts[a][b] counts symbol b after symbol a; the reader adds `smoothing` to every count.
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
        "sha256": sha256_of(stream),
        "counts": [[pairs[a, b] for b in SYMBOLS] for a in SYMBOLS],
    }


def main() -> None:
    """Write the data file, one row of counts a line."""
    fit = fit_transition_table()
    rows = ",\n  ".join(json.dumps(row) for row in fit.pop("counts"))
    head = json.dumps(fit, indent=1).removesuffix("\n}")
    write_text(data_dir() / DATA_FILE, f'{head},\n "counts": [\n  {rows}\n ]\n}}\n')


if __name__ == "__main__":
    main()
