"""Block-autoregressive diffusion (paper, Table 3): blocks from left to right, diffusion within.

Tokens [B, C + size] are C known ones, a multiple of `size` or none, followed by the block that carries noise.
Training sees sequences that end with a random block; a sampler makes one block after the other.
"""

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from dmmd_lite.processes.base import LOG_ZERO, Process
from dmmd_lite.utils.checks import Count, checked
from dmmd_lite.utils.rng import integers


class BlockAutoregressive(Process):
    """Another process on the last `size` positions; the positions before them are known."""

    per_position = False

    @checked
    def __init__(self, process: Process, size: Count):
        """Put `process` into blocks of `size` tokens.

        Errors: ValueError for a size below 1; the methods raise it for lengths that are no multiple of it.
        """
        self.process, self.size = process, size
        for fact in ("vocab_size", "num_symbols", "name", "schedule", "absorbing", "uniform"):
            setattr(self, fact, getattr(process, fact))
        self.reveals_first, self.bound_prediction = process.reveals_first, process.bound_prediction

    def num_noised(self, length: int) -> int:
        """Return the size of a block."""
        if length < self.size or length % self.size:
            raise ValueError(f"length: {length} is not allowed; it must be a multiple of block {self.size}")
        return self.size

    def cut(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return tokens x [B, L] up to the end of one random block, the same for the whole batch."""
        stages = self.stages(x.shape[1])
        return x[:, : stages[int(integers(len(stages), (), generator))]]

    def corrupt(self, x: Tensor, t: Tensor, generator: torch.Generator) -> Tensor:
        """Draw z_t ~ q(z_t | x) in the block, [B, L]."""
        known, block = self._parts(x)
        return torch.cat([known, self.process.corrupt(block, t, generator)], 1)

    def loss_mask(self, z: Tensor) -> Tensor:
        """Return the positions that carry loss, bool [B, L]: those of the inner process, in the block."""
        known, block = self._parts(z)
        return torch.cat([torch.zeros_like(known, dtype=torch.bool), self.process.loss_mask(block)], 1)

    def carry_over(self, log_x: Tensor, z: Tensor) -> Tensor:
        """Put all probability on the known tokens before the block, [B, L, V]."""
        known, block = self._parts(z)
        certain = torch.where(one_hot(known, self.vocab_size).bool(), 0.0, LOG_ZERO).to(log_x)
        return torch.cat([certain, self.process.carry_over(log_x[:, -self.size :], block)], 1)

    def bound_integrand(self, log_x: Tensor, x: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """Compute the integrand of the inner process, nats per position [B, L]."""
        return self.process.bound_integrand(log_x, x, z, t)

    def prior(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Draw z_1 of blocks."""
        return self.process.prior(shape, generator)

    def likelihood(self, z: Tensor, t: Tensor) -> Tensor:
        """Compute q(z_t | x = c) for every class c, [B, L, V]; 1 for a known token itself, else 0."""
        known, block = self._parts(z)
        of_block = self.process.likelihood(block, t)
        return torch.cat([one_hot(known, self.vocab_size).to(of_block), of_block], 1)

    def may_change(self, z: Tensor, u: Tensor, s: Tensor, t: Tensor) -> Tensor:
        """Return where in the block z_s may depend on x given u [B, L], bool [B, L]."""
        known, block = self._parts(z)
        inner = self.process.may_change(block, u[:, -self.size :], s, t)
        return torch.cat([torch.zeros_like(known, dtype=torch.bool), inner], 1)

    def step(
        self, z: Tensor, x: Tensor, s: Tensor, t: Tensor, generator: torch.Generator, u: Tensor | None = None
    ) -> Tensor:
        """Draw z_s ~ q(z_s | z_t, x) in the block, [B, L]."""
        known, block = self._parts(z)
        u = None if u is None else u[:, -self.size :]
        return torch.cat([known, self.process.step(block, x[:, -self.size :], s, t, generator, u)], 1)

    def _parts(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Split tokens into known ones and the block."""
        return tokens.split([tokens.shape[1] - self.size, self.num_noised(tokens.shape[1])], 1)
