"""What image worlds share: tokens of grey or colour levels, splits, labels."""

from collections.abc import Iterable
from functools import cached_property
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from dmmd_lite.utils.checks import Between, Count, checked, shown
from dmmd_lite.utils.rng import integers
from dmmd_lite.worlds.base import World, chosen

LEVELS = 256  # maximum number of levels of a pixel
Levels = Annotated[int, Between(2, LEVELS)]


class ImageWorld(World):
    """Images as tokens: one a pixel and channel, row by row, channels last, with `vocab_size` levels.

    Subclasses define `parts` and `num_classes`, the number of labels. One whose training images are drawn
    afresh drops the trait "finite" and defines `draw`.
    """

    image_shape: tuple[int, int, int]
    num_classes: int
    traits = frozenset({"images", "features", "finite"})
    splits: ClassVar[tuple[str, ...]] = ("train", "valid", "test")

    @property
    def endless(self) -> bool:
        """Whether training images are drawn afresh, so that there is no finite training set."""
        return "finite" not in self.traits

    @cached_property
    def parts(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Tokens, uint8 [n, L], and labels, int64 [n], of every split that is a set of images."""
        raise NotImplementedError

    def draw(self, num: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw `num` fresh training images, int64 [num, L], and their labels [num], on the generator's
        device."""
        raise NotImplementedError

    def stored(self, split: str) -> Tensor:
        """Return all images of a split, uint8 [n, L]; ValueError for a split that is not a set of images."""
        self._check(split)
        if split not in self.parts:
            raise ValueError(
                f"split: {split!r} is not allowed for {self.name}, which has no finite training set;"
                f" choose one of {tuple(self.parts)}"
            )
        return self.parts[split][0]

    def split(self, split: str) -> Tensor:
        """Return all images of a split as tokens, int64 [n, L]; errors as for `stored`."""
        return self.stored(split).long()

    def labels(self, split: str) -> Tensor:
        """Return the labels of a split, int64 [n]; errors as for `stored`."""
        self.stored(split)
        return self.parts[split][1]

    @checked
    def prepare(self, splits: Iterable[str]) -> None:
        """Read all images."""
        for split in splits:
            self._check(split)
        _ = self.parts

    @checked
    def sample(self, num: Count, generator: torch.Generator, split: str = "train") -> Tensor:
        """Draw `num` images, int64 [num, L], on the generator's device: with replacement, or fresh ones."""
        self._check(split)
        if self.endless and split == "train":
            return self.draw(num, generator)[0]
        images = self.stored(split)
        return images[integers(len(images), (num,), generator).cpu()].to(generator.device).long()

    def reference(self, split: str, num: int | None = None) -> Tensor:
        """Return all images of a split, uint8 [n, L], in their order, or `num` of them; errors as for
        `stored`."""
        images = self.stored(split)
        return images if num is None else chosen(images, num)

    @checked
    def training_images(self, num: Count, generator: torch.Generator) -> Tensor:
        """Return `num` different training images [num, L], or all in their order where there are no more."""
        if self.endless:
            return self.draw(num, generator)[0]
        images = self.stored("train")
        if num >= len(images):
            return images
        return images[torch.randperm(len(images), generator=generator)[:num]]

    @checked
    def _check(self, split: str) -> None:
        if split not in self.splits:
            raise ValueError(
                f"split: {shown(split)} is not allowed for {self.name}; choose one of {self.splits}"
            )


def quantised(values: Tensor, levels: int) -> Tensor:
    """Round bytes of any shape to the nearest of `levels` evenly spaced levels, uint8; 256 change nothing."""
    if levels == LEVELS:
        return values
    table = (torch.arange(LEVELS) * ((levels - 1) / (LEVELS - 1))).round().to(torch.uint8)
    return table[values.long()]
