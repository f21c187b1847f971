"""Autoregressive models: the baseline of Table 2, and the judges of generated text."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from dmmd_lite.denoisers.base import NOT_FINITE, NonFinitePrediction, sequences_at_once
from dmmd_lite.denoisers.sharpening import sharpen
from dmmd_lite.utils.checks import Count, PositiveFraction, PositiveOrZero, checked
from dmmd_lite.utils.rng import pick, uniform
from dmmd_lite.utils.tensors import Device


class Autoregressive(nn.Module):
    """The model p(x) = prod_l p(x_l | x_1 … x_{l-1}), from a causal network (symbols, times) -> logits.

    The network reads the sequence moved one position to the right behind a start symbol, V; its time input is
    always 0.
    """

    @checked
    def __init__(self, network: nn.Module, vocab_size: Count):
        super().__init__()
        self.network, self.vocab_size = network, vocab_size

    def forward(self, tokens: Tensor) -> Tensor:
        """Return log p(. | the tokens before) at every position of tokens [B, L], in float32 [B, L, V]."""
        before = torch.full_like(tokens[:, :1], self.vocab_size)
        shifted = torch.cat([before, tokens[:, :-1]], 1)
        logits = self.network(shifted, torch.zeros(len(tokens), device=tokens.device))
        return log_softmax(logits.float(), -1)

    def nll(self, tokens: Tensor) -> Tensor:
        """Compute -log p(token | the tokens before) in nats, [B, L]."""
        return -self(tokens).gather(-1, tokens.unsqueeze(-1)).squeeze(-1)

    @checked
    @torch.no_grad()
    def sample(
        self,
        num: Count,
        length: Count,
        *,
        generator: torch.Generator,
        temperature: PositiveOrZero = 1.0,
        top_p: PositiveFraction = 1.0,
        batch_size: Count | None = None,
        progress: Callable[[int, int], None] | None = None,
        device: Device = "cpu",
    ) -> Tensor:
        """Draw `num` sequences of `length` tokens from left to right, with `length` evaluations each.

        Args:
        batch_size: sequences that are drawn together; None: `denoisers.base.sequences_at_once`.
        progress: called as progress(done, total) after every evaluation.
        Errors: ValueError for num below 1, a negative temperature, top_p outside (0, 1];
        NonFinitePrediction.
        """
        batch_size = batch_size or sequences_at_once(length, self.vocab_size)
        sizes = [min(batch_size, num - start) for start in range(0, num, batch_size)]
        parts = []
        for index, size in enumerate(sizes):
            tokens = torch.zeros(size, 0, dtype=torch.long, device=device)
            for position in range(length):
                unknown = torch.zeros(size, 1, dtype=torch.long, device=device)
                log_p = self(torch.cat([tokens, unknown], 1))[:, -1]
                drawn = pick(sharpen(log_p, temperature, top_p), uniform((size,), generator))
                if (drawn < 0).any():
                    raise NonFinitePrediction(f"position {position + 1} of {length}: {NOT_FINITE}")
                tokens = torch.cat([tokens, drawn.unsqueeze(1)], 1)
                if progress is not None:
                    progress(index * length + position + 1, len(sizes) * length)
            parts.append(tokens)
        return torch.cat(parts)
