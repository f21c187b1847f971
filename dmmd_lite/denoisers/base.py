"""Denoisers: functions (z, t, noise=None) -> log_x, from networks, exact worlds or any `nn.Module`.

Under uniform noise two distributions are called "x hat": the posterior p(x_l | z_t) and the leave-one-out
distribution p(x_l | z_t without position l); arXiv 2605.22765. Every denoiser here returns the posterior; the
output of a network that predicts the other one is converted. For masked positions the two coincide.
"""

from inspect import signature
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from dmmd_lite.networks.base import SplitNetwork
from dmmd_lite.processes.base import LOG_ZERO, Process
from dmmd_lite.utils.checks import checked

Output = Literal["posterior", "leave_one_out"]
OUTPUTS = get_args(Output)
NOT_FINITE = "the prediction is no distribution: NaN or +inf in its logits, or -inf in all of them"
MAX_LOGITS = 2**28  # elements in one tensor of logits where no gradient is needed; 1 GB in float32


class NonFinitePrediction(ValueError):
    """The error of a prediction that is no distribution, where samples or their distribution depend on it."""


class Denoiser(nn.Module):
    """A function (z [B, L], t [B], noise=None) -> log_x [B, L, V].

    It has two parts: `hidden`, which mixes positions, and `log_x`, which does not and may be called with some
    of the sequences or, if `per_position`, with any N positions as N sequences of one. Subclasses define
    `forward`, or both parts if they have a vocabulary head that should be evaluated in chunks.
    """

    per_position = True

    def hidden(self, z: Tensor, t: Tensor, noise: Tensor | None = None) -> Tensor:
        """Compute what `log_x` reads, [B, P, ...]: by default log_x itself."""
        return self(z, t, noise)

    def log_x(self, h: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """Return log-probabilities [B, L, V] from what `hidden` gave for z [B, L] and t [B]."""
        return h

    def log_weights(self, h: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """Return unnormalised log-probabilities [B, L, V] at noisy positions; others have no meaning."""
        return self.log_x(h, z, t)

    def draw_noise(self, batch: int, generator: torch.Generator) -> Tensor | None:
        """Draw input noise for one call on `batch` sequences; None for a denoiser that takes none."""
        return None


class NetworkDenoiser(Denoiser):
    """A denoiser made of any `nn.Module` (z, t) -> logits [B, L, V or more].

    output: the distribution that the logits describe, "posterior" or "leave_one_out". A module with a method
    `draw_noise(batch, generator)` that returns a tensor is called as (z, t, noise). Logits beyond the first V
    classes (a MASK output) are ignored. Logits of -inf get log-probability `LOG_ZERO`, so that losses stay
    finite; those of a `SplitNetwork` have to be finite. Under masked noise, known tokens are carried over.
    Where positions may be held, a module with an argument `held` gets which are, bool [B, L].
    """

    @checked
    def __init__(
        self,
        network: nn.Module,
        process: Process,
        output: Output = "posterior",
    ):
        super().__init__()
        self.network, self.process, self.output = network, process, output
        self.split = isinstance(network, SplitNetwork)
        self.per_position = network.per_position if self.split else True
        self.reads_held = "held" in signature(network.hidden if self.split else network.forward).parameters

    def draw_noise(self, batch: int, generator: torch.Generator) -> Tensor | None:
        """Draw the network's input noise, if it takes any."""
        return self.network.draw_noise(batch, generator) if hasattr(self.network, "draw_noise") else None

    def forward(self, z: Tensor, t: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return log-probabilities in float32, [B, L, V]."""
        return self.log_x(self.hidden(z, t, noise), z, t)

    def hidden(self, z: Tensor, t: Tensor, noise: Tensor | None = None) -> Tensor:
        """Compute the hidden vectors of a `SplitNetwork`, or the logits of another module."""
        network = self.network.hidden if self.split else self.network
        inputs = (z, t) if noise is None else (z, t, noise)
        if not self.process.holding or z.is_floating_point():
            return network(*inputs)
        held = {"held": self.process.held(z)} if self.reads_held else {}
        return network(self.process.classes(z), *inputs[1:], **held)

    def log_x(self, h: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """Return log-probabilities in float32, [B, L, V]."""
        log_x = log_softmax(self._logits(h), -1)
        if not self.split:  # a module that is not ours may give logits of -inf
            log_x = log_x.clamp(min=LOG_ZERO)
        if self.output == "leave_one_out":
            log_x = to_posterior(log_x, z, t, self.process)
        return self.process.carry_over(log_x, z)

    def log_weights(self, h: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """Return the logits in float32, [B, L, V], if they describe the posterior, else `log_x`."""
        return self._logits(h) if self.output == "posterior" else self.log_x(h, z, t)

    def _logits(self, h: Tensor) -> Tensor:
        logits = self.network.logits(h) if self.split else h
        return logits[..., : self.process.vocab_size].float()


def sequences_at_once(length: int, vocab_size: int, most: int = 1024) -> int:
    """Return how many sequences to evaluate together, at least 1, so that logits stay below `MAX_LOGITS`."""
    return max(1, min(most, MAX_LOGITS // (length * vocab_size)))


def denoiser_noise(denoiser: Denoiser, batch: int, generator: torch.Generator, device) -> Tensor | None:
    """Draw input noise on `device`; None for a denoiser without noise input."""
    noise = denoiser.draw_noise(batch, generator)
    return None if noise is None else noise.to(device)


def to_posterior(log_loo: Tensor, z: Tensor, t: Tensor, process: Process) -> Tensor:
    """Convert leave-one-out to posterior, which is proportional to loo_c q(z_t | x = c), [B, L, V]."""
    return log_softmax(log_loo + process.likelihood(z, t).log().clamp(min=LOG_ZERO).to(log_loo), -1)


def to_leave_one_out(log_x: Tensor, z: Tensor, t: Tensor, process: Process) -> Tensor:
    """Convert posterior to leave-one-out, which is proportional to posterior_c / q(z_t | x = c), [B, L, V].

    It is defined where every class could have given z_t (uniform noise at t > 0, and masked positions), and
    finite elsewhere.
    """
    return log_softmax(log_x - process.likelihood(z, t).log().clamp(min=LOG_ZERO).to(log_x), -1)
