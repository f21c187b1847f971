"""What the benchmarks share: rounds of timed jobs, steps of a training timed apart, ratios as records."""

import json
import re
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dmmd_lite import Record, TrainingOptions, train
from dmmd_lite.metrics.intervals import median_interval
from dmmd_lite.utils.files import write_json
from dmmd_lite.utils.paths import data_dir
from dmmd_lite.utils.provenance import machine

torch.set_num_threads(1)  # what two cores can do side by side is another question


def rounds(jobs: dict[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """Run every job once to warm up and then `repeats` times in turn, so that whatever else the machine does
    meets all of them, forwards and backwards by turns. A job returns its own measure, seconds as a rule."""
    for job in jobs.values():
        job()
    found: dict[str, list[float]] = {name: [] for name in jobs}
    for k in range(repeats):
        for name in list(jobs)[:: -1 if k % 2 else 1]:
            found[name].append(jobs[name]())
    return found


def timed(function: Callable[[], object], device: torch.device | str = "cpu") -> float:
    """Wall-clock seconds of a call, to the end of what it left to do on an accelerator."""
    wait(device)
    start = time.perf_counter()
    function()
    wait(device)
    return time.perf_counter() - start


def wait(device: torch.device | str) -> None:
    """Until a CUDA device has done what was asked of it."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


def loop_seconds(
    method, data: Callable, options: TrainingOptions, device: torch.device | str = "cpu", warm: int = 2
) -> float:
    """Mean seconds of a step of `training.train`, everything in it included but checkpoints and what is
    logged every `log_every` steps.

    A step begins when the loop asks for losses; the first `warm` are left out, and so is the last.
    """
    began: list[float] = []
    losses = method.losses

    def watched(step: int, x: Tensor, generator: torch.Generator) -> dict:
        if step in (warm, options.steps - 1):
            wait(device)
        began.append(time.perf_counter())
        return losses(step, x, generator)

    method.losses = watched
    try:
        with tempfile.TemporaryDirectory() as folder:
            train(method, data, options, Path(folder) / "run", device=device)
    finally:
        del method.losses  # its class has them
    return (began[-1] - began[warm]) / (len(began) - 1 - warm)


def peak_bytes() -> int:
    """The most memory this process has had resident. The kernel's own count begins anew with the program,
    that of `getrusage` with whatever the parent had."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024
    except (OSError, TypeError):  # no Linux
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def ratio(
    name: str,
    found: dict[str, list[float]],
    over: str,
    under: str,
    settings: dict,
    device: torch.device | str = "cpu",
) -> Record:
    """The median over rounds of `over` / `under`, between two order statistics, and their level."""
    value, low, high, level = median_interval(np.array(found[over]) / np.array(found[under]))
    details = {
        **settings,
        "ratio": f"{over} / {under}",
        "medians": {key: statistics.median(values) for key, values in found.items()},
        "threads": torch.get_num_threads(),
    }
    return Record(
        name,
        value,
        low,
        high,
        len(found[over]),
        under,
        details,
        provenance={"measured": machine(device)},
        level=level,
    )


def save(script: str, records: list[Record]) -> None:
    """Print the records and keep them as `data/results/bench_SCRIPT.json`, in the place of earlier ones."""
    for record in records:
        print(f"{record.name}: {record.text(3)}  {json.dumps(record.details)}")
    path = data_dir() / "results" / f"bench_{Path(script).stem}.json"
    page = {"page": path.stem, "records": [asdict(record) for record in records]}
    write_json(path, page)
