"""Options of a training: lengths, rates, averages, and how often to log, save and validate."""

import math
from dataclasses import dataclass, field

from dmmd_lite.utils.checks import check_choice, check_interval, check_number, check_whole


@dataclass(frozen=True)
class TrainingOptions:
    """Options of a training. Dictionaries are keyed by player.

    Args:
    steps: loop steps.
    batch_size: sequences per step over all processes and accumulation parts.
    lr: peak learning rate of every player.
    betas, weight_decay: of AdamW.
    warmup: steps in which the rates rise linearly.
    decay: "linear" or "cosine", to zero, or "constant".
    decay_from: fraction of the run, in [0, 1), before rates begin to fall; None: they fall from the start.
    clip: maximum norm of a player's gradient.
    accumulation: parts of a batch whose gradients are added up before an update.
    ema: decay of the averaged weights of each player; players not named are not averaged.
    compile: whether the layers in `ModuleList`s of players and teacher are compiled with `torch.compile`.
    log_every, checkpoint_every: steps between lines of the log and between checkpoints.
    validate_every: steps between validations (0: never); the best averaged weights are kept.
    """

    steps: int
    batch_size: int
    lr: dict[str, float]
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    warmup: int = 100
    decay: str = "constant"
    decay_from: float | None = None
    clip: float = 1.0
    accumulation: int = 1
    ema: dict[str, float] = field(default_factory=dict)
    compile: bool = False
    log_every: int = 50
    checkpoint_every: int = 500
    validate_every: int = 0

    def __post_init__(self):
        check_choice("decay", self.decay, ("constant", "linear", "cosine"))
        if self.decay_from is not None:
            check_interval("decay_from", self.decay_from, 0, 1, "[)")
            if self.decay == "constant":
                raise ValueError(f"decay_from: {self.decay_from!r} is not allowed where decay is 'constant'")
        for name in ("steps", "batch_size", "accumulation", "log_every", "checkpoint_every"):
            check_whole(name, getattr(self, name))
        if len(self.betas) != 2:
            raise ValueError(f"betas: {self.betas!r} is not allowed; it must be two numbers")
        numbers = {"clip": self.clip, "weight_decay": self.weight_decay}
        numbers |= {f"{n}.{key}": v for n in ("lr", "ema") for key, v in getattr(self, n).items()}
        for name, value in {**numbers, "betas.0": self.betas[0], "betas.1": self.betas[1]}.items():
            check_number(name, value)

    def rate(self, step: int) -> float:
        """Return the factor on every learning rate at a step, in [0, 1]; it depends on the step only."""
        rise = min(1.0, (step + 1) / max(1, self.warmup))
        begin = (self.decay_from or 0) * self.steps
        left = min(1.0, (self.steps - step) / (self.steps - begin))
        fall = {"constant": 1.0, "linear": left, "cosine": 0.5 - 0.5 * math.cos(math.pi * left)}[self.decay]
        return rise * fall
