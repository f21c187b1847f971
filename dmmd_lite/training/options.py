"""How to train: lengths, rates, averages, and how often to log, save and validate."""

import math
from dataclasses import dataclass, field


@dataclass(frozen=True)
class TrainingOptions:
    """How to train. Dictionaries are keyed by player; `lr` must name every player.

    steps: loop steps. batch_size: sequences a step over all processes and accumulation parts.
    lr: peak rates; warmup steps of linear rise; decay: "linear" or "cosine" to zero, or "constant".
    decay_from: the part of the run, in [0, 1), before rates begin to fall; None: they fall from its start.
    ema: decay of each averaged player (players not named are not averaged).
    compile: whether the layers of players and teacher, those in a `ModuleList`, go through `torch.compile`.
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
        if self.decay not in ("constant", "linear", "cosine"):
            raise ValueError(
                f"decay: {self.decay!r} is not allowed; choose one of ('constant', 'linear', 'cosine')"
            )
        if self.decay_from is not None and not 0 <= self.decay_from < 1:
            raise ValueError(f"decay_from: {self.decay_from!r} is not allowed; it must lie in [0, 1)")
        if self.decay_from is not None and self.decay == "constant":
            raise ValueError(f"decay_from: {self.decay_from!r} is not allowed where decay is 'constant'")
        for name in ("steps", "batch_size", "accumulation", "log_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)!r} is not allowed; it must be at least 1")
        if len(self.betas) != 2:
            raise ValueError(f"betas: {self.betas!r} is not allowed; it must be two numbers")
        numbers = {"clip": self.clip, "weight_decay": self.weight_decay}
        numbers |= {f"{n}.{key}": v for n in ("lr", "ema") for key, v in getattr(self, n).items()}
        for name, value in {**numbers, "betas.0": self.betas[0], "betas.1": self.betas[1]}.items():
            if not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise ValueError(f"{name}: {value!r} is not allowed; it must be a finite number, at least 0")

    def rate(self, step: int) -> float:
        """Factor on every learning rate at a step, in [0, 1]; a pure function of the step."""
        rise = min(1.0, (step + 1) / max(1, self.warmup))
        begin = (self.decay_from or 0) * self.steps
        left = min(1.0, (self.steps - step) / (self.steps - begin))
        fall = {"constant": 1.0, "linear": left, "cosine": 0.5 - 0.5 * math.cos(math.pi * left)}[self.decay]
        return rise * fall
