"""What the progressive methods (SDTT, Duo's DCD) share: rounds of growing steps, and divergences.

The student learns to predict at z_t what a target network predicts after a short step towards clean tokens.
In every round the step is twice as long as in the round before. The target of the first round is the teacher;
at the end of a round the target becomes a copy of the student's raw weights.
"""

import copy
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn

from dmmd_lite.denoisers.base import Denoiser
from dmmd_lite.objectives.base import TokenMethod
from dmmd_lite.objectives.terms import Divergence, clamped, divergence_between, stratified_times
from dmmd_lite.processes.base import Process
from dmmd_lite.utils.checks import Between, Count, check_fields


@dataclass(frozen=True)
class Rounds:
    """Settings of a progressive distillation.

    The step of the last round is 1/k of the whole time, so that of the first one is 1/(k 2^(rounds - 1)).

    Args:
    steps: k, the number of sampling steps that the student is trained for.
    rounds: number of rounds.
    round_updates: loop steps of each round but the last, which lasts until the end of the training.
    divergence: of the student from the target.
    clamp: minimum probability of a target; log-probabilities below its logarithm are raised to it, and not
        renormalised.
    """

    steps: Count
    rounds: Count = 7
    round_updates: Count = 10_000
    divergence: Divergence = "reverse_kl"
    clamp: Annotated[float, Between(0, 1, "()")] = 1e-6

    __post_init__ = check_fields

    def number(self, step: int) -> int:
        """Return the round, counted from 0, that a loop step belongs to."""
        return min(step // self.round_updates, self.rounds - 1)

    def jump(self, step: int) -> float:
        """Return how far the target is ahead of the student at a loop step, in units of the whole time."""
        return 2.0 ** (self.number(step) - self.rounds + 1) / self.steps


class Progressive(TokenMethod):
    """A method with the player "student", distilled from a frozen teacher and then from copies of itself."""

    def __init__(self, student: nn.Module, teacher: nn.Module, process: Process, settings: Rounds):
        self.players = {"student": student}
        self.copies = {"target": copy.deepcopy(student).requires_grad_(False)}
        self.teacher, self.process, self.settings = teacher, process, settings

    def target(self, step: int) -> Denoiser:
        """Return the frozen network of this loop step's round; the student is copied when a round begins."""
        number, target = self.settings.number(step), self.copies["target"]
        if number == 0:
            return self.teacher
        if step == number * self.settings.round_updates:
            target.load_state_dict(self.players["student"].state_dict())
        return target

    def draw_times(self, batch: int, step: int, generator: torch.Generator, device) -> Tensor:
        """Draw t = min(1, u + jump) with stratified u ~ U(0, 1), [batch].

        The target's step then never passes t = 0, and t = 1, where sampling starts, has probability `jump`.
        """
        return (stratified_times(batch, generator, device) + self.settings.jump(step)).clamp(max=1)

    def divergence(self, log_x: Tensor, log_target: Tensor) -> Tensor:
        """Compute the chosen divergence of log_x from the clamped log_target, [B, L, V] to [B, L]."""
        log_target = clamped(log_target, self.settings.clamp)
        return divergence_between(self.settings.divergence, log_x, log_target)
