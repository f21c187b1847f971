"""How much faster do two processes train than one, at the same global batch?

The floor is half the time: every process evaluates half of the batch. On top come the gradients' all-reduce,
one of all parameters a player and update, and the optimisers, which every process runs on all parameters;
neither shrinks with the batch, so small networks scale worst. That the losses are those of one process is a
test (`tests/test_training.py`). There is no requirement; the number says what to expect of `torchrun`.

    python benchmarks/processes.py [--repeats 5]

leaves a record a size: the time of a D-MMD step in one process over that in two (gloo, one thread each).

Found on two x86_64 cores, torch 2.13.0: 1.8 times as fast at both sizes (intervals from 1.5 to 1.9).
"""

import argparse
import json
import os
import subprocess
import sys
from functools import partial

import torch.distributed as dist
from common import loop_seconds, ratio, rounds, save

from dmmd_lite import DMMD, DMMDSettings, Masked, NetworkDenoiser, TrainingOptions, Transformer
from dmmd_lite.utils.rng import integers

V, L, STEPS = 27, 64, 6
SIZES = {"small": (96, 3, 64), "larger": (256, 6, 32)}  # width, depth, global batch


def inside(size: str) -> float:
    """Seconds of a step, measured by a process that `torchrun` started."""
    width, depth, batch = SIZES[size]
    process = Masked(V)
    networks = (Transformer(V + 1, V, L, width=width, depth=depth, heads=width // 32) for _ in range(3))
    generator, auxiliary, teacher = (NetworkDenoiser(network, process) for network in networks)
    method = DMMD(
        generator, auxiliary, teacher.requires_grad_(False), process, DMMDSettings(16, updates="fused")
    )
    rates = {"generator": 1e-4, "auxiliary": 1e-4}
    options = TrainingOptions(STEPS + 3, batch, rates, betas=(0.0, 0.99), ema={"generator": 0.999})
    return loop_seconds(method, lambda n, g: integers(V, (n, L), g), options)


def run(size: str, processes: int) -> float:
    """The first process's seconds of a step."""
    torchrun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc-per-node={processes}",
    ]
    about = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*torchrun, __file__, "--inside", size], env=about, check=True, capture_output=True)
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        dist.init_process_group("gloo")
        seconds = inside(arguments.inside)
        if dist.get_rank() == 0:
            print(json.dumps(seconds))
        dist.destroy_process_group()
        return
    records = []
    for size, (width, depth, batch) in SIZES.items():
        names = {"1 process": 1, "2 processes": 2}
        found = rounds({name: partial(run, size, n) for name, n in names.items()}, arguments.repeats)
        about = {"classes": V, "tokens": L, "width": width, "depth": depth, "batch": batch}
        records.append(ratio("one process over two", found, "1 process", "2 processes", about))
    save(__file__, records)


if __name__ == "__main__":
    main()
