"""Text worlds: windows of fixed length from one long stream of tokens a split."""

import re
import string
from collections.abc import Iterable
from functools import cached_property

import torch
from torch import Tensor

from dmmd_lite.utils.checks import Count, checked, shown
from dmmd_lite.utils.rng import integers
from dmmd_lite.worlds.base import MAX_REFERENCES, World, chosen, strings

SYMBOLS = " " + string.ascii_lowercase  # 27 symbols, in the order of their token values


def to_symbols(text: str) -> str:
    """Reduce text to the 27 symbols: lower case, with every run of other characters turned into one space."""
    return re.sub("[^a-z]+", " ", text.lower())


def encode_symbols(text: str) -> Tensor:
    """Encode text that consists of the 27 symbols as tokens, uint8 [characters]."""
    letters = torch.frombuffer(bytearray(text.encode("ascii")), dtype=torch.uint8)
    return torch.where(letters == ord(" "), 0, letters - ord("a") + 1).to(torch.uint8)


def show_symbols(tokens: Tensor) -> list[str]:
    """Write tokens [B, L] of the 27 symbols as one string a sequence."""
    return strings(tokens, SYMBOLS)


class TextWorld(World):
    """A corpus with disjoint splits. A sequence is any window of `length` tokens of its split's stream.

    Subclasses define `streams`: the tokens of every split, one dimension each, in any integer type.
    """

    splits: tuple[str, ...] = ("train", "valid", "test")

    @property
    def symbols(self) -> str:
        """The 27 symbols, or "" where tokens are not letters."""
        return SYMBOLS if self.vocab_size == len(SYMBOLS) else ""

    @property
    def traits(self) -> frozenset[str]:
        """Text that can be judged; "letters" if tokens are the 27 symbols."""
        return frozenset({"text", "judged"} | ({"letters"} if self.symbols else set()))

    @cached_property
    def streams(self) -> dict[str, Tensor]:
        """The tokens of every split, [tokens]."""
        raise NotImplementedError

    @checked
    def stream(self, split: str) -> Tensor:
        """Return the tokens of one split. ValueError for an unknown split or one shorter than a sequence."""
        if split not in self.splits:
            raise ValueError(
                f"split: {shown(split)} is not allowed for {self.name}; choose one of {self.splits}"
            )
        stream = self.streams[split]
        if len(stream) < self.length:
            raise ValueError(
                f"{self.name}: the {split} text has {len(stream)} tokens; a sequence needs {self.length}"
            )
        return stream

    @checked
    def prepare(self, splits: Iterable[str]) -> None:
        """Read the streams of `splits`; errors as for `stream`."""
        for split in splits:
            self.stream(split)

    @checked
    def sample(self, num: Count, generator: torch.Generator, split: str = "train") -> Tensor:
        """Draw `num` windows that begin anywhere in a split, [num, L], on the generator's device."""
        windows = self.stream(split).unfold(0, self.length, 1)
        starts = integers(len(windows), (num,), generator)
        return windows[starts.cpu()].long().to(generator.device)

    def split(self, split: str) -> Tensor:
        """Cut a split into windows that do not overlap, [n, L]; the remainder at the end is dropped."""
        stream = self.stream(split)
        return stream[: len(stream) // self.length * self.length].view(-1, self.length).long()

    def reference(self, split: str, num: int = MAX_REFERENCES) -> Tensor:
        """Return `num` windows [num, L] that do not overlap, or all; always the same ones."""
        return chosen(self.split(split), num)
