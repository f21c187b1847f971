"""What does a fused D-MMD step at CIFAR-10's layout hold in memory, and what does it cost?

3,072 tokens of 256 levels, the crops of the world `photos`, batch 32: log_x alone is 96 MiB for each of the
three networks. The requirement is less than 3 GB for the whole process.

    python benchmarks/image_memory.py [--repeats 3]

prints one JSON record a process and scale: the peak of the resident set after the steps, and the median of
processor seconds over the repeats, backward pass and optimisers included. Every setting runs in a process of
its own, with one thread.

Found on two x86_64 cores that others used too, torch 2.13.0, one step each:

    smoke      masked     1.04 GB   4.6 s        uniform    1.13 GB   2.4 s
    laptop     masked     1.39 GB   6.0 s        uniform    1.56 GB   3.8 s
"""

import argparse
import json
import statistics
import subprocess
import sys
import time

import torch
from common import peak_bytes

from dmmd_lite import DMMD, DMMDSettings, NetworkDenoiser, generator_for, get_process, get_recipe, get_world
from dmmd_lite.utils.provenance import machine

BATCH, STEPS = 32, 16


def measure(scale: str, process_name: str, repeats: int) -> dict:
    """Peak memory of this process, and median processor seconds of a step."""
    recipe, world = get_recipe(f"photos-{process_name}-dmmd-{STEPS}", scale), get_world("photos")
    process, generator = get_process(process_name, world.vocab_size), generator_for("cpu", 0)
    without = recipe.with_changes({"network.noise": 0})
    models = [NetworkDenoiser(r.make_network(), process) for r in (recipe, without, without)]
    method = DMMD(*models, process, DMMDSettings(STEPS, updates="fused"))
    optimizers = [torch.optim.Adam(player.parameters()) for player in method.players.values()]
    seconds = []
    for _ in range(repeats):
        x, started = world.sample(BATCH, generator), time.process_time()
        terms = method.losses(0, x, generator)
        sum(value for parts in terms.values() for value in parts.values()).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        seconds.append(time.process_time() - started)
    return {
        "process": process_name,
        "network": recipe.network,
        "batch": BATCH,
        "tokens": world.length,
        "levels": world.vocab_size,
        "peak_gb": round(peak_bytes() / 1e9, 2),
        "cpu_seconds_median": round(statistics.median(seconds), 2),
        "repeats": repeats,
        "threads": torch.get_num_threads(),
        **machine("cpu"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", nargs=2, metavar=("SCALE", "PROCESS"), help="measure in this process")
    arguments = parser.parse_args()
    if arguments.one:
        torch.set_num_threads(1)
        print(json.dumps(measure(*arguments.one, arguments.repeats)))
        return
    for scale in ("smoke", "laptop"):
        for process_name in ("masked", "uniform"):
            one = ["--one", scale, process_name, "--repeats", str(arguments.repeats)]
            subprocess.run([sys.executable, __file__, *one], check=True)


if __name__ == "__main__":
    main()
