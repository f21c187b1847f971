"""Conditions from the outside: prompts, and files with blanks to be filled."""

import re
from pathlib import Path

import torch
from torch import Tensor

from dmmd_lite.utils.checks import check, shown
from dmmd_lite.worlds.base import World
from dmmd_lite.worlds.files import first_line

BLANK = "_"  # stands for one position to be filled, in a line of text
ENDINGS = (".txt", ".npz")


def prompt_condition(world: World, text: str) -> tuple[Tensor, Tensor]:
    """Return which positions a prompt holds, bool [1, L], and their tokens [1, L].

    Errors: ValueError for symbols that the world does not have, nothing, more than L tokens, and what no
    sequence of the world begins with, where that is known.
    """
    check("prompt", text, str)
    try:
        tokens = world.parse(text)
    except ValueError as error:
        raise ValueError(f"prompt: {error}") from None
    if not tokens:
        raise ValueError(f"prompt: {text!r} is not allowed; it must have at least one token")
    held, tokens = _padded(world, [tokens], "prompt")
    world.check_conditions(held, tokens, "prompt")
    return held, tokens


def file_condition(world: World, path: str | Path) -> tuple[Tensor, Tensor]:
    """Read conditions from a file: which positions are held, bool [n, L], and their tokens [n, L].

    A line of text (.txt) is a sequence in which every `BLANK` is one position to be filled, and so is what
    is missing at its end; a file of arrays (.npz) has `held` and `tokens`, [n, L] each. Errors: ValueError
    for a file without conditions or with others, naming the line; and what the world's own rules exclude.
    """
    path = check("infill", path, str | Path)
    if path.suffix not in ENDINGS or not path.is_file():
        raise ValueError(f"infill: {str(path)!r} is not allowed; it must be a file that ends in {ENDINGS}")
    held, tokens = (_arrays if path.suffix == ".npz" else _lines)(world, path)
    world.check_conditions(held, tokens, "infill")
    return held, tokens


def _lines(world: World, path: Path) -> tuple[Tensor, Tensor]:
    try:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"infill: {str(path)!r} cannot be read ({first_line(error)})") from None
    if not lines:
        raise ValueError(f"infill: {str(path)!r} is not allowed; it has no line")
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            parts = re.split(f"({BLANK})", line)
            rows.append([t for part in parts for t in ([None] if part == BLANK else world.parse(part))])
        except ValueError as error:
            raise ValueError(f"infill: line {number}: {error}") from None
    return _padded(world, rows, "infill")


def _arrays(world: World, path: Path) -> tuple[Tensor, Tensor]:
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as file:
            held, tokens = file["held"], file["tokens"]
        if held.dtype != bool or tokens.dtype.kind not in "iu":
            raise ValueError(f"held is {held.dtype} and tokens {tokens.dtype}, not bool and whole numbers")
    except Exception as error:  # numpy and zipfile raise many kinds
        raise ValueError(f"infill: {str(path)!r} is not allowed ({first_line(error)})") from None
    shape = (len(held), world.length) if held.ndim else ()
    if held.shape != shape or tokens.shape != shape or not len(held):
        found = f"held {list(held.shape)} and tokens {list(tokens.shape)}"
        raise ValueError(f"infill: {found} are not allowed; they must be [n, {world.length}], n at least 1")
    held, tokens = torch.from_numpy(held), torch.from_numpy(tokens.astype(np.int64))
    wrong = tokens[held & ((tokens < 0) | (tokens >= world.vocab_size))]
    if len(wrong):
        allowed = f"held ones must lie in 0 … {world.vocab_size - 1}"
        raise ValueError(f"infill: token {int(wrong[0])} is not allowed; {allowed}")
    return held, tokens


def _padded(world: World, rows: list[list[int | None]], name: str) -> tuple[Tensor, Tensor]:
    """Return rows of tokens, None where nothing is held, as a condition of the world's length."""
    for number, row in enumerate(rows, 1):
        if len(row) > world.length:
            words = f"it must have at most {world.length} tokens"
            raise ValueError(f"{name}: {shown(len(row))} tokens in line {number} are not allowed; {words}")
    rows = [row + [None] * (world.length - len(row)) for row in rows]
    held = torch.tensor([[token is not None for token in row] for row in rows])
    return held, torch.tensor([[token or 0 for token in row] for row in rows])
