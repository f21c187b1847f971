"""Autoregressive training: the cross-entropy of the next token."""

import torch
from torch import Tensor

from dmmd_lite.denoisers.autoregressive import Autoregressive


class AutoregressiveObjective:
    """Train one autoregressive model on data."""

    def __init__(self, model: Autoregressive):
        self.players = {"model": model}

    def losses(self, step: int, x: Tensor, generator: torch.Generator) -> dict[str, dict[str, Tensor]]:
        """Nats per token."""
        return {"model": {"cross_entropy": self.players["model"].nll(x).mean()}}
