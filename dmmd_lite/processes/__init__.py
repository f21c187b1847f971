"""Noise processes: what turns clean tokens into noise, and what a reverse step looks like.

A new process is a subclass of `Process` in a file beside these, with an entry in `PROCESSES`.
"""

from dmmd_lite.processes.base import Process
from dmmd_lite.processes.block_autoregressive import BlockAutoregressive
from dmmd_lite.processes.holding import Holding
from dmmd_lite.processes.masked import Masked
from dmmd_lite.processes.random_start import RandomStart
from dmmd_lite.processes.uniform import Uniform
from dmmd_lite.utils.checks import Count, check_choice, checked

__all__ = [
    "PROCESSES",
    "BlockAutoregressive",
    "Holding",
    "Masked",
    "Process",
    "RandomStart",
    "Uniform",
    "get_process",
]

PROCESSES = {"masked": Masked, "uniform": Uniform}


@checked
def get_process(name: str, vocab_size: Count, schedule: str = "linear") -> Process:
    """Make the process called `name`, a key of `PROCESSES`, over vocab_size = V classes."""
    check_choice("process", name, sorted(PROCESSES))
    return PROCESSES[name](vocab_size, schedule)
