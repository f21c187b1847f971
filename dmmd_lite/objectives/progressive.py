"""What the progressive methods (SDTT, Duo's DCD) share: rounds of growing steps, and divergences.

The student learns to give at z_t what a target network gives after a short step towards clean tokens. In
every round the step is twice as long as in the one before. The target of the first round is the teacher; at
the end of a round it becomes a copy of the student's raw weights.
"""

import copy
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dmmd_lite.denoisers.base import Denoiser
from dmmd_lite.objectives.terms import (
    DIVERGENCES,
    check_divergence,
    clamped,
    divergence_between,
    stratified_times,
)
from dmmd_lite.processes.base import Process


@dataclass(frozen=True)
class Rounds:
    """steps: k, the number of sampling steps the student is for.

    rounds: how many; round_updates: loop steps of each but the last, which goes on to the end. The last
    round's step is 1/k of the whole time, so the first one's is 1/(k 2^(rounds - 1)).
    divergence: of the student from the target, one of `divergences`.
    clamp: least probability of a target; log-probabilities below its logarithm are raised to it, and not
    renormalised.
    """

    divergences: ClassVar[tuple[str, ...]] = DIVERGENCES

    steps: int
    rounds: int = 7
    round_updates: int = 10_000
    divergence: str = "reverse_kl"
    clamp: float = 1e-6

    def __post_init__(self):
        for field in ("steps", "rounds", "round_updates"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field}: {getattr(self, field)!r} is not allowed; choose at least 1")
        check_divergence(self.divergence, self.divergences)
        if not 0 < self.clamp < 1:
            raise ValueError(f"clamp: {self.clamp!r} is not allowed; choose a number between 0 and 1")

    def number(self, step: int) -> int:
        """Which round a loop step belongs to, from 0."""
        return min(step // self.round_updates, self.rounds - 1)

    def jump(self, step: int) -> float:
        """How far the target is ahead of the student at a loop step, as a part of the whole time."""
        return 2.0 ** (self.number(step) - self.rounds + 1) / self.steps


class Progressive:
    """Player "student", distilled from a frozen teacher and then from copies of itself."""

    def __init__(self, student: Denoiser, teacher: Denoiser, process: Process, settings: Rounds):
        self.players = {"student": student}
        self.copies = {"target": copy.deepcopy(student).requires_grad_(False)}
        self.teacher, self.process, self.settings = teacher, process, settings

    def target(self, step: int) -> Denoiser:
        """The frozen network of this loop step's round; copies the student when a round begins."""
        number, target = self.settings.number(step), self.copies["target"]
        if number == 0:
            return self.teacher
        if step == number * self.settings.round_updates:
            target.load_state_dict(self.players["student"].state_dict())
        return target

    def draw_times(self, batch: int, step: int, generator: torch.Generator, device) -> Tensor:
        """t = min(1, u + jump) with u ~ U(0, 1), stratified, [batch]: never so small that the target would
        be beyond t = 0, and t = 1, where sampling starts, with probability `jump`."""
        return (stratified_times(batch, generator, device) + self.settings.jump(step)).clamp(max=1)

    def divergence(self, log_x: Tensor, log_target: Tensor) -> Tensor:
        """The settings' divergence of log_x from the clamped log_target, [B, L, V] to [B, L]."""
        log_target = clamped(log_target, self.settings.clamp)
        return divergence_between(self.settings.divergence, log_x, log_target)
