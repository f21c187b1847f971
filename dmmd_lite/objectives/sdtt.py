"""Self-Distillation Through Time (SDTT, arXiv 2410.21035; released code: jdeschena/sdtt). Masked noise.

From z_t the frozen target network takes two reverse steps of length dt. A position revealed in the first
one is given the network's log-probabilities of the first, every other one those of the second; at z_t the
student learns the table so assembled (tokens drawn in the second step are never looked at, so they are not
drawn). The loss is the mean over masked positions of a divergence, without a weight in time.

Rounds double dt (`rounds.py`): the last one's two steps span 1/k, one step of the k-step student.

What the student ends at follows from the loss: a law that factorises, and per position the mean of the
targets (forward KL) or their normalised geometric mean (reverse KL). Where targets are certain, as on worlds
whose tokens determine each other, a geometric mean is only defined once log-probabilities are bounded:
`clamp` is that bound, and it decides where reverse KL ends (`metrics.limits.one_step_sdtt`).

Deviations
----------
- t is min(1, u + 2 dt), u ~ U(0, 1), so that sub-steps never pass t = 0 and t = 1, the only time of a
  one-step student, is trained with probability 2 dt. The released code draws t ~ U(1e-3, 1) and cuts
  sub-step times at 1e-3.
- Sub-steps start at t and t - dt (`grid` "intended"), as the paper's text has them. The released code starts
  them at t c + (1 - t)(t - 2dt) with c = 1 and 0 ("released"); even with 1 - c in the place of 1 - t, which a
  mean of two ends would have, the second would start at t - 2dt. Networks with a time input are given these
  times; the released network has none.
- The first round's target is the teacher, which may be an exact posterior; released: a copy of the student,
  which is the same function where the student starts as the teacher.
- Exact teachers have a floor on probabilities (recipes), below `clamp` where nothing is said.
- Targets are cut below `clamp` and not renormalised. Released: no bound but that of float32 logits.
- The number of rounds, their length and the optimiser are the recipe's; released: 7 rounds of 10,000 updates
  from dt = 1/1024, AdamW 3e-4, constant after a warm-up of 2,500, batch 128, EMA 0.9999.
- Samples are drawn without argmax for leftovers, by `sampling.sample`, in float64.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from dmmd_lite.denoisers.base import Denoiser
from dmmd_lite.denoisers.prediction import map_chunks, predict
from dmmd_lite.objectives.base import MethodSpec
from dmmd_lite.objectives.progressive import Progressive, Rounds
from dmmd_lite.objectives.terms import EARLIEST, mean_over
from dmmd_lite.processes.base import Process

GRIDS = ("intended", "released")


@dataclass(frozen=True)
class SDTTSettings(Rounds):
    """The rounds, and grid: where the two sub-steps start, "intended" or "released"."""

    grid: str = "intended"

    def __post_init__(self):
        super().__post_init__()
        if self.grid not in GRIDS:
            raise ValueError(f"grid: {self.grid!r} is not allowed; choose one of {GRIDS}")


def sub_step_times(t: Tensor, dt: float, grid: str = "intended") -> tuple[Tensor, Tensor]:
    """Times [B] at which the target network's two steps of length dt start; none below `EARLIEST`."""
    match grid:
        case "intended":
            starts = t, t - dt
        case "released":  # t c + (1 - t)(t - 2 dt) for c = 1, 0
            late = (1 - t) * (t - 2 * dt)
            starts = t + late, late
        case _:
            raise ValueError(f"grid: {grid!r} is not allowed; choose one of {GRIDS}")
    return tuple(start.clamp(min=EARLIEST) for start in starts)


class SDTT(Progressive):
    """Player "student"."""

    def __init__(self, student: Denoiser, teacher: Denoiser, process: Process, settings: SDTTSettings):
        if not process.absorbing:
            raise ValueError(
                f"process: {process.name!r} is not allowed for SDTT, whose targets are defined by revealing; "
                "choose 'masked'"
            )
        super().__init__(student, teacher, process, settings)

    def losses(self, step: int, x: Tensor, generator: torch.Generator) -> dict[str, dict[str, Tensor]]:
        """The divergence in this step's round, mean over masked positions."""
        process, settings = self.process, self.settings
        t = self.draw_times(len(x), step, generator, x.device)
        z_t = process.corrupt(x, t, generator)
        target, dt = self.target(step), settings.jump(step) / 2
        starts = sub_step_times(t, dt, settings.grid)
        with torch.no_grad():
            first = predict(target, process, z_t, starts[0], generator)
            z_s = process.step(
                z_t, first.sample(generator), (starts[0] - dt).clamp(min=0), starts[0], generator
            )
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
    lambda settings, fresh, teacher, process: SDTT(fresh(), teacher, process, settings),
    "student",
    forwards=lambda settings: 5,
    tracked=lambda settings: 1,
    copies=1,
)
