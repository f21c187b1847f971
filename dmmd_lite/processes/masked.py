"""Masked (absorbing) noise: a token that is not kept becomes the symbol MASK."""

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from dmmd_lite.processes.base import LOG_ZERO, Process, arrived


class Masked(Process):
    """Absorbing noise. The MASK symbol is the input value V; networks never output it."""

    name, absorbing = "masked", True

    @property
    def num_symbols(self) -> int:
        """V + 1: the classes and MASK."""
        return self.vocab_size + 1

    @property
    def mask(self) -> int:
        """The MASK symbol's value."""
        return self.vocab_size

    def loss_mask(self, z: Tensor) -> Tensor:
        """Positions that carry loss, bool [B, L]: those still masked."""
        return z == self.mask

    def carry_over(self, log_x: Tensor, z: Tensor) -> Tensor:
        """Revealed positions are known: their law becomes the revealed token, [B, L, V]."""
        token = z.clamp(max=self.vocab_size - 1).unsqueeze(-1)  # MASK is given any; its row is not used
        revealed = torch.full_like(log_x, LOG_ZERO).scatter_(-1, token, 0.0)
        return torch.where((z == self.mask).unsqueeze(-1), log_x, revealed)

    def prior(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """z_1: MASK everywhere."""
        return torch.full(shape, self.mask, device=generator.device)

    def likelihood(self, z: Tensor, t: Tensor) -> Tensor:
        """q(z_t | x = c) for every class c, [B, L, V]."""
        alpha = self.alpha(t).unsqueeze(-1)
        seen = alpha * one_hot(z, self.num_symbols)[..., :-1].to(alpha)
        return torch.where((z == self.mask).unsqueeze(-1), 1 - alpha, seen)

    def posterior(self, z: Tensor, x: Tensor, s: Tensor, t: Tensor) -> Tensor:
        """q(z_s | z_t, x), equation 4, for tokens x [B, L]; probabilities [B, L, V + 1]."""
        return self.posterior_given_probs(z, one_hot(x, self.vocab_size).to(s.dtype), s, t)

    def posterior_given_probs(self, z: Tensor, x: Tensor, s: Tensor, t: Tensor) -> Tensor:
        """Equation 4 with probabilities x [B, L, V] in place of a token; the same as averaging
        `posterior` over x, because the expression is linear in x for masked noise."""
        alpha_s, alpha_t = self.alpha(s).unsqueeze(-1), self.alpha(t).unsqueeze(-1)
        reveal = (alpha_s - alpha_t) / (1 - alpha_t)
        unmasking = torch.cat([reveal * x, (1 - reveal).expand(*z.shape, 1)], -1)
        return torch.where(
            (z == self.mask).unsqueeze(-1), unmasking, one_hot(z, self.num_symbols).to(x.dtype)
        )

    def may_change(self, z: Tensor, u: Tensor, s: Tensor, t: Tensor) -> Tensor:
        """Where z_s is x: masked positions with u [B, L] below (alpha_s-alpha_t)/(1-alpha_t), bool [B, L]."""
        return arrived(self, u, s, t).to(z.device) & (z == self.mask)
