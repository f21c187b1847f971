"""A denoiser that is a student at large times and its teacher at small ones."""

import torch
from torch import Tensor

from dmmd_lite.denoisers.base import Denoiser
from dmmd_lite.utils.checks import Fraction, checked


class Hybrid(Denoiser):
    """A student that leaves the last steps, from times up to `switch_time`, to its teacher.

    Di4C samples in this way (arXiv 2410.08709): 7 steps of the student and 3 of the teacher are switch_time
    0.3. The teacher takes no input noise.
    """

    @checked
    def __init__(self, student: Denoiser, teacher: Denoiser, switch_time: Fraction):
        super().__init__()
        self.student, self.teacher, self.switch_time = student, teacher, switch_time

    def draw_noise(self, batch: int, generator: torch.Generator) -> Tensor | None:
        """Draw the student's noise."""
        return self.student.draw_noise(batch, generator)

    def forward(self, z: Tensor, t: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return log-probabilities of student or teacher by the time of each sequence, [B, L, V]."""
        early = t > self.switch_time + 1e-6  # the margin is for the rounding of grid times
        if early.all():
            return self.student(z, t, noise)
        log_x = self.teacher(z, t)
        return torch.where(early[:, None, None], self.student(z, t, noise), log_x) if early.any() else log_x
