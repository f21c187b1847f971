"""Where tokens come from. `get_world(name)` makes one; nothing is loaded before it is asked for."""

from functools import cache

from dmmd_lite.worlds.base import RESERVED, World
from dmmd_lite.worlds.corpora import books, books27, openwebtext, text_world
from dmmd_lite.worlds.digits import Digits
from dmmd_lite.worlds.docstrings import Docstrings
from dmmd_lite.worlds.enumerable import coins, parity, permutations
from dmmd_lite.worlds.glyphs import Glyphs, glyphs256
from dmmd_lite.worlds.image_sets import cifar10, fashion_mnist, mnist
from dmmd_lite.worlds.images import ImageWorld
from dmmd_lite.worlds.markov import Markov
from dmmd_lite.worlds.photos import Photos
from dmmd_lite.worlds.tokens import tokens_world

__all__ = ["WITH_LEVELS", "WORLDS", "World", "get_world", "image_world", "text_world", "tokens_world"]

WORLDS = {
    "coins": coins,
    "parity": parity,
    "permutations": permutations,
    "markov": Markov,
    "digits": Digits,
    "glyphs": Glyphs,
    "glyphs256": glyphs256,
    "photos": Photos,
    "fashion_mnist": fashion_mnist,
    "mnist": mnist,
    "cifar10": cifar10,
    "docstrings": Docstrings,
    "books27": books27,
    "books": books,
    "openwebtext": openwebtext,
}


RESERVED.update(WORLDS)
WITH_LEVELS = ("glyphs", "photos", "fashion_mnist", "mnist", "cifar10")  # worlds of any number of levels


@cache
def get_world(name: str) -> World:
    """The world called `name`; NAME@LEVELS is an image world with so many levels, e.g. "cifar10@16".

    An unknown name is a ValueError that lists the known ones, as is a number of levels that cannot be.
    """
    base, at, levels = name.partition("@")
    if base not in WORLDS:
        raise ValueError(f"world: {name!r} is not allowed; choose one of {sorted(WORLDS)}")
    return image_world(base, int(levels) if levels.isdecimal() else levels) if at else WORLDS[base]()


def image_world(name: str, levels: int) -> ImageWorld:
    """An image world with a number of levels of its own, from 2 to 256; `get_world` knows it by its name."""
    if name not in WITH_LEVELS:
        raise ValueError(f"world: {name!r} is not allowed with levels; choose one of {WITH_LEVELS}")
    return WORLDS[name](levels, f"{name}@{levels}")
