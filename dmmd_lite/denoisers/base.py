"""Denoisers: functions (z, t, noise=None) -> log_x, from networks, exact worlds or any `nn.Module`.

Under uniform noise two laws are called "x hat": the posterior p(x_l | z_t) and the leave-one-out law
p(x_l | z_t without position l); arXiv 2605.22765. Every denoiser here returns the posterior; a network
that outputs the other one is converted on the way out. For masked positions the two coincide.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from dmmd_lite.networks.base import SplitNetwork
from dmmd_lite.processes.base import LOG_ZERO, Process

OUTPUTS = ("posterior", "leave_one_out")
MAX_LOGITS = 2**28  # values in one tensor of logits where no gradient is taken; 1 GB in float32


class Denoiser(nn.Module):
    """A function (z [B, L], t [B], noise=None) -> log_x [B, L, V].

    It falls into two: `hidden`, which mixes positions, and `log_x`, which does not and may be called with
    some sequences only or, if `per_position`, with any N positions as N sequences of one. Subclasses define
    `forward`, or both parts where there is a vocabulary head that is better not evaluated all at once.
    """

    per_position = True

    def hidden(self, z: Tensor, t: Tensor, noise: Tensor | None = None) -> Tensor:
        """What `log_x` needs to know, [B, P, ...]: here log_x itself."""
        return self(z, t, noise)

    def log_x(self, h: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """Log-probabilities [B, L, V] from what `hidden` gave for z [B, L] and t [B]."""
        return h

    def log_weights(self, h: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """log_x [B, L, V] but for a constant a position, where there is noise; elsewhere it means nothing."""
        return self.log_x(h, z, t)

    def draw_noise(self, batch: int, generator: torch.Generator) -> Tensor | None:
        """Fresh input noise for one call on `batch` sequences; None where no noise is taken."""
        return None


class NetworkDenoiser(Denoiser):
    """Any `nn.Module` (z, t) -> logits [B, L, V or more] as a denoiser.

    output says which law the logits describe, "posterior" or "leave_one_out". A module with a
    `draw_noise(batch, generator)` method that returns a tensor is called as (z, t, noise). Logits beyond
    the first V classes (a MASK output) are ignored. Masked noise gets carry-over.
    """

    def __init__(self, network: nn.Module, process: Process, output: str = "posterior"):
        super().__init__()
        if output not in OUTPUTS:
            raise ValueError(f"output: {output!r} is not allowed; choose one of {OUTPUTS}")
        self.network, self.process, self.output = network, process, output
        self.split = isinstance(network, SplitNetwork)
        self.per_position = network.per_position if self.split else True

    def draw_noise(self, batch: int, generator: torch.Generator) -> Tensor | None:
        """The network's own noise, if it takes any."""
        return self.network.draw_noise(batch, generator) if hasattr(self.network, "draw_noise") else None

    def forward(self, z: Tensor, t: Tensor, noise: Tensor | None = None) -> Tensor:
        """Log-probabilities in float32, [B, L, V]."""
        return self.log_x(self.hidden(z, t, noise), z, t)

    def hidden(self, z: Tensor, t: Tensor, noise: Tensor | None = None) -> Tensor:
        """The hidden vectors of a `SplitNetwork`, the logits of another module."""
        network = self.network.hidden if self.split else self.network
        return network(z, t) if noise is None else network(z, t, noise)

    def log_x(self, h: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """Log-probabilities in float32, [B, L, V]."""
        log_x = log_softmax(self._logits(h), -1)
        if self.output == "leave_one_out":
            log_x = to_posterior(log_x, z, t, self.process)
        return self.process.carry_over(log_x, z)

    def log_weights(self, h: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """The logits in float32, [B, L, V], where they describe the posterior."""
        if self.output == "leave_one_out":
            return self.log_x(h, z, t)
        return self._logits(h)

    def _logits(self, h: Tensor) -> Tensor:
        logits = self.network.logits(h) if self.split else h
        return logits[..., : self.process.vocab_size].float()


def sequences_at_once(length: int, vocab_size: int, most: int = 1024) -> int:
    """Return how many sequences to evaluate together, at least 1, so that logits stay below `MAX_LOGITS`."""
    return max(1, min(most, MAX_LOGITS // (length * vocab_size)))


def denoiser_noise(denoiser: Denoiser, batch: int, generator: torch.Generator, device) -> Tensor | None:
    """Fresh input noise on `device`, or None for a denoiser without noise input."""
    noise = denoiser.draw_noise(batch, generator)
    return None if noise is None else noise.to(device)


def to_posterior(log_loo: Tensor, z: Tensor, t: Tensor, process: Process) -> Tensor:
    """Leave-one-out to posterior: posterior_c is proportional to loo_c q(z_t | x = c). [B, L, V]."""
    return log_softmax(log_loo + process.likelihood(z, t).log().clamp(min=LOG_ZERO).to(log_loo), -1)


def to_leave_one_out(log_x: Tensor, z: Tensor, t: Tensor, process: Process) -> Tensor:
    """Posterior to leave-one-out: loo_c is proportional to posterior_c / q(z_t | x = c). [B, L, V].

    Defined where every class could have given z_t: uniform noise at t > 0, and masked positions. Finite
    elsewhere.
    """
    return log_softmax(log_x - process.likelihood(z, t).log().clamp(min=LOG_ZERO).to(log_x), -1)
