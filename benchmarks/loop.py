"""What does the training loop add to the network's own forward and backward pass?

The floor is the pass itself: 6 operations a parameter and position (2 forward, 4 backward), the logits and
their cross-entropy. A teacher step adds noise, carry-over, the choice of what is scored, gradient clipping,
AdamW and the average: a fixed number of passes over the parameters and over [B, L, V], small beside 6 B L
operations a parameter. The requirement: no more than a tenth, for teachers of a million parameters and more.

    python benchmarks/loop.py [--device cuda] [--repeats 5]

leaves a record a size: the time of a step of `training.train` over that of the bare pass.

Found on one of two x86_64 cores, the other busy, torch 2.13.0: 1.02 and 1.00 masked, 1.02 and 1.05 uniform,
at 1.4 and 7.6 million parameters. The loop costs nothing worth saving; what is left is in the network.
"""

import argparse

import torch
from common import loop_seconds, ratio, rounds, save, timed, wait
from torch.nn.functional import cross_entropy

from dmmd_lite import DenoisingObjective, NetworkDenoiser, TrainingOptions, Transformer, get_process
from dmmd_lite.utils.rng import integers

V, L, STEPS = 27, 64, 8
SIZES = {"cpu": [(192, 4, 32), (384, 6, 32)], "cuda": [(384, 6, 512), (768, 12, 256)]}  # width, depth, batch


def measure(process_name: str, width: int, depth: int, batch: int, repeats: int, device: str):
    process = get_process(process_name, V)
    network = Transformer(process.num_symbols, V, L, width=width, depth=depth, heads=width // 64).to(device)
    parameters = sum(p.numel() for p in network.parameters())
    z = torch.randint(process.num_symbols, (batch, L), device=device)
    x, t = torch.randint(V, (batch, L), device=device), torch.rand(batch, device=device)
    autocast = torch.autocast(device, torch.bfloat16, enabled=device == "cuda")

    def bare() -> float:
        def steps() -> None:
            for _ in range(STEPS):
                with autocast:
                    loss = cross_entropy(network(z, t).flatten(0, 1).float(), x.flatten())
                loss.backward()
                network.zero_grad(set_to_none=True)

        return timed(steps, device) / STEPS

    def loop() -> float:
        options = TrainingOptions(STEPS + 3, batch, {"denoiser": 1e-4}, ema={"denoiser": 0.999}, log_every=50)
        method = DenoisingObjective(NetworkDenoiser(network, process), process)
        return loop_seconds(method, lambda n, g: integers(V, (n, L), g), options, device)

    found = rounds({"loop": loop, "network": bare}, repeats)
    wait(device)
    settings = {"process": process_name, "parameters": parameters, "batch": batch, "tokens": L, "classes": V}
    return ratio("loop over network", found, "loop", "network", settings, device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    cells = [(p, *size) for p in ("masked", "uniform") for size in SIZES[arguments.device]]
    save(__file__, [measure(*cell, arguments.repeats, arguments.device) for cell in cells])


if __name__ == "__main__":
    main()
