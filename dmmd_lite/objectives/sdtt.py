"""Self-Distillation Through Time (SDTT, arXiv 2410.21035; released code: jdeschena/sdtt). Masked noise.

From z_t the frozen target network takes two reverse steps of length dt. The target of a position revealed in
the first step is the network's log-probabilities of the first step; every other position has those of the
second. The student learns the table assembled in this way at z_t. (Tokens of the second step are never used,
so they are not drawn.) The loss is the mean of a divergence over masked positions, without a weight in time.

Rounds double dt (`progressive.py`): the two steps of the last round span 1/k, one step of the k-step student.

The loss determines where the student ends: at a distribution that factorises, whose factor at each position
is the mean of the targets (forward KL) or their normalised geometric mean (reverse KL). Where targets are
certain, as on worlds whose tokens determine each other, a geometric mean is only defined once
log-probabilities are bounded: `clamp` is that bound, and it decides where reverse KL ends
(`studies.theory.limits.one_step_sdtt`).

Deviations
----------
- t is min(1, u + 2 dt), u ~ U(0, 1), so that sub-steps never pass t = 0, and t = 1, the only time of a
  one-step student, is trained with probability 2 dt. The released code draws t ~ U(1e-3, 1) and cuts
  sub-step times at 1e-3.
- Sub-steps start at t and t - dt (`grid` "intended"), as the paper's text has them. The released code starts
  them at t c + (1 - t)(t - 2dt) with c = 1 and 0 ("released"); even with 1 - c in the place of 1 - t, which a
  mean of two ends would have, the second would start at t - 2dt. Networks with a time input receive these
  times; the released network has no time input.
- The target of the first round is the teacher, which may be an exact posterior. The released code uses a copy
  of the student, which is the same function where the student starts as the teacher.
- Exact teachers have a floor on probabilities, set by the recipe and below `clamp` by default.
- Targets are cut below `clamp` and not renormalised. The released code has only the bound of float32 logits.
- The recipe sets the number of rounds, their length and the optimiser. The released code has 7 rounds of
  10,000 updates from dt = 1/1024, AdamW with rate 3e-4, constant after a warm-up of 2,500, batch 128 and
  EMA 0.9999.
- `sampling.sample` draws samples in float64 and does not use argmax for the positions left at the end.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from dmmd_lite.denoisers.prediction import map_chunks, predict
from dmmd_lite.objectives.base import MethodSpec
from dmmd_lite.objectives.progressive import Progressive, Rounds
from dmmd_lite.objectives.terms import EARLIEST, mean_over
from dmmd_lite.processes.base import Process
from dmmd_lite.utils.checks import checked

Grid = Literal["intended", "released"]
GRIDS = get_args(Grid)


@dataclass(frozen=True)
class SDTTSettings(Rounds):
    """Settings of SDTT: the rounds, and where sub-steps start.

    Args:
    grid: the times at which the two sub-steps start, "intended" or "released".
    """

    grid: Grid = "intended"


@checked
def sub_step_times(t: Tensor, dt: float, grid: Grid = "intended") -> tuple[Tensor, Tensor]:
    """Return the times [B] at which the target's two steps of length dt start, at least `EARLIEST`."""
    starts = t, t - dt
    if grid == "released":  # t c + (1 - t)(t - 2 dt) for c = 1, 0
        late = (1 - t) * (t - 2 * dt)
        starts = t + late, late
    return tuple(start.clamp(min=EARLIEST) for start in starts)


class SDTT(Progressive):
    """Self-distillation through time: a progressive method whose targets are defined by revealing."""

    @checked
    def __init__(self, student: nn.Module, teacher: nn.Module, process: Process, settings: SDTTSettings):
        METHOD.check_process("SDTT", process.name)
        if not process.absorbing:
            raise ValueError("process: a random start is not allowed for SDTT; choose plain masked noise")
        super().__init__(student, teacher, process, settings)

    def losses(self, step: int, x: Tensor, generator: torch.Generator) -> dict[str, dict[str, Tensor]]:
        """Return the divergence at this step of its round for tokens x [B, L], mean over masked positions."""
        process, settings = self.process, self.settings
        t = self.draw_times(len(x), step, generator, x.device)
        z_t = process.corrupt(x, t, generator)
        target, dt = self.target(step), settings.jump(step) / 2
        starts = sub_step_times(t, dt, settings.grid)
        with torch.no_grad():
            first = predict(target, process, z_t, starts[0], generator)
            end = (starts[0] - dt).clamp(min=0)
            z_s = process.step(z_t, first.sample(generator), end, starts[0], generator)
            second = predict(target, process, z_s, starts[1], generator)
        student = predict(self.players["student"], process, z_t, t, generator)

        def values(log_x, log_first, log_second, revealed):
            log_target = torch.where(revealed.unsqueeze(-1), log_first, log_second)
            return {"divergence": self.divergence(log_x, log_target)}

        scored = process.loss_mask(z_t)
        revealed = scored & ~process.loss_mask(z_s)
        found = map_chunks(values, [student, first, second], [revealed], scored)["divergence"]
        return {"student": {settings.divergence: mean_over(scored, found)}}


METHOD = MethodSpec(
    SDTTSettings,
    ("masked",),
    lambda settings, fresh, teacher, process: SDTT(fresh(), teacher, process, settings),
    forwards=lambda settings: 5,
    copies=1,
)
