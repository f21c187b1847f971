"""Sharpening of predictions by temperature and top-p, for sampling and for teachers (section 3.3)."""

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from dmmd_lite.denoisers.base import Denoiser
from dmmd_lite.processes.base import LOG_ZERO
from dmmd_lite.utils.checks import PositiveFraction, PositiveOrZero, checked
from dmmd_lite.utils.tensors import Floats


class Sharpened(Denoiser):
    """A denoiser at a temperature and top-p; with a finite delta it is the teacher of section 3.3."""

    @checked
    def __init__(
        self,
        denoiser: Denoiser,
        temperature: PositiveOrZero = 1.0,
        top_p: PositiveFraction = 1.0,
        delta: PositiveOrZero = 2.0,
    ):
        super().__init__()
        self.denoiser, self.temperature, self.top_p, self.delta = denoiser, temperature, top_p, delta
        self.per_position = denoiser.per_position

    def draw_noise(self, batch: int, generator: torch.Generator) -> Tensor | None:
        """Draw the inner denoiser's noise."""
        return self.denoiser.draw_noise(batch, generator)

    def forward(self, z: Tensor, t: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return sharpened log-probabilities, [B, L, V]."""
        return self.log_x(self.hidden(z, t, noise), z, t)

    def hidden(self, z: Tensor, t: Tensor, noise: Tensor | None = None) -> Tensor:
        """Compute the inner denoiser's hidden vectors."""
        return self.denoiser.hidden(z, t, noise)

    def log_x(self, h: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """Return the inner denoiser's log-probabilities, sharpened."""
        return sharpen(self.denoiser.log_x(h, z, t), self.temperature, self.top_p, self.delta)


@checked
def sharpen(
    log_x: Floats,
    temperature: PositiveOrZero = 1.0,
    top_p: PositiveFraction = 1.0,
    delta: PositiveOrZero = -LOG_ZERO,
) -> Tensor:
    """Apply a temperature to log_x [B, L, V], then subtract `delta` outside the top-p set and normalise.

    temperature 0 puts all probability on the most likely class. The top-p set is the smallest set of most
    likely classes whose probability reaches top_p. The default delta excludes all other classes (sampling);
    teachers in distillation use delta = 2, because a hard exclusion diverges (paper, section 3.3).
    """
    if temperature == 0:
        best, zero = torch.full_like(log_x, LOG_ZERO), log_x.amax(-1, keepdim=True) * 0  # NaN stays NaN
        return best.scatter(-1, log_x.argmax(-1, keepdim=True), zero)
    if temperature != 1:
        below = log_x - log_x.amax(-1, keepdim=True)  # a tiny temperature keeps the best class
        log_x = log_softmax((below / temperature).clamp(min=LOG_ZERO), -1)
    if top_p < 1:
        ordered, index = log_x.sort(-1, descending=True)
        before = ordered.exp().cumsum(-1) - ordered.exp()  # the probability of all likelier classes
        penalty = torch.zeros_like(log_x).scatter(-1, index, (before >= top_p).to(log_x) * delta)
        log_x = log_softmax(log_x - penalty, -1)
    return log_x
