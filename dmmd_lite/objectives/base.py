"""What recipes and models need to know of a distillation method."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from dmmd_lite.denoisers.base import Denoiser
from dmmd_lite.processes.base import Process
from dmmd_lite.utils.checks import check
from dmmd_lite.utils.tensors import Tokens, check_tokens

if TYPE_CHECKING:  # the training loop defines what a method is and imports no method
    from dmmd_lite.training.method import Method


@dataclass(frozen=True)
class MethodSpec:
    """One distillation method: its settings, how it is built, and what a training step costs.

    Args:
    settings: a frozen dataclass of numbers and words with a field `steps`, the student's sampling steps.
    processes: names of the noise processes that the method is defined for.
    make: function (settings, fresh, teacher, process) -> method. fresh(noise=True) gives a new denoiser with
        the weights of the recipe's start; process is the teacher's noise.
    forwards: function settings -> mean cost of a step in forward passes; a backward pass counts as two.
    tracked: function settings -> networks whose activations the costliest step keeps for its backward pass.
    players: names of what is trained; the first one becomes the model.
    copies: number of networks kept besides the players and the teacher.
    process: function (settings, teacher's process) -> student's process.
    """

    settings: type
    processes: tuple[str, ...]
    make: Callable[[Any, Callable[..., Denoiser], Denoiser, Process], "Method"]
    forwards: Callable[[Any], float]
    tracked: Callable[[Any], int] = lambda settings: 1
    players: tuple[str, ...] = ("student",)
    copies: int = 0
    process: Callable[[Any, Process], Process] = lambda settings, process: process

    @property
    def student(self) -> str:
        """The name of the player that becomes the model."""
        return self.players[0]

    def check_process(self, method: str, process: str) -> None:
        """Raise ValueError unless the method, called `method`, is defined for the noise named `process`."""
        if process not in self.processes:
            choices = " or ".join(map(repr, self.processes))
            raise ValueError(f"process: {process!r} is not allowed for {method}; choose {choices}")


class TokenMethod:
    """The base of methods that learn from clean tokens of a noise process, `process`."""

    process: Process

    def check_data(self, x: Tensor) -> None:
        """Raise ValueError unless x is clean tokens of the process, int64 [B, L], held or not."""
        classes = self.process.classes(check("data", x, Tokens))
        check_tokens("data", classes, self.process.vocab_size)
