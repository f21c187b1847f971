"""Every argument of every door to a world: what is wrong is refused in one line that names it."""

import math
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch

from dmmd_lite.worlds import get_world, image_world, text_world, tokens_world
from dmmd_lite.worlds.markov import Markov

TOKENS = torch.arange(60).view(20, 3) % 3
WRONG = [None, True, 0, -1, 10**30, 0.5, math.nan, -math.inf, "", "\n", "x" * 5000, "a\0", b"a", 1j, print]
WRONG += [[], [1], {}, set(), (1, math.nan, 3), (3, 1, 1.5), np.array([1, 2]), torch.zeros(2, 2)]


def of(world, method, *arguments, **options):
    """What a method of a world returns."""
    return getattr(get_world(world) if isinstance(world, str) else world, method)(*arguments, **options)


def doors(path):
    """(function, right arguments, those of the wrong values that are right for one of them)."""
    text, own, rng = text_world("text", path, length=8), tokens_world("own", TOKENS), torch.Generator()
    yield (
        tokens_world,
        {"name": "own", "tokens": TOKENS, "vocab_size": 3, "image_shape": (3, 1, 1), "symbols": "abc"},
        {"vocab_size": [None], "image_shape": [None], "symbols": [""]},
    )
    yield (
        text_world,
        {"name": "own", "source": path, "symbols": "letters", "length": 8, "max_documents": 9},
        {"max_documents": [None]},
    )
    table = torch.full((2, 2), 0.5, dtype=torch.float64)
    yield Markov, {"length": 3, "table": table}, {"table": [None]}
    yield image_world, {"name": "glyphs", "levels": 4}, {}
    yield get_world, {"name": "coins"}, {}
    for world in ("coins", "markov", "digits", "photos", text, own):
        yield partial(of, world, "sample", generator=rng), {"num": 2}, {}
    for world in ("digits", text, own):
        yield partial(of, world, "sample", 2, rng), {"split": "test"}, {}
        yield partial(of, world, "split"), {"split": "test"}, {}
        yield partial(of, world, "reference", num=2), {"split": "test"}, {}
    yield partial(of, "digits", "labels"), {"split": "test"}, {}
    yield partial(of, "digits", "training_images", generator=rng), {"num": 2}, {}
    for world in (text, own):
        yield partial(of, world, "reference", "test"), {"num": 2}, {}


def test_wrong_arguments_are_refused_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("DMMD_CACHE_DIR", str(tmp_path / "cache"))
    path = tmp_path / "a.txt"
    path.write_text("\n\n".join(f"some words of text {'x' * i}" for i in range(100)))
    for call, arguments, right in doors(path):
        call(**arguments)
        before = sorted(tmp_path.rglob("*"))
        for name, value in product(arguments, WRONG):
            if any(value is other for other in right.get(name, [])):
                call(**arguments | {name: value})
                continue
            with pytest.raises(ValueError) as error:
                call(**arguments | {name: value})
                pytest.fail(f"{call} takes {name} = {value!r:.50}")
            assert str(error.value).startswith((f"{name}: ", f"{name}.", "world: ")), (call, name, value)
            assert "\n" not in str(error.value) and len(str(error.value)) < 400
        assert sorted(tmp_path.rglob("*")) == before


TABLES = {
    "float32": torch.eye(2).add(1).div(3),
    "not square": torch.full((2, 3), 1 / 3, dtype=torch.float64),
    "one symbol": torch.ones(1, 1, dtype=torch.float64),
    "sums of 2": torch.ones(2, 2, dtype=torch.float64),
    "negative": torch.tensor([[1.5, -0.5], [0.5, 0.5]], dtype=torch.float64),
    "not a number": torch.full((2, 2), math.nan, dtype=torch.float64),
    "two stationary distributions": torch.eye(2, dtype=torch.float64),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_that_are_no_chains_are_refused(name):
    with pytest.raises(ValueError, match="^table: [^\n]*$"):
        Markov(4, TABLES[name])
