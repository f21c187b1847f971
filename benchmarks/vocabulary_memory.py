"""What does a fused D-MMD step with 50,257 classes at length 1,024 hold in memory, and what does it cost?

The floor is what no cutting of log_x can save: weights, their gradients, hidden vectors. The requirement is
less than one float32 tensor [B, L, V] beyond that, 823 MB at B = 4; the plain step holds many of them.

    python benchmarks/vocabulary_memory.py [--repeats 3]

prints one JSON record a setting. Every setting runs in a process of its own: its memory is the peak of the
resident set during the steps less what was resident before the first, its time the median of processor
seconds over the repeats. "whole" makes log_x at once, "chunks" is what the package does.

Found on two x86_64 cores that others used too, one thread, torch 2.13.0, one step each, "before" being the
package as it was without chunks (a whole tensor is 785 MiB; the gradients of both heads are in it):

    large      masked     before  7,916 MiB   53 s     chunks  627 MiB   26 s
    large      uniform    before  6,364 MiB   22 s     chunks  482 MiB   25 s

Masked noise gets faster with losses at masked positions only and a carry-over without one-hot tensors. Digits
and docstrings are one piece: their losses keep every bit, a step has as many operations as before (1,321 and
1,322 for uniform digits) and writes no more elements; their seconds scatter by 15 % either way.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

import torch
from common import peak_bytes

from dmmd_lite import DMMD, DMMDSettings, NetworkDenoiser, Transformer, generator_for, get_process
from dmmd_lite.denoisers import prediction
from dmmd_lite.utils.provenance import machine

MEBIBYTE = 2**20
LARGE = {"vocab_size": 50_257, "length": 1024, "batch": 4, "network": {"width": 64, "depth": 1}}
DIGITS = {
    "vocab_size": 17,
    "length": 64,
    "batch": 64,
    "network": {"width": 96, "depth": 3, "image_shape": (8, 8, 1)},
}
DOCSTRINGS = {"vocab_size": 27, "length": 128, "batch": 32, "network": {"width": 128, "depth": 3}}
SHAPES = {"large": LARGE, "digits": DIGITS, "docstrings": DOCSTRINGS}


def resident(peak: bool) -> float:
    """Resident memory of this process in MiB, now or at its peak."""
    if peak:
        return peak_bytes() / MEBIBYTE
    with open("/proc/self/statm", encoding="utf-8") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / MEBIBYTE


def measure(shape: str, process_name: str, cut: str, repeats: int) -> dict:
    """Peak memory and median processor seconds of a fused step, with its backward pass."""
    if cut == "whole":
        prediction.MAX_ELEMENTS = sys.maxsize
    sizes = SHAPES[shape]
    vocab_size, batch, length = sizes["vocab_size"], sizes["batch"], sizes["length"]
    process, generator = get_process(process_name, vocab_size), generator_for("cpu", 0)
    torch.manual_seed(0)
    models = [
        NetworkDenoiser(Transformer(process.num_symbols, vocab_size, length, **sizes["network"]), process)
        for _ in range(3)
    ]
    method = DMMD(*models, process, DMMDSettings(4, updates="fused"))
    before, seconds = resident(peak=False), []
    for _ in range(repeats):
        x = torch.randint(vocab_size, (batch, length), generator=generator)
        started = time.process_time()
        terms = method.losses(0, x, generator)
        sum(value for parts in terms.values() for value in parts.values()).backward()
        seconds.append(time.process_time() - started)
        for model in models:
            model.zero_grad()
    return {
        "shape": shape,
        **sizes,
        "process": process_name,
        "cut": cut,
        "cpu_seconds_median": round(statistics.median(seconds), 5),
        "cpu_seconds_range": [round(end(seconds), 5) for end in (min, max)],
        "repeats": repeats,
        "peak_mib": round(resident(peak=True) - before),
        "whole_tensor_mib": round(4 * batch * length * vocab_size / MEBIBYTE, 1),
        "weights_mib": round(
            sum(4 * p.numel() for p in method.players["generator"].parameters()) / MEBIBYTE, 1
        ),
        "threads": torch.get_num_threads(),
        **machine("cpu"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", nargs=3, metavar=("SHAPE", "PROCESS", "CUT"), help="measure in this process")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(*arguments.one, arguments.repeats)))
        return
    for shape in SHAPES:
        for process_name in ("masked", "uniform"):
            for cut in ("whole", "chunks"):
                repeats = arguments.repeats if shape == "large" else 20 * arguments.repeats
                one = ["--one", shape, process_name, cut, "--repeats", str(repeats)]
                subprocess.run([sys.executable, __file__, *one], check=True)


if __name__ == "__main__":
    main()
