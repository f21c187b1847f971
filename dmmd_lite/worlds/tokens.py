"""Worlds of given sequences: a tensor of tokens, or a set of Hugging Face `datasets`."""

import hashlib
import math
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from dmmd_lite.utils.checks import MAXIMUM, Between, Count, Name, check_choice, checked, shown
from dmmd_lite.utils.rng import integers
from dmmd_lite.worlds.base import MAX_REFERENCES, World, check_own_name, chosen
from dmmd_lite.worlds.files import SPLIT_WORDS, by_split, splits_in_words

HELD_OUT = 0.1  # share of the training sequences that replaces each missing part, "valid" and "test"
SPLIT_SEED = 0
WHOLE = {getattr(torch, f"{kind}int{bits}") for kind in ("", "u") for bits in (8, 16, 32, 64)}
VocabSize = Annotated[int, Between(2, MAXIMUM)]
Shape = tuple[Count, Count, Count]
MAX_FEATURES = 32_768  # of sequences compared by their one-hot tokens; 260 MB for a thousand sequences


class TokensWorld(World):
    """Sequences of one length, by split; made by `tokens_world`. Without data it only shows tokens.

    Args:
    parts: tokens [n, L] of every split.
    symbols: the characters that tokens stand for, one each; "" where they are shown as numbers.
    source: what every split is made of, in words.
    """

    extractor = "one-hot"

    @checked
    def __init__(
        self,
        name: str,
        parts: dict[str, Tensor],
        vocab_size: VocabSize,
        length: Count,
        image_shape: Shape | None = None,
        symbols: str = "",
        source: str = "",
    ):
        if image_shape is not None and math.prod(image_shape) != length:
            raise ValueError(
                f"image_shape: {image_shape!r} is not allowed; (height, width, channels) of {length} tokens"
            )
        if symbols and len(symbols) != vocab_size:
            raise ValueError(
                f"symbols: {shown(symbols)} is not allowed; it must have {vocab_size} characters"
            )
        self.name, self.vocab_size, self.length = name, vocab_size, length
        self.image_shape, self.parts, self.symbols, self.source = image_shape, parts, symbols, source

    @property
    def traits(self) -> frozenset[str]:
        """Samples are compared by features unless one-hot tokens are too many of them."""
        few = self.length * self.vocab_size <= MAX_FEATURES
        return frozenset({"features"} if few else ())

    @checked
    def split(self, split: str) -> Tensor:
        """Return all sequences of a split, [n, L]. ValueError where the world has no such split."""
        if split not in self.parts:
            known = list(self.parts) or "nothing, as the data did not come with the model"
            raise ValueError(f"split: {shown(split)} is not allowed for {self.name}; it has {known}")
        return self.parts[split]

    @checked
    def sample(self, num: Count, generator: torch.Generator, split: str = "train") -> Tensor:
        """Draw `num` sequences with replacement, [num, L], on the generator's device."""
        x = self.split(split)
        picked = integers(len(x), (num,), generator)
        return x[picked.to(x.device)].to(generator.device)

    def reference(self, split: str, num: int = MAX_REFERENCES) -> Tensor:
        """Return `num` sequences of a split in random order, or all; always the same ones."""
        return chosen(self.split(split), num)

    @cached_property
    def provenance(self) -> dict:
        """The number of sequences, the SHA-256 of all of them, and what the splits are made of."""
        digest = hashlib.sha256()
        for split, x in self.parts.items():
            digest.update(f"{split} {tuple(x.shape)} ".encode() + x.cpu().numpy().tobytes())
        num = sum(map(len, self.parts.values()))
        return {"sequences": num, "tokens_sha256": digest.hexdigest(), "tokens_source": self.source}


@checked
def tokens_world(
    name: Name,
    tokens,
    vocab_size: VocabSize | None = None,
    *,
    image_shape: Shape | None = None,
    symbols: str = "",
    column: str = "tokens",
) -> TokensWorld:
    """Make a world of given sequences.

    Args:
    tokens: whole numbers 0 … V - 1, [N, L], as a tensor, an array or lists; or a `datasets.Dataset` with such
        a column; or a `DatasetDict` of them, whose parts are "train", "valid" or "test" by a whole word in
        their names: train; valid, validation, val or dev; test. A fixed random tenth of "train" replaces each
        of the latter two that is missing.
    vocab_size: V; None: one more than the largest token.
    image_shape: (height, width, channels) of images.
    symbols: V characters that the tokens stand for.
    column: the name of the column with the tokens.
    Errors: ValueError for tokens of another shape or type or out of range, for parts with words of no split
    or of several ones, and for a name the package uses.
    """
    check_own_name(name)
    given = {str(part): x for part, x in tokens.items()} if isinstance(tokens, Mapping) else {"train": tokens}
    names = by_split("tokens: the parts", given)
    given = {part: _as_tokens(x, column) for part, x in given.items()}
    lengths = {x.shape[1] for x in given.values()}
    if len(lengths) > 1:
        raise ValueError(f"tokens: lengths {sorted(lengths)} are not allowed; all parts must have one")
    parts = {split: torch.cat([given[part] for part in theirs]) for split, theirs in names.items()}
    missing = [split for split in SPLIT_WORDS if split not in parts]
    if missing:
        x = parts["train"]
        held = max(1, round(HELD_OUT * len(x)))
        if len(x) <= held * len(missing):
            raise ValueError(f"tokens: {len(x)} sequences are not allowed; give at least {len(missing) + 1}")
        x = x[torch.from_numpy(np.random.default_rng(SPLIT_SEED).permutation(len(x)))]
        cut = x.split([len(x) - held * len(missing), *[held] * len(missing)])
        parts |= dict(zip(["train", *missing], cut, strict=True))
        names |= dict.fromkeys(missing, ["a tenth of train"])
    low, high = (int(getattr(torch.cat([x.flatten() for x in parts.values()]), f)()) for f in ("min", "max"))
    vocab_size = high + 1 if vocab_size is None else vocab_size
    if low < 0 or high >= vocab_size:
        raise ValueError(f"tokens: {low} … {high} is not allowed; they must lie in 0 … {vocab_size - 1}")
    source = splits_in_words(names)
    return TokensWorld(name, parts, vocab_size, lengths.pop(), image_shape, symbols, source)


def _as_tokens(source, column: str) -> Tensor:
    """Read int64 tokens [n, L] from a tensor, an array, lists or a `datasets.Dataset`."""
    if hasattr(source, "with_format"):
        check_choice("column", column, source.column_names or [])
        source = source.with_format(None)[column]
    try:
        x = source if isinstance(source, Tensor) else np.asarray(source[:])
    except (TypeError, ValueError, RuntimeError, LookupError):  # ragged lists, numbers, other objects
        x = np.array(None)
    if isinstance(x, np.ndarray) and x.dtype.kind in "iu":
        x = torch.from_numpy(x.astype(np.int64))
    whole = isinstance(x, Tensor) and x.dtype in WHOLE and x.layout == torch.strided and not x.is_meta
    if not whole or x.ndim != 2 or 0 in x.shape:
        found = f"{type(source).__name__} of {str(x.dtype).removeprefix('torch.')} {list(x.shape)}"
        raise ValueError(
            f"tokens: {found} is not allowed; they must be whole numbers [N, L], all of one length"
        )
    return x.long()
