"""Where tokens come from. `get_world(name)` makes one; nothing is loaded before it is asked for."""

from functools import cache

from dmmd_lite.worlds.base import World
from dmmd_lite.worlds.corpora import books, books27, openwebtext
from dmmd_lite.worlds.digits import Digits
from dmmd_lite.worlds.docstrings import Docstrings
from dmmd_lite.worlds.enumerable import coins, parity, permutations
from dmmd_lite.worlds.markov import Markov

WORLDS = {
    "coins": coins,
    "parity": parity,
    "permutations": permutations,
    "markov": Markov,
    "digits": Digits,
    "docstrings": Docstrings,
    "books27": books27,
    "books": books,
    "openwebtext": openwebtext,
}


@cache
def get_world(name: str) -> World:
    """The world called `name`; an unknown name is a ValueError that lists the known ones."""
    if name not in WORLDS:
        raise ValueError(f"world: {name!r} is not allowed; choose one of {sorted(WORLDS)}")
    return WORLDS[name]()
