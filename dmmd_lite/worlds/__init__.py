"""Worlds: sources of tokens. `get_world(name)` makes one; data are read when they are first needed."""

from functools import cache, partial
from inspect import signature

from dmmd_lite.utils.checks import checked, shown
from dmmd_lite.worlds.base import RESERVED, World
from dmmd_lite.worlds.corpora import books, books27, openwebtext, text_world
from dmmd_lite.worlds.digits import Digits
from dmmd_lite.worlds.docstrings import Docstrings
from dmmd_lite.worlds.enumerable import coins, parity, permutations
from dmmd_lite.worlds.glyphs import Glyphs, glyphs256
from dmmd_lite.worlds.image_sets import cifar10, fashion_mnist, mnist
from dmmd_lite.worlds.images import ImageWorld, Levels
from dmmd_lite.worlds.markov import Markov
from dmmd_lite.worlds.molecules import Molecules
from dmmd_lite.worlds.photos import Photos
from dmmd_lite.worlds.sudoku import Sudoku, sudoku4
from dmmd_lite.worlds.tokens import tokens_world

__all__ = ["WORLDS", "World", "get_world", "image_world", "text_world", "tokens_world", "with_levels"]

WORLDS = {
    "coins": coins,
    "parity": parity,
    "permutations": permutations,
    "sudoku4": sudoku4,
    "sudoku": Sudoku,
    "sudoku_medium": partial(Sudoku, "medium"),
    "sudoku_hard": partial(Sudoku, "hard"),
    "markov": Markov,
    "digits": Digits,
    "glyphs": Glyphs,
    "glyphs256": glyphs256,
    "photos": Photos,
    "fashion_mnist": fashion_mnist,
    "mnist": mnist,
    "cifar10": cifar10,
    "docstrings": Docstrings,
    "molecules": Molecules,
    "books27": books27,
    "books": books,
    "openwebtext": openwebtext,
}
RESERVED.update(WORLDS)


@checked
@cache
def get_world(name: str) -> World:
    """Make the world called `name`; NAME@LEVELS is an image world with that many levels, e.g. "cifar10@16".

    Errors: ValueError for an unknown name, which lists the known ones, and for a wrong number of levels.
    """
    base, at, levels = name.partition("@")
    if base not in WORLDS:
        raise ValueError(f"world: {shown(name)} is not allowed; choose one of {sorted(WORLDS)}")
    return image_world(base, int(levels) if levels.isdecimal() else levels) if at else WORLDS[base]()


def with_levels() -> list[str]:
    """Return the names of the image worlds that can be made with any number of levels."""
    return [name for name, make in WORLDS.items() if "levels" in signature(make).parameters]


@checked
def image_world(name: str, levels: Levels) -> ImageWorld:
    """Make an image world with 2 to 256 levels, which `get_world` knows as NAME@LEVELS."""
    if name not in with_levels():
        raise ValueError(f"world: {shown(name)} is not allowed with levels; choose one of {with_levels()}")
    return WORLDS[name](levels, f"{name}@{levels}")
