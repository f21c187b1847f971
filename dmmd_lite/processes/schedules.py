"""Noise schedules: alpha(t), the kept fraction, falls from 1 at t = 0 (clean) to 0 at t = 1 (noise).

A new schedule is a class with `alpha`, `alpha_prime` and `time` and an entry in `SCHEDULES`.
"""

import math

import torch
from torch import Tensor

from dmmd_lite.utils.checks import Count, checked


class LinearSchedule:
    """The schedule alpha(t) = 1 - t, called log-linear by MDLM and Duo."""

    def alpha(self, t: Tensor) -> Tensor:
        """Return the kept fraction at times t of any shape."""
        return 1 - t

    def alpha_prime(self, t: Tensor) -> Tensor:
        """Return the derivative of alpha at times t."""
        return -torch.ones_like(t)

    def time(self, alpha: Tensor) -> Tensor:
        """Return the times of kept fractions: the inverse of `alpha`."""
        return 1 - alpha


class CosineSchedule:
    """The cosine schedule of MD4, alpha(t) = 1 - cos(pi (1 - t) / 2)."""

    def alpha(self, t: Tensor) -> Tensor:
        """Return the kept fraction at times t of any shape.

        The formula is rewritten to avoid cancellation: it is exactly 1 and 0 at the ends, and above 0 for
        t < 1 even in float32, so that alpha_t / alpha_s exists.
        """
        return torch.sin(math.pi / 2 * (1 - t)) ** 2 / (1 + torch.sin(math.pi / 2 * t))

    def alpha_prime(self, t: Tensor) -> Tensor:
        """Return the derivative of alpha at times t."""
        return -math.pi / 2 * torch.sin(math.pi / 2 * (1 - t))

    def time(self, alpha: Tensor) -> Tensor:
        """Return the times of kept fractions: the inverse of `alpha`."""
        return 1 - 2 / math.pi * torch.acos(1 - alpha)


SCHEDULES = {"linear": LinearSchedule, "cosine": CosineSchedule}


@checked
def time_grid(steps: Count) -> Tensor:
    """Return sampling times 1 = t_0 > t_1 > … > t_steps = 0, equally spaced, float64 [steps + 1]."""
    return torch.linspace(1, 0, steps + 1, dtype=torch.float64)
