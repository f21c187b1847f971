"""A student at large times and its teacher at small ones, in one denoiser."""

import torch
from torch import Tensor

from dmmd_lite.denoisers.base import Denoiser


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
