"""Masked (absorbing) noise: a token that is not kept becomes the symbol MASK."""

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from dmmd_lite.processes.base import LOG_ZERO, Process, arrival, arrived


class Masked(Process):
    """Absorbing noise. The MASK symbol is the input value V; networks never output it."""

    name = "masked"
    absorbing = reveals_first = True

    @property
    def num_symbols(self) -> int:
        """Return V + 1: the classes and MASK."""
        return self.vocab_size + 1

    @property
    def mask(self) -> int:
        """Return the value of the MASK symbol."""
        return self.vocab_size

    def loss_mask(self, z: Tensor) -> Tensor:
        """Return the positions that carry loss, bool [B, L]: those still masked."""
        return z == self.mask

    def carry_over(self, log_x: Tensor, z: Tensor) -> Tensor:
        """Put all probability on the token itself at revealed positions, [B, L, V]."""
        token = z.clamp(max=self.vocab_size - 1).unsqueeze(-1)  # any class stands for MASK; its row is unused
        revealed = torch.full_like(log_x, LOG_ZERO).scatter_(-1, token, 0.0)
        return torch.where((z == self.mask).unsqueeze(-1), log_x, revealed)

    def bound_integrand(self, log_x: Tensor, x: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """Compute the cross-entropy of tokens x times -alpha'/(1 - alpha) (MDLM, MD4), [B, L]."""
        return -log_x.gather(-1, x.unsqueeze(-1)).squeeze(-1) * self.loss_weight(t).unsqueeze(-1)

    def prior(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Return z_1: MASK everywhere."""
        return torch.full(shape, self.mask, device=generator.device)

    def likelihood(self, z: Tensor, t: Tensor) -> Tensor:
        """Compute q(z_t | x = c) for every class c, [B, L, V]."""
        alpha = self.alpha(t).unsqueeze(-1)
        seen = alpha * one_hot(z, self.num_symbols)[..., :-1].to(alpha)
        return torch.where((z == self.mask).unsqueeze(-1), 1 - alpha, seen)

    def posterior_given_probs(self, z: Tensor, x: Tensor, s: Tensor, t: Tensor) -> Tensor:
        """Compute equation 4 with probabilities x [B, L, V] in place of a token, [B, L, V + 1].

        This is the average of `posterior` over x, because equation 4 is linear in x for masked noise.
        """
        reveal = arrival(self, s, t).unsqueeze(-1)
        unmasking = torch.cat([reveal * x, (1 - reveal).expand(*z.shape, 1)], -1)
        kept = one_hot(z, self.num_symbols).to(x.dtype)
        return torch.where((z == self.mask).unsqueeze(-1), unmasking, kept)

    def may_change(self, z: Tensor, u: Tensor, s: Tensor, t: Tensor) -> Tensor:
        """Return where z_s is x, bool [B, L]: masked positions with u below (alpha_s-alpha_t)/(1-alpha_t)."""
        return arrived(self, u, s, t).to(z.device) & (z == self.mask)
