"""Do bfloat16 and `torch.compile` pay on a CPU?

The floor is that of `loop.py`. bfloat16 halves the bytes and, on processors with instructions for it, the
time of matrix products, and adds a cast of every weight a step; without such instructions it is emulated.
Compiled layers save passes between the matrix products and cost a compilation that only long runs win back.
The loop computes in float32 on a CPU and in bfloat16 on CUDA, and leaves `compile` to the recipe; this says
whether that is right where it runs.

    python benchmarks/precision.py [--repeats 5]

leaves a record a choice and width: the time of a network's forward and backward pass in plain float32 over
that with the choice, compilation left out.

Found on one of two x86_64 cores with AVX-512 and no instructions for bfloat16, the other busy, torch
2.13.0: bfloat16 takes three to four times as long; compiled layers are 1.3 times as fast at width 128 and 1.1
times at 384. So the loop stays in float32 on a CPU, and `compile` pays where a run is longer than its
compilation, some ten seconds a shape; recipes leave it off, because most runs of the book are short.
"""

import argparse
from functools import partial

import torch
from common import ratio, rounds, save, timed
from torch.nn.functional import cross_entropy

from dmmd_lite import Transformer
from dmmd_lite.utils.compiling import compile_layers

V, L, STEPS = 27, 128, 2
SIZES = [(128, 3, 32), (384, 6, 16)]  # width, depth, batch


def job(width: int, depth: int, batch: int, bfloat16: bool = False, compiled: bool = False):
    """A function that gives the mean seconds of a pass."""
    torch.manual_seed(0)
    network = Transformer(V + 1, V, L, width=width, depth=depth, heads=width // 32)
    if compiled:
        compile_layers(network)
    x, t = torch.randint(V, (batch, L)), torch.rand(batch)

    def passes() -> None:
        for _ in range(STEPS):
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                loss = cross_entropy(network(x, t).flatten(0, 1).float(), x.flatten())
            loss.backward()
            network.zero_grad(set_to_none=True)

    return lambda: timed(passes) / STEPS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats, records = parser.parse_args().repeats, []
    choices = {"bfloat16": {"bfloat16": True}, "compiled": {"compiled": True}}
    for width, depth, batch in SIZES:
        make = partial(job, width, depth, batch)
        jobs = {"float32": make()} | {name: make(**choice) for name, choice in choices.items()}
        found = rounds(jobs, repeats)
        about = {"classes": V, "tokens": L, "width": width, "depth": depth, "batch": batch}
        records += [ratio(f"float32 over {name}", found, "float32", name, about) for name in choices]
    save(__file__, records)


if __name__ == "__main__":
    main()
