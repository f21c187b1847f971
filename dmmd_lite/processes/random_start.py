"""Paths that keep one random start until each of its tokens becomes data, for ReDi and Di[M]O."""

import torch
from torch import Tensor
from torch.nn.functional import one_hot, pad

from dmmd_lite.processes.base import Process, arrived
from dmmd_lite.utils.rng import integers, uniform


class RandomStart(Process):
    """Paths from a random start: a token is what it was at t = 1 until, once, it becomes x.

    Start of a path, every position alone: under masked noise MASK with probability `masked` and else a
    uniform token, under uniform noise a uniform token. Since z_t ~ Cat(alpha_t x + (1 - alpha_t) pi) as
    ever, pi being the law of the start, it is a noise process like the others, but a step keeps to the path
    of one start, as a coupling of starts and data demands (discrete flow matching, arXiv 2407.15595; ReDi,
    arXiv 2507.15897). The step of uniform noise does not: at t = 1 it forgets the start.

    A token that is not MASK may be noise, so all positions are scored and nothing is carried over.
    """

    absorbing = False

    def __init__(self, process: Process, masked: float = 0.0):
        """process: the noise whose symbols and schedule these paths have. ValueError for masked outside
        [0, 1] and for a process in blocks."""
        if not 0 <= masked <= 1:
            raise ValueError(f"masked: {masked!r} is not allowed; it must lie in [0, 1]")
        if not process.per_position:
            raise ValueError("block: a random start is not allowed with blocks; only 0")
        self.vocab_size, self.num_symbols = process.vocab_size, process.num_symbols
        self.name, self.schedule = process.name, process.schedule
        self.masked = masked if process.absorbing else 0.0

    def loss_mask(self, z: Tensor) -> Tensor:
        """Positions that carry loss, bool [B, L]: all of them."""
        return torch.ones_like(z, dtype=torch.bool)

    def carry_over(self, log_x: Tensor, z: Tensor) -> Tensor:
        """Nothing is known for certain: log_x itself."""
        return log_x

    def prior(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """z_1: MASK with probability `masked`, else a uniform token."""
        token = integers(self.vocab_size, shape, generator)
        return torch.where(uniform(shape, generator) < self.masked, self.vocab_size, token)

    def likelihood(self, z: Tensor, t: Tensor) -> Tensor:
        """q(z_t | x = c) for every class c, [B, L, V]."""
        alpha = self.alpha(t).unsqueeze(-1)
        token = alpha.new_tensor((1 - self.masked) / self.vocab_size)
        start = torch.where(z == self.vocab_size, self.masked, token).unsqueeze(-1)
        seen = one_hot(z, self.vocab_size + 1)[..., :-1].to(alpha)
        return alpha * seen + (1 - alpha) * start

    def posterior(self, z: Tensor, x: Tensor, s: Tensor, t: Tensor) -> Tensor:
        """q(z_s | z_t, x) for tokens x [B, L]; probabilities [B, L, num_symbols]."""
        return self.posterior_given_probs(z, one_hot(x, self.vocab_size).to(s.dtype), s, t)

    def posterior_given_probs(self, z: Tensor, x: Tensor, s: Tensor, t: Tensor) -> Tensor:
        """The same with probabilities x [B, L, V], in which it is linear."""
        alpha_s, alpha_t = self.alpha(s).unsqueeze(-1), self.alpha(t).unsqueeze(-1)
        arrive = (alpha_s - alpha_t) / (1 - alpha_t)
        x = pad(x, (0, self.num_symbols - self.vocab_size))
        return arrive * x + (1 - arrive) * one_hot(z, self.num_symbols).to(x.dtype)

    def may_change(self, z: Tensor, u: Tensor, s: Tensor, t: Tensor) -> Tensor:
        """Where z_s is x: positions with u [B, L] below (alpha_s - alpha_t)/(1 - alpha_t), bool [B, L]."""
        return arrived(self, u, s, t).to(z.device)
