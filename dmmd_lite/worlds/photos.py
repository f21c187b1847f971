"""Photos: 32 x 32 colour crops of scikit-learn's two photographs, for runs at CIFAR-10's layout offline.

Two photographs show textures, not objects: they prove that 3,072 tokens of 256 levels work, and nothing
about quality.
"""

from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from dmmd_lite.utils.checks import checked
from dmmd_lite.utils.extras import require
from dmmd_lite.utils.files import sha256_of
from dmmd_lite.utils.rng import generator_for, integers
from dmmd_lite.worlds.images import LEVELS, ImageWorld, Levels, quantised

SIZE = 32
REGIONS = {"train": (0, 448), "valid": (448, 544), "test": (544, 640)}  # columns of both photographs
HELD_OUT = {"valid": (1000, 7_203_003), "test": (1000, 7_204_001)}  # crops and their seed
CREDIT = "china.jpg by danielbuechele and flower.jpg by vultilion, Flickr, CC BY 2.0, from scikit-learn"


class Photos(ImageWorld):
    """3,072 tokens of 256 or fewer levels; labels are the photographs, 0 china and 1 flower.

    Splits are regions that do not overlap. Training crops are drawn afresh from 330,264 places; "valid" and
    "test" are 1,000 fixed crops each.
    """

    length, image_shape, num_classes = SIZE * SIZE * 3, (SIZE, SIZE, 3), 2
    traits, extractor, packages = ImageWorld.traits - {"finite"}, "resnet20", ("sklearn",)

    @checked
    def __init__(self, levels: Levels = LEVELS, name: str = "photos"):
        self.name, self.vocab_size = name, levels

    @cached_property
    def photographs(self) -> Tensor:
        """The two photographs, uint8 [2, 427, 640, 3]."""
        require(*self.packages)
        from sklearn.datasets import load_sample_images

        return torch.from_numpy(np.stack(load_sample_images().images))

    @cached_property
    def provenance(self) -> dict:
        """The photographers, and the SHA-256 of the pixels, which decoders may read differently."""
        return {"photos_credit": CREDIT, "photos_sha256": sha256_of(self.photographs.numpy().tobytes())}

    @cached_property
    def parts(self) -> dict[str, tuple[Tensor, Tensor]]:
        """The held-out crops: tokens, uint8 [n, 3072], and photographs [n]."""
        return {
            split: self._crops(split, n, generator_for("cpu", seed)) for split, (n, seed) in HELD_OUT.items()
        }

    def draw(self, num: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw `num` crops of the training region, int64 [num, 3072], and their photographs [num]."""
        crops, photograph = self._crops("train", num, generator)
        return crops.to(generator.device).long(), photograph.to(generator.device)

    def _crops(self, split: str, num: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        first, end = REGIONS[split]
        windows = self.photographs[:, :, first:end].unfold(1, SIZE, 1).unfold(2, SIZE, 1)
        which, row, column = (integers(n, (num,), generator).cpu() for n in windows.shape[:3])
        crops = windows[which, row, column].permute(0, 2, 3, 1)  # [num, 32, 32, 3]
        return quantised(crops, self.vocab_size).flatten(1), which
