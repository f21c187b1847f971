"""Autoregressive models: the baseline of Table 2, and the judges of generated text."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from dmmd_lite.denoisers.base import sequences_at_once
from dmmd_lite.denoisers.sharpening import check_sharpening, sharpen
from dmmd_lite.utils.rng import categorical


class Autoregressive(nn.Module):
    """p(x) as the product of p(x_l | x_1 … x_{l-1}), from a causal network (symbols, times) -> logits.

    The network reads the sequence moved one place to the right behind a symbol of its own, V; its time
    input is always 0.
    """

    def __init__(self, network: nn.Module, vocab_size: int):
        super().__init__()
        self.network, self.vocab_size = network, vocab_size

    def forward(self, tokens: Tensor) -> Tensor:
        """log p(. | the tokens before) at every position of tokens [B, L], in float32 [B, L, V]."""
        before = torch.full_like(tokens[:, :1], self.vocab_size)
        shifted = torch.cat([before, tokens[:, :-1]], 1)
        logits = self.network(shifted, torch.zeros(len(tokens), device=tokens.device))
        return log_softmax(logits.float(), -1)

    def nll(self, tokens: Tensor) -> Tensor:
        """-log p(token | the tokens before) in nats, [B, L]."""
        return -self(tokens).gather(-1, tokens.unsqueeze(-1)).squeeze(-1)

    @torch.no_grad()
    def sample(
        self,
        num: int,
        length: int,
        *,
        generator: torch.Generator,
        temperature: float = 1.0,
        top_p: float = 1.0,
        batch_size: int | None = None,
        progress: Callable[[int, int], None] | None = None,
        device: torch.device | str = "cpu",
    ) -> Tensor:
        """`num` sequences of `length` tokens, drawn from left to right with `length` evaluations each.

        batch_size: sequences at once; by default `denoisers.sequences_at_once`.

        Errors: ValueError for num below 1, a negative temperature, top_p outside (0, 1].
        """
        if num < 1:
            raise ValueError(f"num: {num!r} is not allowed; it must be a whole number of at least 1")
        check_sharpening(temperature, top_p)
        batch_size = batch_size or sequences_at_once(length, self.vocab_size)
        sizes = [min(batch_size, num - start) for start in range(0, num, batch_size)]
        parts = []
        for index, size in enumerate(sizes):
            tokens = torch.zeros(size, 0, dtype=torch.long, device=device)
            for place in range(length):
                unknown = torch.zeros(size, 1, dtype=torch.long, device=device)
                log_p = self(torch.cat([tokens, unknown], 1))[:, -1]
                drawn = categorical(sharpen(log_p, temperature, top_p), generator)
                tokens = torch.cat([tokens, drawn.unsqueeze(1)], 1)
                if progress is not None:
                    progress(index * length + place + 1, len(sizes) * length)
            parts.append(tokens)
        return torch.cat(parts)
