"""Real sequences that generated ones are compared with."""

import torch
from torch import Tensor

from dmmd_lite.utils.rng import generator_for
from dmmd_lite.worlds.base import World
from dmmd_lite.worlds.text import TextWorld

REFERENCE_SEED = 20_260_320  # of the choice of real windows; unlike the seeds samples are drawn with


def reference_tokens(world: World, split: str, num: int) -> Tensor:
    """`num` sequences of a split in random order, or all it has if those are fewer; always the same ones.

    Text: windows that do not overlap. A world without text of its own is sampled.
    """
    generator = generator_for("cpu", REFERENCE_SEED)
    if not isinstance(world, TextWorld):
        return world.sample(num, generator, split)
    windows = world.split(split)
    return windows[torch.randperm(len(windows), generator=generator)[:num]]


def origin(world: World, split: str) -> dict:
    """What details say of real sequences: their split, and the corpus where that can vary."""
    return {"split": split} | {k: v for k, v in world.provenance.items() if k == "corpus_sha256"}
