"""Options of a training: lengths, rates, averages, and how often to log, save and validate."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Literal

from dmmd_lite.utils.checks import Between, Count, CountOrZero, Positive, PositiveOrZero, check_fields

Decay = Annotated[float, Between(0, 1, "[)")]  # 1 would keep what was there, for ever


@dataclass(frozen=True)
class TrainingOptions:
    """Options of a training. Dictionaries are keyed by player.

    Args:
    steps: loop steps.
    batch_size: sequences per step over all processes and accumulation parts.
    lr: peak learning rate of every player.
    betas, weight_decay: of AdamW; betas lie in [0, 1).
    warmup: steps in which the rates rise linearly.
    decay: "linear" or "cosine", to zero, or "constant".
    decay_from: fraction of the run, in [0, 1), before rates begin to fall; None: they fall from the start.
    clip: maximum norm of a player's gradient.
    accumulation: parts of a batch whose gradients are added up before an update.
    ema: decay of the averaged weights of each player, in [0, 1); players not named are not averaged.
    compile: whether the layers in `ModuleList`s of players and teacher are compiled with `torch.compile`.
    log_every, checkpoint_every: steps between lines of the log and between checkpoints.
    validate_every: steps between validations (0: never); the best averaged weights are kept.
    """

    steps: Count
    batch_size: Count
    lr: dict[str, PositiveOrZero]
    betas: tuple[Decay, Decay] = (0.9, 0.99)
    weight_decay: PositiveOrZero = 0.0
    warmup: CountOrZero = 100
    decay: Literal["constant", "linear", "cosine"] = "constant"
    decay_from: Annotated[float, Between(0, 1, "[)")] | None = None
    clip: Positive = 1.0
    accumulation: Count = 1
    ema: dict[str, Decay] = field(default_factory=dict)
    compile: bool = False
    log_every: Count = 50
    checkpoint_every: Count = 500
    validate_every: CountOrZero = 0

    def __post_init__(self):
        check_fields(self)
        if self.decay_from is not None and self.decay == "constant":
            raise ValueError(f"decay_from: {self.decay_from!r} is not allowed where decay is 'constant'")
        if self.batch_size % self.accumulation:
            words = f"it must be a multiple of accumulation {self.accumulation}"
            raise ValueError(f"batch_size: {self.batch_size} is not allowed; {words}")

    def check_players(self, players: Iterable[str], prefix: str = "") -> None:
        """Raise ValueError unless lr names exactly these players, and ema some. prefix: of both names."""
        players = sorted(players)
        if sorted(self.lr) != players:
            words = f"it must name exactly the players {players}"
            raise ValueError(f"{prefix}lr: {self.lr} is not allowed; {words}")
        if not set(self.ema) <= set(players):
            raise ValueError(f"{prefix}ema: {self.ema} is not allowed; the players are {players}")

    def rate(self, step: int) -> float:
        """Return the factor on every learning rate at a step, in [0, 1]; it depends on the step only."""
        rise = min(1.0, (step + 1) / max(1, self.warmup))
        begin = (self.decay_from or 0) * self.steps
        left = min(1.0, (self.steps - step) / (self.steps - begin))
        fall = {"constant": 1.0, "linear": left, "cosine": 0.5 - 0.5 * math.cos(math.pi * left)}[self.decay]
        return rise * fall
