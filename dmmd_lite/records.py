"""A metric is a record: a value together with everything needed to know what it means.

Metric functions fill the first block of fields; whoever samples a model adds the context with
`dataclasses.replace`. Records are plain JSON on disk, one list of them per file.
"""

import json
import os
import platform
import subprocess
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import dmmd_lite

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Record:
    """One measured number.

    value: the estimate. low, high: its 95 % interval (None where the number is exact).
    n: samples behind it. reference: what it is compared with. details: extractor, floors, settings.
    model, weights ("raw", "ema" or "exact"), steps (nominal), evaluations (network calls per sequence),
    seed (of sampling), world, temperature, top_p: how the samples were made.
    provenance: recipe, training seed, commit, hardware, versions, date.
    """

    name: str
    value: float
    low: float | None
    high: float | None
    n: int
    reference: str
    details: dict = field(default_factory=dict)
    model: str = ""
    world: str = ""
    weights: str = ""
    steps: int | None = None
    evaluations: float | None = None
    seed: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    provenance: dict = field(default_factory=dict)

    def to_dict(self) -> dict:
        """The record as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> "Record":
        """The inverse of `to_dict`; an unknown key is a ValueError that lists the known ones."""
        known = [f.name for f in fields(cls)]
        for key in values:
            if key not in known:
                raise ValueError(f"record key: {key!r} is not allowed; choose from {known}")
        return cls(**values)


def interval(value: float, replicates: np.ndarray) -> tuple[float, float]:
    """95 % bootstrap interval of `value` from replicates [R].

    The replicates are centred on the estimate first: distances between samples are biased upwards on
    resampled data, and their plain percentiles would not even contain the estimate.
    """
    low, high = np.quantile(replicates - replicates.mean(), [0.025, 0.975])
    return float(value + low), float(value + high)


def bootstrap_mean(values: np.ndarray, seed: int = 0, replicates: int = 1000) -> tuple[float, float, float]:
    """Mean of per-sample values [n] with its 95 % bootstrap interval: (value, low, high)."""
    draws = np.random.default_rng(seed).multinomial(
        len(values), np.full(len(values), 1 / len(values)), replicates
    )
    value = float(values.mean())
    return value, *interval(value, draws @ values / len(values))


def machine(device: "torch.device | str" = "cpu") -> dict:
    """Where and with what something was computed: hardware, versions, commit, date."""
    import torch  # takes longer than all the rest of a run that only saves records

    device = torch.device(device)
    hardware = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{platform.machine()} CPU"
    return {
        "hardware": f"{hardware}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "dmmd_lite": dmmd_lite.__version__,
        "commit": commit(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def commit() -> str:
    """The git commit of the source tree, "+changes" added if it was edited; "unknown" outside a checkout."""
    root = Path(__file__).parents[1]

    def git(*args):
        return subprocess.run(
            ["git", "-C", str(root), *args], capture_output=True, text=True, check=True
        ).stdout

    try:
        if Path(git("rev-parse", "--show-toplevel").strip()) != root:
            return "unknown"
        return git("rev-parse", "--short=12", "HEAD").strip() + (
            "+changes" if git("status", "--porcelain", "dmmd_lite") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def write_json(path: Path, content) -> None:
    """Write JSON atomically: the file is either the old one or the whole new one."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
    os.replace(part, path)
