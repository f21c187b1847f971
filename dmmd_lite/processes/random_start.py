"""Paths that keep one random start until each of its tokens becomes data, for ReDi and Di[M]O."""

import torch
from torch import Tensor
from torch.nn.functional import one_hot, pad

from dmmd_lite.processes.base import Process, arrival, arrived
from dmmd_lite.utils.checks import Fraction, checked
from dmmd_lite.utils.rng import integers, uniform


class RandomStart(Process):
    """Paths from a random start: a token stays what it was at t = 1 until, once, it becomes x.

    The start of a path is drawn per position: under masked noise it is MASK with probability `masked`, else a
    uniform token, and under uniform noise a uniform token. z_t ~ Cat(alpha_t x + (1 - alpha_t) pi) holds, pi
    being the distribution of the start, so this is a noise process like the others; but a step keeps to the
    path of one start, as a coupling of starts and data demands (discrete flow matching, arXiv 2407.15595;
    ReDi, arXiv 2507.15897). The step of uniform noise does not: at t = 1 it forgets the start.

    A token that is not MASK may be noise, so all positions carry loss and nothing is carried over.
    """

    @checked
    def __init__(self, process: Process, masked: Fraction = 0.0):
        """Make the paths with the symbols and the schedule of `process`.

        masked: share of MASK in the start, for absorbing noise; else it is not used.
        Errors: ValueError for masked outside [0, 1], for blocks, and for other noise than masked or uniform.
        """
        if not process.per_position:
            raise ValueError("block: a random start is not allowed with blocks; only 0")
        if not (process.absorbing or process.uniform):
            raise ValueError(f"process: {process.name!r} is not allowed with a random start of its paths")
        self.vocab_size, self.num_symbols = process.vocab_size, process.num_symbols
        self.name, self.schedule = process.name, process.schedule
        self.masked = masked if process.absorbing else 0.0

    def prior(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Draw z_1: MASK with probability `masked`, else a uniform token."""
        token = integers(self.vocab_size, shape, generator)
        return torch.where(uniform(shape, generator) < self.masked, self.vocab_size, token)

    def likelihood(self, z: Tensor, t: Tensor) -> Tensor:
        """Compute q(z_t | x = c) for every class c, [B, L, V]."""
        alpha = self.alpha(t).unsqueeze(-1)
        token = alpha.new_tensor((1 - self.masked) / self.vocab_size)
        start = torch.where(z == self.vocab_size, self.masked, token).unsqueeze(-1)
        seen = one_hot(z, self.vocab_size + 1)[..., :-1].to(alpha)
        return alpha * seen + (1 - alpha) * start

    def posterior_given_probs(self, z: Tensor, x: Tensor, s: Tensor, t: Tensor) -> Tensor:
        """Compute q(z_s | z_t, x), which is linear in x, for probabilities x [B, L, V]; [B, L, symbols]."""
        arrive = arrival(self, s, t).unsqueeze(-1)
        x = pad(x, (0, self.num_symbols - self.vocab_size))
        return arrive * x + (1 - arrive) * one_hot(z, self.num_symbols).to(x.dtype)

    def may_change(self, z: Tensor, u: Tensor, s: Tensor, t: Tensor) -> Tensor:
        """Return where z_s is x, bool [B, L]: positions with u below (alpha_s - alpha_t)/(1 - alpha_t)."""
        return arrived(self, u, s, t).to(z.device)
