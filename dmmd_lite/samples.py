"""A few samples as text, one character a token, so that a record can carry them."""

from collections.abc import Iterable

import torch
from torch import Tensor

CHARACTERS = "0123456789abcdefghijklmnopqrstuvwxyz"


def to_text(tokens: Tensor) -> list[str]:
    """Tokens [n, L] as n strings of L characters. ValueError for a token of 36 or more."""
    if tokens.max() >= len(CHARACTERS):
        raise ValueError(f"tokens: {int(tokens.max())} is not allowed; only 0 to {len(CHARACTERS) - 1}")
    return ["".join(CHARACTERS[token] for token in row) for row in tokens.tolist()]


def from_text(rows: Iterable[str]) -> Tensor:
    """The inverse of `to_text`: tokens [n, L]."""
    return torch.tensor([[CHARACTERS.index(character) for character in row] for row in rows])
