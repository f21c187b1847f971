"""English prose that needs no download: the docstrings of Python's standard library, numpy and torch.

The text depends on their versions, so models and records carry the SHA-256 of the text.
"""

import ast
import json
import platform
import re
import sysconfig
import warnings
from collections.abc import Iterator
from functools import cached_property
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from torch import Tensor

from dmmd_lite.utils.files import made_once, sha256_of, write_json
from dmmd_lite.utils.paths import cache_dir
from dmmd_lite.worlds.text import SYMBOLS, TextWorld, encode_symbols, to_symbols

SKIPPED_FOLDERS = {"tests", "test", "testing", "idle_test", "_vendor", "site-packages"}


def package_root(package: str) -> Path:
    """Return the folder of an installed package, or of the standard library for "stdlib"."""
    if package == "stdlib":
        return Path(sysconfig.get_path("stdlib"))
    return Path(find_spec(package).origin).parent


def docstrings(package: str = "stdlib") -> Iterator[tuple[str, str]]:
    """Yield (module's path, docstring) of a package, file by file in the order of their paths."""
    root = package_root(package)
    for path in sorted(root.rglob("*.py"), key=lambda p: p.relative_to(root).parts):
        if SKIPPED_FOLDERS.isdisjoint(path.relative_to(root).parts):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # old modules hold invalid escape sequences
                tree = ast.parse(path.read_bytes())
            for node in ast.walk(tree):
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                    yield path.relative_to(root).as_posix(), ast.get_docstring(node) or ""


def is_prose(paragraph: str) -> bool:
    """Decide whether a paragraph, joined into one line, reads like prose.

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


def prose_of(docstring: str) -> Iterator[str]:
    """Yield the paragraphs of a docstring that read like prose, one line each."""
    lines = (" ".join(part.split()) for part in re.split(r"\n\s*\n", docstring))
    return (line for line in lines if is_prose(line))


PACKAGES = ("stdlib", "numpy", "torch")
SPLITS = {"train": 0.5, "judge": 0.3, "valid": 0.08, "test": 0.12}  # shares of the modules


def split_of(module: str) -> str:
    """Choose the split of a module by a hash of its name, so that another version moves no module."""
    u = int(sha256_of(module)[:8], 16) / 2**32
    for split, share in SPLITS.items():
        if u < share:
            return split
        u -= share
    return split


def collect() -> dict[str, str]:
    """Collect the prose of every split in the 27 symbols, one string each, in about 15 seconds.

    Of paragraphs that are equal in the 27 symbols only the first is kept, so no paragraph is in two splits.
    """
    seen, parts = set(), {split: [] for split in SPLITS}
    for package in PACKAGES:
        for path, docstring in docstrings(package):
            for line in prose_of(docstring):
                symbols = to_symbols(line).strip()
                if symbols not in seen:
                    seen.add(symbols)
                    parts[split_of(f"{package}/{path}")].append(symbols)
    return {split: " ".join(lines) for split, lines in parts.items()}


class Docstrings(TextWorld):
    """Windows of 128 characters over 27 symbols. The split "judge" is training text for judges alone."""

    name, vocab_size, length = "docstrings", len(SYMBOLS), 128
    splits = tuple(SPLITS)

    @cached_property
    def texts(self) -> dict[str, str]:
        """The prose of every split, collected once and then read from the cache folder."""
        versions = "-".join(f"{name}{number}" for name, number in self._versions.items())
        file = cache_dir() / "corpora" / f"docstrings-{versions}-{_code_hash()}.json"
        made_once(file, lambda path: write_json(path, collect()))
        return json.loads(file.read_text(encoding="utf-8"))

    @cached_property
    def _versions(self) -> dict[str, str]:
        return {"python": platform.python_version(), "numpy": version("numpy"), "torch": version("torch")}

    @cached_property
    def streams(self) -> dict[str, Tensor]:
        """The tokens of every split, uint8 [characters]."""
        return {split: encode_symbols(text) for split, text in self.texts.items()}

    @cached_property
    def provenance(self) -> dict:
        """The SHA-256 of the whole text, and the versions of the packages it comes from."""
        digest = sha256_of("\n".join(self.texts[split] for split in self.splits))
        return {"corpus_sha256": digest, "corpus_versions": self._versions}


def _code_hash() -> str:
    """Hash this file, so that a cached text is never that of another filter."""
    return sha256_of(Path(__file__))[:8]


if __name__ == "__main__":
    raise SystemExit("the counts of the Markov world are fitted by: python -m dmmd_lite.worlds.fit_markov")
