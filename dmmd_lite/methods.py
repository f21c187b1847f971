"""The distillation methods by role: their settings, how their players are made, what a step costs."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from dmmd_lite.denoisers import Denoiser
from dmmd_lite.objectives import Method
from dmmd_lite.objectives.dcd import DCD, DCDSettings
from dmmd_lite.objectives.di4c import Di4C, Di4CSettings
from dmmd_lite.objectives.dmmd import DMMD, Switches
from dmmd_lite.objectives.redi import ReDi, ReDiSettings
from dmmd_lite.objectives.sdtt import SDTT, SDTTSettings
from dmmd_lite.processes import Process, RandomStart


@dataclass(frozen=True)
class Kind:
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
    make: Callable[[Any, Callable[..., Denoiser], Denoiser, Process], Method]
    student: str
    forwards: Callable[[Any], float]
    tracked: Callable[[Any], int]
    copies: int = 0
    process: Callable[[Any, Process], Process] = lambda settings, process: process


def _dmmd(settings: Switches, fresh, teacher: Denoiser, process: Process) -> DMMD:
    return DMMD(fresh(), fresh(noise=False), teacher, process, settings)


def _dmmd_process(switches: Switches, process: Process) -> Process:
    return process if switches.masked is None else RandomStart(process, switches.masked)


def _dmmd_forwards(switches: Switches) -> float:
    """A generator's turn is 3 + 1 + 1, an auxiliary's 1 + 3 and 1 for the anchor, one draw for both 7.
    Gradients through the inputs of teacher and auxiliary are 1 more each; then the auxiliary is evaluated
    anew for its own loss."""
    relaxed, anchor = switches.tau is not None, switches.anchor
    if switches.updates == "fused":
        return 10 if relaxed else 7
    turns = switches.auxiliary_updates
    return (5 + 2 * relaxed + turns * (4 + anchor)) / (1 + turns)


def _dmmd_tracked(switches: Switches) -> int:
    alone = 1 if switches.tau is None else 3
    return alone if switches.updates == "alternating" else alone + 1


_FAMILY = Kind(Switches, _dmmd, "generator", _dmmd_forwards, _dmmd_tracked, process=_dmmd_process)


def _sdtt(settings: SDTTSettings, fresh, teacher: Denoiser, process: Process) -> SDTT:
    return SDTT(fresh(), teacher, process, settings)


def _dcd(settings: DCDSettings, fresh, teacher: Denoiser, process: Process) -> DCD:
    return DCD(fresh(), teacher, process, settings)


def _di4c(settings: Di4CSettings, fresh, teacher: Denoiser, process: Process) -> Di4C:
    return Di4C(fresh(), teacher, process, settings)


def _redi(settings: ReDiSettings, fresh, teacher: Denoiser, process: Process) -> ReDi:
    return ReDi(fresh(), teacher, process, settings)


def _redi_forwards(settings: ReDiSettings) -> float:
    """A step is 3; a pair is `pool_steps`, spread over its uses. A round on data has none."""
    paired = settings.rounds / (settings.rounds + (settings.masked < 1))
    return 3 + paired * settings.pool_steps / (1 if settings.perturbed else settings.uses)


METHODS: dict[str, Kind] = {
    "dmmd": _FAMILY,
    "idlm": _FAMILY,
    "dimo": _FAMILY,
    "sdtt": Kind(
        SDTTSettings,
        _sdtt,
        "student",
        forwards=lambda settings: 5,
        tracked=lambda settings: 1,
        copies=1,
    ),
    "dcd": Kind(
        DCDSettings,
        _dcd,
        "student",
        forwards=lambda settings: 4,
        tracked=lambda settings: 1,
        copies=1,
    ),
    "di4c": Kind(
        Di4CSettings,
        _di4c,
        "student",
        forwards=lambda settings: 4 * settings.samples + 1,  # 3 N at z_t, N at the z_u, the teacher at z_t
        tracked=lambda settings: settings.samples,
    ),
    "redi": Kind(
        ReDiSettings,
        _redi,
        "student",
        _redi_forwards,
        tracked=lambda settings: 1,
        copies=1,
        process=ReDiSettings.process,
    ),
}


def deviations(role: str) -> str:
    """Where a method had to be filled in or differs from its paper: the list in the docstring of its file."""
    text = import_module(f"dmmd_lite.objectives.{role}").__doc__
    return text.partition("Deviations\n----------\n")[2].strip()
