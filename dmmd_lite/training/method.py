"""What the training loop needs of a method.

A method is a set of players (the networks it trains, by name) and a function

    losses(step, x, generator) -> {player: {term: scalar}}

that names the players to be updated at this step and the terms of each one's loss. The training loop
knows nothing else about a method, and a method knows nothing about optimisers, files or devices.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

Data = Callable[[int, torch.Generator], Tensor]  # (batch, generator) -> clean tokens [batch, L] on the CPU


@runtime_checkable
class Method(Protocol):
    """A method as the training loop sees it.

    A method may keep networks that no optimiser trains but that change during the training, such as a target
    that becomes a copy of the student now and then. It names them in an attribute
    `copies: dict[str, nn.Module]`. The loop moves them to the players' device and saves them in the
    checkpoint. `losses` changes them, and only as `step` and the players determine, because it may be called
    several times per step (accumulation).

    A method may have a function `check_data(x)`, which the loop calls with the batches of the first step. It
    raises ValueError for what is not tokens that the method can learn from.

    Public attributes of a method and of its networks are settings, which make its training another one
    (`training.identity`); what changes while it trains has a private name, `_pool`.
    """

    players: dict[str, nn.Module]

    def losses(self, step: int, x: Tensor, generator: torch.Generator) -> dict[str, dict[str, Tensor]]:
        """Return the loss terms of the players that are updated at this step, for clean tokens x [B, L]."""
        ...
