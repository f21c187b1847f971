"""Autoregressive training: the cross-entropy of the next token."""

import torch
from torch import Tensor

from dmmd_lite.denoisers.autoregressive import Autoregressive


class AutoregressiveObjective:
    """The objective of an autoregressive model: player "model", trained on data."""

    def __init__(self, model: Autoregressive):
        self.players = {"model": model}

    def losses(self, step: int, x: Tensor, generator: torch.Generator) -> dict[str, dict[str, Tensor]]:
        """Return the cross-entropy of tokens x [B, L], in nats per token."""
        return {"model": {"cross_entropy": self.players["model"].nll(x).mean()}}
