"""What every world offers: tokens, a way to show them, and the traits that metrics ask for."""

from collections.abc import Iterable
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from dmmd_lite.utils.checks import Count, checked, shown
from dmmd_lite.utils.rng import generator_for
from dmmd_lite.utils.tensors import Integers, check_tokens

RESERVED: set[str] = set()  # names of the package's worlds, filled by `dmmd_lite.worlds`
REFERENCE_SEED = 20_260_320  # of the choice of reference sequences; unlike the seeds of samples
MAX_REFERENCES = 2000  # sequences that features are compared with, where a split has more


class World:
    """A source of token sequences.

    Args:
    name, vocab_size, length: the name, V and L.
    image_shape: (height, width, channels) of images, else None.
    exact: whether the distribution is known, so that `denoisers.ExactDenoiser` gives the true posterior.
    traits: what metrics ask for: "listed" (outcomes are known),
        "enumerable" (all sequences are), "chain", "images", "features" (samples are compared by
        features), "finite" (training images can be copied), "published" (FID is known), "text", "letters"
        (text in the 27 symbols), "judged" (a language model can judge samples).
    extractor: the name of the feature extractor (`metrics.features.load_features`), "" without one.
    packages: modules of `utils.extras` that reading the world's data needs.
    symbols: the characters that tokens stand for, one each; "" where they stand for something else.
    provenance: what records must say of the data, if the data can vary.
    """

    name: str
    vocab_size: int
    length: int
    image_shape: tuple[int, int, int] | None = None
    exact: ClassVar[bool] = False
    traits: frozenset[str] = frozenset()
    extractor: str = ""
    packages: tuple[str, ...] = ()
    symbols: str = ""
    provenance: ClassVar[dict] = {}

    def prepare(self, splits: Iterable[str]) -> None:
        """Read what sampling from `splits` needs, so that missing data raise an error before any work."""

    def sample(self, num: int, generator: torch.Generator, split: str = "train") -> Tensor:
        """Draw `num` token sequences [num, L] from a split ("train", "valid", "test")."""
        raise NotImplementedError

    def reference(self, split: str, num: int = MAX_REFERENCES) -> Tensor:
        """Return `num` real sequences [num, L] that samples are compared with, always the same ones.

        A world that stores its splits overrides this, with a random choice or all sequences of the split.
        """
        return self.sample(num, generator_for("cpu", REFERENCE_SEED), split)

    def conditions(self, num: int, split: str) -> tuple[Tensor, Tensor] | None:
        """Return what samples are to complete: which positions are held, and their tokens, [num, L] each;
        None for worlds whose samples begin with nothing, as most do."""
        return None

    def check_conditions(self, held: Tensor, tokens: Tensor, name: str) -> None:
        """Raise ValueError for a condition, [n, L] each, that the world's own rules exclude. name: of the
        field in the message."""

    @checked
    def parse(self, text: str) -> list[int]:
        """Return the tokens of a text; ValueError for other symbols, and where tokens are no characters."""
        return tokens_of(text, self.symbols, self.name)

    @checked
    def show(self, tokens: Integers) -> list:
        """Turn tokens [B, L] into uint8 images [height, width(, 3)], or else into one string a sequence: of
        `symbols`, or of numbers."""
        if self.image_shape is None:
            rows = tokens.tolist()
            return (
                strings(tokens, self.symbols) if self.symbols else [" ".join(map(str, row)) for row in rows]
            )
        height, width, channels = self.image_shape
        grey = (tokens.cpu().numpy() * (255 / (self.vocab_size - 1))).round().astype(np.uint8)
        images = grey.reshape(-1, height, width, channels)
        return list(images[..., 0] if channels == 1 else images)


class ExactWorld(World):
    """A world whose distribution, and so every posterior, is known."""

    exact = True

    def posterior(self, likelihood: Tensor) -> Tensor:
        """Compute p(x_l | z_t) from `likelihood`, q(z_l | x_l = c) for every position and class; both
        [B, L, V]."""
        raise NotImplementedError


def check_likelihood(likelihood: Tensor, classes: int) -> None:
    """Raise ValueError unless a likelihood is floating-point numbers [B, L, V] of so many classes."""
    shape = tuple(likelihood.shape)
    if len(shape) != 3 or shape[2] != classes or not likelihood.is_floating_point():
        found, words = f"{likelihood.dtype} {shape}", f"floating-point numbers [B, L, {classes}]"
        raise ValueError(f"likelihood: {found} is not allowed; it must be {words}")


def check_shapes(world: World, held: Tensor, tokens: Tensor, name: str) -> None:
    """Raise ValueError unless a condition is bool [n, L] and tokens of the same shape. name: of the field."""
    shapes = tuple(held.shape), tuple(tokens.shape)
    if held.dtype != torch.bool or shapes[0] != shapes[1] or shapes[0][1:] != (world.length,):
        found = f"held, {held.dtype} {shapes[0]}, and tokens {shapes[1]}"
        raise ValueError(f"{name}: {found} are not allowed; they must be bool and tokens [n, {world.length}]")


def check_own_name(name: str) -> None:
    """Raise ValueError if a world of one's own has a name that the package uses."""
    if name.partition("@")[0] in RESERVED:
        raise ValueError(f"name: {name!r} is not allowed; choose one that is none of {sorted(RESERVED)}")


@checked
def chosen(sequences: Tensor, num: Count) -> Tensor:
    """Choose `num` of some sequences [n, L] at random, or all in random order; always the same ones."""
    return sequences[torch.randperm(len(sequences), generator=generator_for("cpu", REFERENCE_SEED))[:num]]


def tokens_of(text: str, symbols: str, name: str) -> list[int]:
    """Return the tokens of a text of symbols, one each; ValueError, with the world's name, for others."""
    if not symbols:
        raise ValueError(f"text: {shown(text)} is not allowed for {name}, whose tokens are no characters")
    for character in text:
        if character not in symbols:
            words = f"{character!r} is none of {symbols!r}"
            raise ValueError(f"text: {shown(text)} is not allowed for {name}; {words}")
    return [symbols.index(character) for character in text]


def strings(tokens: Tensor, symbols: str) -> list[str]:
    """Write tokens [B, L] as one string of symbols a sequence."""
    check_tokens("tokens", tokens, len(symbols))
    return ["".join(symbols[token] for token in row) for row in tokens.tolist()]
