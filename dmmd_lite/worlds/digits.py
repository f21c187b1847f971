"""Scikit-learn's handwritten digits: 1,797 real images of 8 x 8 pixels with 17 levels."""

from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from dmmd_lite.utils.extras import require
from dmmd_lite.worlds.images import ImageWorld

SPLITS = {"train": 1000, "valid": 297, "test": 500}
SPLIT_SEED = 0


class Digits(ImageWorld):
    """64 tokens of 17 levels. Splits are disjoint and fixed: 1,000 train, 297 valid, 500 test images."""

    name, vocab_size, length, image_shape, num_classes = "digits", 17, 64, (8, 8, 1), 10
    extractor, packages = "digits-classifier", ("sklearn",)

    @cached_property
    def parts(self) -> dict[str, tuple[Tensor, Tensor]]:
        """The images, uint8 [n, 64], and classes 0 … 9 of every split."""
        require(*self.packages)
        from sklearn.datasets import load_digits

        data = load_digits()
        order = np.random.default_rng(SPLIT_SEED).permutation(len(data.target))
        x = torch.from_numpy(data.data.astype(np.uint8)[order])
        y = torch.from_numpy(data.target.astype(np.int64)[order])
        sizes = list(SPLITS.values())
        return dict(zip(SPLITS, zip(x.split(sizes), y.split(sizes), strict=True), strict=True))
