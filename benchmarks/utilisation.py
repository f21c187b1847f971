"""How much of what a device can multiply does training use?

The floor is the counted operations (`cost.forward_flop`: matrix products, convolutions and attention, two for
every multiplication; 3 forward passes a teacher step, 7 a fused D-MMD step) at the rate of one large matrix
product in the precision of the loop, float32 on a CPU and bfloat16 on CUDA, measured in every round. What
keeps a step above it: passes over [B, L, width] between the products (norms, activations, rotary
embeddings), the softmax of attention, losses, optimisers, and products too narrow for the device. The
requirement, on CUDA with 85 million parameters and 1,024 tokens: 0.45 of the datasheet's peak for the
teacher, 0.40 for D-MMD.

    python benchmarks/utilisation.py [--device cuda] [--compile] [--repeats 5]

leaves a record a step: the time of the floor over that of the step; the details have the shares of a step's
time that its largest operators take, and on a known CUDA device the share of the datasheet's dense bfloat16
peak that the step reaches.

Found on one of two x86_64 cores, the other busy, torch 2.13.0, 7.6 million parameters, 256 tokens: 0.58 for
the teacher, 0.61 for D-MMD. Products take half of the time, attention a seventh, elementwise work the rest,
multiplications of norms and rotary embeddings most of it. CUDA has not been measured.
"""

import argparse
import statistics
from dataclasses import replace
from functools import partial

import torch
from common import loop_seconds, ratio, rounds, save, timed
from torch.profiler import ProfilerActivity, profile

from dmmd_lite import (
    DMMD,
    DenoisingObjective,
    DMMDSettings,
    Masked,
    NetworkDenoiser,
    TrainingOptions,
    Transformer,
)
from dmmd_lite.recipes.cost import forward_flop
from dmmd_lite.utils.rng import integers

V = 27
SETTINGS = {  # tokens, width, depth, batch, steps timed at once; side of the matrices
    "cpu": (256, 384, 6, 8, 2, 2048),
    "cuda": (1024, 768, 12, 32, 20, 8192),
}
UNITS = {"teacher step": 3, "D-MMD step": 7}  # forward passes
DENSE_BFLOAT16 = {  # operations a second by a device's name, NVIDIA's datasheets
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA H200": 989e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
}


def product_rate(device: str, side: int) -> float:
    """Operations a second of a matrix product."""
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    times = 20 if device == "cuda" else 2
    return 2 * side**3 * times / timed(lambda: [a @ b for _ in range(times)], device)


def method_of(step: str, networks: list[Transformer], process: Masked):
    """The training method of a step, and its learning rates."""
    first, second, third = (NetworkDenoiser(network, process) for network in networks)
    if step == "teacher step":
        return DenoisingObjective(first, process), {"denoiser": 1e-4}
    method = DMMD(first, second, third.requires_grad_(False), process, DMMDSettings(16, updates="fused"))
    return method, {"generator": 1e-4, "auxiliary": 1e-4}


def shares(function, device: str, most: int = 8) -> dict[str, float]:
    """Of the time of a call, what its largest operators take."""
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device == "cuda")
    with profile(activities=activities) as seen:
        function()
    times = {event.key: getattr(event, f"self_{device}_time_total") for event in seen.key_averages()}
    largest = sorted(times, key=times.get, reverse=True)[:most]
    return {name: round(times[name] / sum(times.values()), 3) for name in largest}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=SETTINGS)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    device, records = arguments.device, []
    L, width, depth, batch, steps, side = SETTINGS[device]
    process = Masked(V)
    sizes = {"width": width, "depth": depth, "heads": width // 64}
    networks = [Transformer(process.num_symbols, V, L, **sizes).to(device) for _ in range(3)]
    forward = forward_flop(networks[0], L) * batch
    about = {
        "parameters": sum(p.numel() for p in networks[0].parameters()),
        "tokens": L,
        "classes": V,
        "batch": batch,
    }
    for step, units in UNITS.items():
        method, rates = method_of(step, networks, process)
        options = TrainingOptions(steps + 3, batch, rates, betas=(0.0, 0.99), compile=arguments.compile)

        def seconds(method=method, options=options) -> float:
            return loop_seconds(method, lambda n, g: integers(V, (n, L), g), options, device)

        found = rounds({"floor": lambda: product_rate(device, side), step: seconds}, arguments.repeats)
        found["floor"] = [units * forward / rate for rate in found["floor"]]
        details = {**about, "operations": units * forward}
        peak = DENSE_BFLOAT16.get(torch.cuda.get_device_name()) if device == "cuda" else None
        if peak:
            details["share of the datasheet's peak"] = units * forward / statistics.median(found[step]) / peak
        details["shares of time"] = shares(partial(seconds, options=replace(options, steps=4)), device)
        name = f"utilisation, {step}" + ", compiled" * arguments.compile
        records.append(ratio(name, found, "floor", step, details, device))
    save(__file__, records)


if __name__ == "__main__":
    main()
