"""Denoisers: functions (z, t, noise=None) -> log_x, from networks, exact worlds or any `nn.Module`.

Under uniform noise two laws are called "x hat": the posterior p(x_l | z_t) and the leave-one-out law
p(x_l | z_t without position l); arXiv 2605.22765. Every denoiser here returns the posterior; a network
that outputs the other one is converted on the way out. For masked positions the two coincide.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from dmmd_lite.networks import SplitNetwork
from dmmd_lite.processes import LOG_ZERO, Process
from dmmd_lite.worlds.base import World

OUTPUTS = ("posterior", "leave_one_out")
LARGEST = 2**28  # values in one tensor of logits where no gradient is taken; 1 GB in float32


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


class ExactDenoiser(Denoiser):
    """The true posterior of an exact world. `floor` is the least probability returned (see the world)."""

    def __init__(self, world: World, process: Process, floor: float = 1e-6):
        super().__init__()
        if not world.exact:
            raise ValueError(f"world: {world.name!r} is not allowed; its law is not known exactly")
        self.world, self.process, self.floor = world, process, floor

    def forward(self, z: Tensor, t: Tensor, noise: Tensor | None = None) -> Tensor:
        """Log-probabilities in float32, [B, L, V]."""
        log_x = self.world.log_posterior(z, t, self.process, self.floor).float()
        return self.process.carry_over(log_x, z)


class Sharpened(Denoiser):
    """Another denoiser at a temperature and top-p; the teacher of section 3.3 with a finite delta."""

    def __init__(self, denoiser: Denoiser, temperature: float = 1.0, top_p: float = 1.0, delta: float = 2.0):
        super().__init__()
        check_sharpening(temperature, top_p)
        self.denoiser, self.temperature, self.top_p, self.delta = denoiser, temperature, top_p, delta
        self.per_position = denoiser.per_position

    def draw_noise(self, batch: int, generator: torch.Generator) -> Tensor | None:
        """The inner denoiser's noise."""
        return self.denoiser.draw_noise(batch, generator)

    def forward(self, z: Tensor, t: Tensor, noise: Tensor | None = None) -> Tensor:
        """Sharpened log-probabilities, [B, L, V]."""
        return self.log_x(self.hidden(z, t, noise), z, t)

    def hidden(self, z: Tensor, t: Tensor, noise: Tensor | None = None) -> Tensor:
        """The inner denoiser's."""
        return self.denoiser.hidden(z, t, noise)

    def log_x(self, h: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """The inner denoiser's log-probabilities, sharpened."""
        return sharpen(self.denoiser.log_x(h, z, t), self.temperature, self.top_p, self.delta)


class Hybrid(Denoiser):
    """A student that leaves the last steps, from times up to `switch_time`, to its teacher.

    Di4C samples so (arXiv 2410.08709): 7 student steps of 10 and 3 of the teacher are switch_time 0.3. The
    teacher takes no input noise.
    """

    def __init__(self, student: Denoiser, teacher: Denoiser, switch_time: float):
        super().__init__()
        if not 0 <= switch_time <= 1:
            raise ValueError(f"switch_time: {switch_time!r} is not allowed; it must lie in [0, 1]")
        self.student, self.teacher, self.switch_time = student, teacher, switch_time

    def draw_noise(self, batch: int, generator: torch.Generator) -> Tensor | None:
        """The student's noise."""
        return self.student.draw_noise(batch, generator)

    def forward(self, z: Tensor, t: Tensor, noise: Tensor | None = None) -> Tensor:
        """Log-probabilities of the student or the teacher, by the time of each sequence, [B, L, V]."""
        early = t > self.switch_time + 1e-6  # times of a grid are rounded
        if early.all():
            return self.student(z, t, noise)
        log_x = self.teacher(z, t)
        return torch.where(early[:, None, None], self.student(z, t, noise), log_x) if early.any() else log_x


def sequences_at_once(length: int, vocab_size: int, most: int = 1024) -> int:
    """How many sequences to evaluate together, at least 1, so that logits [B, L, V] stay below `LARGEST`."""
    return max(1, min(most, LARGEST // (length * vocab_size)))


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


def check_sharpening(temperature: float, top_p: float) -> None:
    """ValueError unless temperature >= 0 and 0 < top_p <= 1 (NaN is neither)."""
    if not 0 <= temperature < float("inf"):
        raise ValueError(f"temperature: {temperature!r} is not allowed; it must be finite and at least 0")
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p: {top_p!r} is not allowed; it must lie in (0, 1]")


def sharpen(log_x: Tensor, temperature: float = 1.0, top_p: float = 1.0, delta: float = -LOG_ZERO) -> Tensor:
    """log_x [B, L, V] at a temperature, then with `delta` subtracted outside the top-p set, normalised.

    temperature 0 puts everything on the most likely class. The top-p set is the smallest set of most
    likely classes whose probability reaches top_p. The default delta excludes for good (sampling);
    teachers in distillation use delta = 2, because a hard exclusion diverges (paper, section 3.3).
    """
    if temperature == 0:
        best = torch.full_like(log_x, LOG_ZERO)
        return best.scatter(-1, log_x.argmax(-1, keepdim=True), 0.0)
    if temperature != 1:
        below = log_x - log_x.amax(-1, keepdim=True)  # so that a tiny temperature keeps the best class
        log_x = log_softmax((below / temperature).clamp(min=LOG_ZERO), -1)
    if top_p < 1:
        ordered, index = log_x.sort(-1, descending=True)
        before = ordered.exp().cumsum(-1) - ordered.exp()  # probability of all likelier classes
        penalty = torch.zeros_like(log_x).scatter(-1, index, (before >= top_p).to(log_x) * delta)
        log_x = log_softmax(log_x - penalty, -1)
    return log_x
