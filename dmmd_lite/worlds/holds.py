"""Which positions of training sequences are held: the conditions that a model learns to complete."""

from collections.abc import Callable

import torch
from torch import Tensor

from dmmd_lite.utils.rng import integers, uniform
from dmmd_lite.worlds.base import World


def _clues(world: World, num: int, generator: torch.Generator, split: str) -> tuple[Tensor, Tensor]:
    if not hasattr(world, "sample_held"):
        raise ValueError(f"holds: 'clues' is not allowed for {world.name}, whose data have none")
    return world.sample_held(num, generator, split)


def _random(world: World, num: int, generator: torch.Generator, split: str) -> tuple[Tensor, Tensor]:
    """Hold each position of a sequence with one probability, which is uniform in [0, 1]."""
    x = world.sample(num, generator, split)
    share = uniform((num, 1), generator)
    return x, (uniform(x.shape, generator) < share).to(x.device)


def _prefix(world: World, num: int, generator: torch.Generator, split: str) -> tuple[Tensor, Tensor]:
    """Hold the beginning of a sequence; all lengths from 0 to L - 1 are equally likely."""
    x = world.sample(num, generator, split)
    length = integers(world.length, (num, 1), generator)
    return x, (torch.arange(world.length, device=generator.device) < length).to(x.device)


def _own(world: World, num: int, generator: torch.Generator, split: str) -> tuple[Tensor, Tensor]:
    raise ValueError("holds: 'own' is not allowed here; only the function that was given knows what is held")


HOLDS: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {
    "clues": _clues,
    "random": _random,
    "prefix": _prefix,
    "own": _own,
}


def sample_held(
    world: World, holds: str, num: int, generator: torch.Generator, split: str = "train"
) -> tuple[Tensor, Tensor]:
    """Draw `num` sequences [num, L] and which of their positions are held, bool [num, L].

    holds: "clues" of the data, "random" positions, or a "prefix"; "own" stands for a function of the user's.
    """
    return HOLDS[holds](world, num, generator, split)
