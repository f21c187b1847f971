"""What every world offers: tokens, and a way to show them."""

from collections.abc import Iterable
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

RESERVED: set[str] = set()  # names of the package's own worlds, filled by `dmmd_lite.worlds`


class World:
    """Where tokens come from.

    name, vocab_size (V), length (L); image_shape is (height, width, channels) for pictures, else None.
    exact is True where the law is known and `denoisers.ExactDenoiser` gives the truth.
    """

    name: str
    vocab_size: int
    length: int
    image_shape: tuple[int, int, int] | None = None
    exact: ClassVar[bool] = False
    provenance: ClassVar[dict] = {}  # what models and records must say of the data, if it can vary

    def prepare(self, splits: Iterable[str]) -> None:
        """Read what sampling from `splits` needs, so that what is missing is said before any work."""

    def sample(self, num: int, generator: torch.Generator, split: str = "train") -> Tensor:
        """`num` token sequences [num, L] drawn from a split ("train", "valid", "test")."""
        raise NotImplementedError

    def show(self, tokens: Tensor) -> list:
        """Tokens [B, L] as things a person can look at: strings, or uint8 images [height, width(, 3)]."""
        raise NotImplementedError

    def pictures(self, tokens: Tensor) -> list[np.ndarray]:
        """Tokens [B, L] of an image world as uint8 images, dark ink on white left to the plot."""
        height, width, channels = self.image_shape
        grey = (tokens.cpu().numpy() * (255 / (self.vocab_size - 1))).round().astype(np.uint8)
        images = grey.reshape(-1, height, width, channels)
        return list(images[..., 0] if channels == 1 else images)


class ExactWorld(World):
    """A world whose law, and so every posterior, is known."""

    exact = True

    def posterior(self, likelihood: Tensor) -> Tensor:
        """p(x_l | z_t) from `likelihood`, q(z_l | x_l = c) for every position and class; both [B, L, V]."""
        raise NotImplementedError
