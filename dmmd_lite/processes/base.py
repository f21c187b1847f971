"""Noise processes: what turns clean tokens into noise and what a reverse step looks like.

Forward law, independently per position: z_t ~ Cat(alpha_t x + (1 - alpha_t) pi), with pi all mass on MASK
(masked noise) or 1/V on every class (uniform noise). Notation and conventions: see `dmmd_lite.__doc__`.
Times s and t have shape [B]; probabilities are computed in the floating-point type of the times.
"""

import torch
from torch import Tensor

from dmmd_lite.processes.schedules import SCHEDULES
from dmmd_lite.utils.rng import uniform

LOG_ZERO = -1e9  # log-probability of what cannot be: exp gives 0, and 0 * LOG_ZERO is 0 where 0 * -inf is NaN


class Process:
    """What masked and uniform noise share. `num_symbols` counts the values z may take.

    absorbing: noise is a symbol of its own, and a token that is not noise is known.
    per_position: every position is treated alike, so that N positions may pass for N sequences of one.
    """

    name: str
    absorbing: bool
    per_position = True

    def __init__(self, vocab_size: int, schedule: str = "linear"):
        """vocab_size: V, the number of classes of clean tokens. schedule: a name in `SCHEDULES`."""
        if schedule not in SCHEDULES:
            raise ValueError(f"schedule: {schedule!r} is not allowed; choose one of {sorted(SCHEDULES)}")
        self.vocab_size = vocab_size
        self.schedule = SCHEDULES[schedule]()

    def alpha(self, t: Tensor) -> Tensor:
        """Kept fraction alpha(t), shaped [B, 1] to meet tokens [B, L]."""
        return self.schedule.alpha(t).unsqueeze(-1)

    def loss_weight(self, t: Tensor) -> Tensor:
        """Continuous-time weight -alpha'(t) / (1 - alpha(t)), [B]; 1/t for the linear schedule.

        1 - alpha is kept above 1e-5, so that single-precision times near 0 stay finite."""
        return -self.schedule.alpha_prime(t) / (1 - self.schedule.alpha(t)).clamp(min=1e-5)

    def corrupt(self, x: Tensor, t: Tensor, generator: torch.Generator) -> Tensor:
        """z_t ~ q(z_t | x): every token kept with probability alpha(t), else drawn from pi. [B, L]."""
        keep = uniform(x.shape, generator) < self.alpha(t).to(generator.device)
        return torch.where(keep.to(x.device), x, self.prior(x.shape, generator).to(x.device))

    def step(
        self,
        z: Tensor,
        x: Tensor,
        s: Tensor,
        t: Tensor,
        generator: torch.Generator,
        u: Tensor | None = None,
    ) -> Tensor:
        """z_s ~ q(z_s | z_t, x), [B, L]: x where u leaves it to x (`may_change`), elsewhere z_t.

        u: uniform numbers [B, L], if they are drawn already.
        """
        u = uniform(z.shape, generator) if u is None else u
        return torch.where(self.may_change(z, u, s, t), x, z)

    def num_noised(self, length: int) -> int:
        """How many of a sequence's `length` tokens, always the last ones, carry noise: all of them."""
        return length

    def stages(self, length: int) -> range:
        """Lengths to which a sequence of `length` tokens grows, stage by stage: `length` at once."""
        return range(self.num_noised(length), length + 1, self.num_noised(length))


def arrived(process: Process, u: Tensor, s: Tensor, t: Tensor) -> Tensor:
    """Where u [B, L] is below (alpha_s - alpha_t)/(1 - alpha_t), the share of what hides x that becomes x."""
    alpha_s, alpha_t = process.alpha(s), process.alpha(t)
    return u < ((alpha_s - alpha_t) / (1 - alpha_t)).to(u.device)
