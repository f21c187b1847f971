"""Scikit-learn's handwritten digits: 1,797 real images of 8 x 8 pixels with 17 levels."""

from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from dmmd_lite.rng import integers
from dmmd_lite.worlds.base import World

SPLITS = {"train": 1000, "valid": 297, "test": 500}
SPLIT_SEED = 0


class Digits(World):
    """64 tokens of 17 levels. Splits are disjoint and fixed: 1,000 train, 297 valid, 500 test images."""

    name, vocab_size, length, image_shape = "digits", 17, 64, (8, 8, 1)

    @cached_property
    def _parts(self) -> dict[str, tuple[Tensor, Tensor]]:
        from sklearn.datasets import load_digits

        data = load_digits()
        order = np.random.default_rng(SPLIT_SEED).permutation(len(data.target))
        x = torch.from_numpy(data.data.astype(np.int64)[order])
        y = torch.from_numpy(data.target.astype(np.int64)[order])
        sizes = list(SPLITS.values())
        return dict(zip(SPLITS, zip(x.split(sizes), y.split(sizes), strict=True), strict=True))

    def split(self, split: str) -> Tensor:
        """All images of a split, [n, 64]."""
        return self._parts[split][0]

    def labels(self, split: str) -> Tensor:
        """Their classes 0 … 9, [n]."""
        return self._parts[split][1]

    def sample(self, num: int, generator: torch.Generator, split: str = "train") -> Tensor:
        """`num` images drawn with replacement, [num, 64], on the generator's device."""
        images = self.split(split)
        return images.to(generator.device)[integers(len(images), (num,), generator)]

    def show(self, tokens: Tensor) -> list[np.ndarray]:
        """uint8 images [8, 8]."""
        return self.pictures(tokens)
