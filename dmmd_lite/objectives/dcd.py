"""Discrete Consistency Distillation of Duo (arXiv 2506.10892; released code: s-sahoo/duo). Uniform noise.

Uniform noise is the argmax of Gaussian noise on one-hot tokens: with signal a in [0, 1],

    w = a x + sqrt(1 - a^2) epsilon,   argmax w ~ Cat(alpha x + (1 - alpha)/V),   alpha = T(a)

(`kept_fraction`). The *same* epsilon at two times makes a pair z_t, z_s on one path of the Gaussian
probability-flow, and the student learns to give at z_t what the target network gives at z_s = one jump
closer to the data: KL between their laws, mean over all positions, without a weight in time. Rounds double
the jump (`rounds.py`).

Duo's networks give the leave-one-out law p(x_l | z_t without position l), and the loss compares those laws.
Denoisers here return posteriors, which are converted (`denoisers.to_leave_one_out`). The step of
`sampling.sample` from a posterior is Duo's plug-in step from the converted law.

Along a path a position shows argmax epsilon until its token takes over, once: besides x only epsilon of x,
the largest other one and its place are needed. They are drawn directly, so nothing here is [B, L, V].

Deviations
----------
- Times are those of the process: t = min(1, u + dt), s = t - dt with u ~ U(0, 1), and a = T^-1(alpha(t)).
  The released code draws uniformly in log-SNR, in a window, -log SNR from -4 to -1, fit for its vocabulary of
  50,257; alpha = 0 is then out of reach for the small ones here.
- s is at least `earliest`. A posterior network's errors grow by (1 - alpha)/V when converted: for the digits'
  and docstrings' teachers the cross-entropy of the converted law has its least value near 0.01 to 0.1 and is
  worse than at t = 1 at 1e-5. The released window ends at 1 - alpha of about 1e-3.
- The last round's jump is 1/k, so that it is the k-step student's. Released: 1/512, doubled four times, for
  any number of sampling steps.
- The first round's target is the teacher, which may be an exact posterior; released: a copy of the student,
  which is the same function where the student starts as the teacher.
- Exact teachers have a floor on probabilities (recipes).
- The loss is a mean over positions; released: their sum.
- Targets are cut below `clamp`, as in `sdtt.py`; released: no bound but that of float32 logits.
- Round length and optimiser are the recipe's; released: 10,000 updates a round, AdamW 6e-5, warm-up 500,
  batch 128, EMA 0.999.
- The greedy tail (`sampling.sample`) takes the most likely class of the *posterior* in the last of k steps;
  released: of the leave-one-out law at 1 - alpha = 1e-5, in an evaluation more than k.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dmmd_lite.denoisers.base import Denoiser, to_leave_one_out
from dmmd_lite.denoisers.prediction import map_chunks, predict
from dmmd_lite.objectives.base import MethodSpec
from dmmd_lite.objectives.progressive import Progressive, Rounds
from dmmd_lite.objectives.terms import mean_over
from dmmd_lite.processes.base import Process
from dmmd_lite.processes.gaussian_coupling import coupled


@dataclass(frozen=True)
class DCDSettings(Rounds):
    """The rounds, and earliest: least time at which the target network is asked."""

    divergences: ClassVar[tuple[str, ...]] = ("reverse_kl", "forward_kl")

    rounds: int = 5
    earliest: float = 0.02

    def __post_init__(self):
        super().__post_init__()
        if not 0 < self.earliest < 1:
            raise ValueError(f"earliest: {self.earliest!r} is not allowed; choose a number between 0 and 1")


class DCD(Progressive):
    """Player "student"."""

    def __init__(self, student: Denoiser, teacher: Denoiser, process: Process, settings: DCDSettings):
        if not process.uniform:
            raise ValueError(
                f"process: {process.name!r} is not allowed for DCD, which couples Gaussian noise to uniform; "
                "choose 'uniform'"
            )
        super().__init__(student, teacher, process, settings)

    def losses(self, step: int, x: Tensor, generator: torch.Generator) -> dict[str, dict[str, Tensor]]:
        """The divergence in this step's round, mean over all positions that carry noise."""
        process, settings = self.process, self.settings
        t = self.draw_times(len(x), step, generator, x.device)
        s = torch.minimum(t, (t - settings.jump(step)).clamp(min=settings.earliest))
        scored = process.loss_mask(x)
        z_t, z_s = (
            torch.where(scored, z, x)
            for z in coupled(x, [process.alpha(t), process.alpha(s)], process.vocab_size, generator)
        )
        with torch.no_grad():
            target = predict(self.target(step), process, z_s, s, generator)
        student = predict(self.players["student"], process, z_t, t, generator)

        def values(log_x, log_target, z_t, t, z_s, s):
            log_x = to_leave_one_out(log_x, z_t, t, process)
            log_target = to_leave_one_out(log_target, z_s, s, process)
            return {"divergence": self.divergence(log_x, log_target)}

        found = map_chunks(values, [student, target], [z_t, t, z_s, s], scored)["divergence"]
        return {"student": {settings.divergence: mean_over(scored, found)}}


METHOD = MethodSpec(
    DCDSettings,
    lambda settings, fresh, teacher, process: DCD(fresh(), teacher, process, settings),
    "student",
    forwards=lambda settings: 4,
    tracked=lambda settings: 1,
    copies=1,
)
