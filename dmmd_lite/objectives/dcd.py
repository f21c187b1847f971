"""Discrete Consistency Distillation of Duo (arXiv 2506.10892; released code: s-sahoo/duo). Uniform noise.

Uniform noise is the argmax of Gaussian noise on one-hot tokens: with signal a in [0, 1],

    w = a x + sqrt(1 - a^2) epsilon,   argmax w ~ Cat(alpha x + (1 - alpha)/V),   alpha = T(a)

(`kept_fraction`). The *same* epsilon at two times makes a pair z_t, z_s on one path of the Gaussian
probability flow. The student learns to predict at z_t what the target network predicts at z_s, one jump
closer to the data. The loss is the KL divergence between their distributions, averaged over all positions,
without a weight in time. Rounds double the jump (`progressive.py`).

Duo's networks give the leave-one-out distribution p(x_l | z_t without position l), and the loss compares
these. Denoisers here return posteriors, which are converted (`denoisers.base.to_leave_one_out`). The step of
`sampling.sample` from a posterior is Duo's plug-in step from the converted distribution.

Along a path a position shows argmax epsilon until, once, its token takes over. The pair therefore depends on
x, its component of epsilon, the largest other component and the index of that one. These are drawn directly,
so that no tensor here has shape [B, L, V].

Deviations
----------
- Times are those of the process: t = min(1, u + dt), s = t - dt with u ~ U(0, 1), and a = T^-1(alpha(t)).
  The released code draws uniformly in log-SNR, in a window with -log SNR from -4 to -1, chosen for its
  vocabulary of 50,257; the small vocabularies here would not reach alpha = 0 in it.
- s is at least `earliest`. The conversion divides a posterior network's errors by (1 - alpha)/V: for the
  teachers of digits and docstrings the cross-entropy of the converted distribution has its minimum near
  t = 0.01 to 0.1, and at 1e-5 it is worse than at t = 1. The released window ends at 1 - alpha of about 1e-3.
- The jump of the last round is 1/k, one step of the k-step student. The released code begins with 1/512 and
  doubles it four times, for any number of sampling steps.
- The target of the first round is the teacher, which may be an exact posterior. The released code uses a copy
  of the student, which is the same function where the student starts as the teacher.
- Exact teachers have a floor on probabilities, set by the recipe.
- The loss is the mean over positions; the released code takes their sum.
- Targets are cut below `clamp`, as in `sdtt.py`. The released code has only the bound of float32 logits.
- The recipe sets round length and optimiser. The released code has 10,000 updates a round, AdamW with rate
  6e-5, a warm-up of 500, batch 128 and EMA 0.999.
- The greedy tail (`sampling.sample`) takes the most likely class of the *posterior* in the last of k steps.
  The released code takes that of the leave-one-out distribution at 1 - alpha = 1e-5, in one evaluation more
  than k.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from dmmd_lite.denoisers.base import to_leave_one_out
from dmmd_lite.denoisers.prediction import map_chunks, predict
from dmmd_lite.objectives.base import MethodSpec
from dmmd_lite.objectives.progressive import Progressive, Rounds
from dmmd_lite.objectives.terms import mean_over
from dmmd_lite.processes.base import Process
from dmmd_lite.processes.gaussian_coupling import coupled
from dmmd_lite.utils.checks import Between, Count, checked


@dataclass(frozen=True)
class DCDSettings(Rounds):
    """Settings of DCD: the rounds, and the earliest time.

    Args:
    earliest: minimum time at which the target network is evaluated.
    """

    rounds: Count = 5
    divergence: Literal["reverse_kl", "forward_kl"] = "reverse_kl"
    earliest: Annotated[float, Between(0, 1, "()")] = 0.02


class DCD(Progressive):
    """Discrete consistency distillation: a progressive method that couples uniform to Gaussian noise."""

    @checked
    def __init__(self, student: nn.Module, teacher: nn.Module, process: Process, settings: DCDSettings):
        METHOD.check_process("DCD", process.name)
        if not process.uniform:
            raise ValueError("process: a random start is not allowed for DCD; choose plain uniform noise")
        super().__init__(student, teacher, process, settings)

    def losses(self, step: int, x: Tensor, generator: torch.Generator) -> dict[str, dict[str, Tensor]]:
        """Return the divergence at this step of its round for tokens x [B, L], mean over noisy positions."""
        process, settings = self.process, self.settings
        t = self.draw_times(len(x), step, generator, x.device)
        s = torch.minimum(t, (t - settings.jump(step)).clamp(min=settings.earliest))
        scored, alphas = process.loss_mask(x), [process.alpha(t), process.alpha(s)]
        pair = coupled(x, alphas, process.vocab_size, generator)
        z_t, z_s = (torch.where(scored, z, x) for z in pair)
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
    ("uniform",),
    lambda settings, fresh, teacher, process: DCD(fresh(), teacher, process, settings),
    forwards=lambda settings: 4,
    copies=1,
)
