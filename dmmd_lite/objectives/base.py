"""What recipes and models need to know of a distillation method."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dmmd_lite.denoisers.base import Denoiser
from dmmd_lite.processes.base import Process

if TYPE_CHECKING:  # the training loop says what a method is, and knows none of them
    from dmmd_lite.training.method import Method


@dataclass(frozen=True)
class MethodSpec:
    """One method, as recipes and the store need to know it.

    settings: a frozen dataclass of numbers and words, with `steps`, the sampling steps a student is for.
    make: (settings, fresh, teacher, process) to a method, where fresh(noise=True) gives a new denoiser with
        the weights of the recipe's start, and process is the teacher's noise. student: the player that
        becomes the model.
    forwards: what a step costs in forward passes of a network, on average; a backward pass counts two.
    tracked: networks whose activations are kept for a backward pass in the costliest step.
    copies: networks it keeps beside its players and the teacher.
    process: (settings, process) to the process of the student, from that of the teacher.
    """

    settings: type
    make: Callable[[Any, Callable[..., Denoiser], Denoiser, Process], "Method"]
    student: str
    forwards: Callable[[Any], float]
    tracked: Callable[[Any], int]
    copies: int = 0
    process: Callable[[Any, Process], Process] = lambda settings, process: process
