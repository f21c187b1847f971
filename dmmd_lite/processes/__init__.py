"""Noise processes by name: what turns clean tokens into noise, and what a reverse step looks like."""

from dmmd_lite.processes.base import Process
from dmmd_lite.processes.block_autoregressive import BlockAutoregressive
from dmmd_lite.processes.masked import Masked
from dmmd_lite.processes.random_start import RandomStart
from dmmd_lite.processes.uniform import Uniform

__all__ = [
    "PROCESSES",
    "BlockAutoregressive",
    "Masked",
    "Process",
    "RandomStart",
    "Uniform",
    "get_process",
]

PROCESSES = {"masked": Masked, "uniform": Uniform}


def get_process(name: str, vocab_size: int, schedule: str = "linear") -> Process:
    """The process called `name` ("masked" or "uniform") over V classes."""
    if name not in PROCESSES:
        raise ValueError(f"process: {name!r} is not allowed; choose one of {sorted(PROCESSES)}")
    return PROCESSES[name](vocab_size, schedule)
