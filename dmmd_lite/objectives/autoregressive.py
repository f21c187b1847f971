"""Autoregressive training: the cross-entropy of the next token."""

import torch
from torch import Tensor

from dmmd_lite.denoisers.autoregressive import Autoregressive
from dmmd_lite.utils.checks import check
from dmmd_lite.utils.tensors import Tokens, check_tokens


class AutoregressiveObjective:
    """The objective of an autoregressive model: player "model", trained on data."""

    def __init__(self, model: Autoregressive):
        self.players = {"model": model}

    def losses(self, step: int, x: Tensor, generator: torch.Generator) -> dict[str, dict[str, Tensor]]:
        """Return the cross-entropy of tokens x [B, L], in nats per token."""
        return {"model": {"cross_entropy": self.players["model"].nll(x).mean()}}

    def check_data(self, x: Tensor) -> None:
        """Raise ValueError unless x is tokens of the model, int64 [B, L]."""
        check_tokens("data", check("data", x, Tokens), self.players["model"].vocab_size)
