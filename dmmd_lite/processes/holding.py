"""Positions that are held: prompts, infilling, clues. They carry no noise, no loss and no reveal.

A held token has a symbol of its own: class c that is held is the symbol S + c, where S is the number of
symbols of the process without holding. So sequences, clean or noisy, say by themselves which of their
positions are held, and everything that slices, shuffles or repeats sequences keeps conditions with them.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import one_hot, pad

from dmmd_lite.processes.base import LOG_ZERO, Process


class Holding(Process):
    """Another process with held positions; without any it is that process, to the bit."""

    holding = True

    def __init__(self, process: Process):
        """Add held positions to a process, which may work in blocks or have a random start."""
        self.process, self.first = process, process.num_symbols
        self.num_symbols = self.first + process.vocab_size
        facts = ("vocab_size", "name", "schedule", "absorbing", "uniform", "reveals_first", "per_position")
        for fact in (*facts, "bound_prediction"):
            setattr(self, fact, getattr(process, fact))

    def hold(self, x: Tensor, held: Tensor) -> Tensor:
        """Return tokens x [B, L] with those held where bool [B, L] is true."""
        return torch.where(held, self.classes(x) + self.first, x)

    def held(self, z: Tensor) -> Tensor:
        """Return which positions of z are held, bool [B, L]."""
        return z >= self.first

    def classes(self, z: Tensor) -> Tensor:
        """Return z [B, L] as the process without holding knows it."""
        return torch.where(self.held(z), z - self.first, z)

    def like(self, x: Tensor, z: Tensor) -> Tensor:
        """Return tokens x [B, L] with those of z that are held."""
        return torch.where(self.held(z), z, x)

    def within(self, wrap: Callable[[Process], Process]) -> "Holding":
        """Return the process of which the one without holding is wrapped."""
        return Holding(wrap(self.process))

    def num_noised(self, length: int) -> int:
        """Return how many of the last tokens may carry noise."""
        return self.process.num_noised(length)

    def prior(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Draw z_1 of positions that are not held."""
        return self.process.prior(shape, generator)

    def corrupt(self, x: Tensor, t: Tensor, generator: torch.Generator) -> Tensor:
        """Draw z_t ~ q(z_t | x), [B, L]; what is held in x stays."""
        return self.like(self.process.corrupt(self.classes(x), t, generator), x)

    def loss_mask(self, z: Tensor) -> Tensor:
        """Return the positions that carry loss, bool [B, L]: those of the process that are not held."""
        return self.process.loss_mask(self.classes(z)) & ~self.held(z)

    def carry_over(self, log_x: Tensor, z: Tensor) -> Tensor:
        """Put all probability on what is held, [B, L, V], and on what the process knows."""
        classes = self.classes(z)
        certain = torch.where(one_hot(self._any_class(classes), self.vocab_size).bool(), 0.0, LOG_ZERO)
        log_x = self.process.carry_over(log_x, classes)
        return torch.where(self.held(z).unsqueeze(-1), certain.to(log_x), log_x)

    def bound_integrand(self, log_x: Tensor, x: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """Compute the integrand of the process, nats per position [B, L]: of a bound on -log p(x | held)."""
        return self.process.bound_integrand(log_x, self.classes(x), self.classes(z), t)

    def likelihood(self, z: Tensor, t: Tensor) -> Tensor:
        """Compute q(z_t | x = c) for every class c, [B, L, V]: 1 for what is held itself, else 0."""
        classes = self.classes(z)
        noisy = self.process.likelihood(classes, t)
        certain = one_hot(self._any_class(classes), self.vocab_size).to(noisy)
        return torch.where(self.held(z).unsqueeze(-1), certain, noisy)

    def posterior_given_probs(self, z: Tensor, x: Tensor, s: Tensor, t: Tensor) -> Tensor:
        """Compute equation 4 of the process for probabilities x [B, L, V], [B, L, symbols]; what is held
        stays."""
        moved = self.process.posterior_given_probs(self.classes(z), x, s, t)
        certain = one_hot(z, self.num_symbols).to(moved)
        return torch.where(self.held(z).unsqueeze(-1), certain, pad(moved, (0, self.vocab_size)))

    def may_change(self, z: Tensor, u: Tensor, s: Tensor, t: Tensor) -> Tensor:
        """Return where z_s may depend on x given u [B, L], bool [B, L]: nowhere that is held."""
        return self.process.may_change(self.classes(z), u, s, t) & ~self.held(z)

    def step(
        self, z: Tensor, x: Tensor, s: Tensor, t: Tensor, generator: torch.Generator, u: Tensor | None = None
    ) -> Tensor:
        """Draw z_s ~ q(z_s | z_t, x), [B, L]; what is held stays."""
        return self.like(self.process.step(self.classes(z), self.classes(x), s, t, generator, u), z)

    def _any_class(self, classes: Tensor) -> Tensor:
        """Return classes [B, L] with any one in the place of symbols that are none, whose rows are unused."""
        return classes.clamp(max=self.vocab_size - 1)
