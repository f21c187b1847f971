"""What does the sampler add to the networks it asks, and what does it save by not asking?

The floor of K steps is K forward passes of every sequence, or fewer under masked noise: a sequence of L
tokens can change in L steps at most, so of 1,024 steps with 64 tokens some 62 have anything to do, and the
others need no network. Around a pass there are a softmax and a draw at every position that may change, some
dozen passes over [B, L, V] at most. The requirement: a tenth of the time at width 512 in 16 steps, with 27
and with 50,257 classes; and a 1,024-step masked teacher of 64 tokens ten times as fast as the plain loop.

    python benchmarks/sampling.py [--device cuda] [--repeats 5]

leaves a record a setting: the time of `sampling.sample` over that spent in the network; the time of the
plain loop, which evaluates every sequence in every step and draws x everywhere, over that of `sample`; and
that of `sample` over the same with compiled layers (`--compile` on the command line), compilation left out.
The samples have the same law; under uniform noise, where the order of draws is the plain loop's, they are the
same for the same random numbers (`tests/test_sampling.py`).

Found on one of two x86_64 cores, the other busy, torch 2.13.0: 1.01 and 1.02 with 27 classes; with 50,257
classes 1.03 masked and 1.07 uniform, where nearly every position is drawn in every step and one pass of
exponentials over all classes is what is left; 1,024 masked steps 17 times as fast; compiled layers make
sampling with a small network one and a half times as fast.
"""

import argparse
import copy
from functools import partial
from itertools import pairwise

import torch
from common import ratio, rounds, save, timed, wait

from dmmd_lite import Masked, NetworkDenoiser, SplitNetwork, Transformer, generator_for, get_process, sample
from dmmd_lite.processes.schedules import time_grid
from dmmd_lite.utils.compiling import compile_layers
from dmmd_lite.utils.rng import categorical

WIDTH, DEPTH, STEPS = 512, 4, 16
VOCABULARIES = {27: (128, 4), 50_257: (128, 2)}  # classes: tokens, sequences


class Timed(SplitNetwork):
    """A network that notes the seconds spent in it."""

    def __init__(self, network: SplitNetwork, device: str):
        super().__init__()
        self.network, self.device, self.seconds = network, device, 0.0
        self.per_position = network.per_position

    def _timed(self, function, *values):
        found = []
        self.seconds += timed(lambda: found.append(function(*values)), self.device)
        return found[0]

    def hidden(self, z, t, noise=None):
        return self._timed(self.network.hidden, z, t)

    def logits(self, h):
        return self._timed(self.network.logits, h)


def overhead(vocab_size: int, process_name: str, repeats: int, device: str):
    """The time of `sample` over that of the network inside it, rounds of one run each."""
    L, num = VOCABULARIES[vocab_size]
    process, generator = get_process(process_name, vocab_size), generator_for(device, 0)
    network = Transformer(process.num_symbols, vocab_size, L, width=WIDTH, depth=DEPTH, heads=8).to(device)
    inner = Timed(network, device)
    denoiser = NetworkDenoiser(inner, process).eval()
    found = {"sampler": [], "network": []}
    for _ in range(repeats + 1):
        inner.seconds = 0.0
        run = partial(sample, denoiser, process, num, L, STEPS, generator=generator, device=device)
        found["sampler"].append(timed(run, device))
        found["network"].append(inner.seconds)
    found = {name: values[1:] for name, values in found.items()}
    about = {"process": process_name, "classes": vocab_size, "tokens": L, "sequences": num, "width": WIDTH}
    return ratio("sampler over network", found, "sampler", "network", {**about, "steps": STEPS}, device)


def skipping(repeats: int, device: str, steps: int = 1024, L: int = 64, num: int = 16):
    """The plain loop over `sample`, a masked teacher of many steps."""
    process, generator = Masked(27), generator_for(device, 0)
    network = Transformer(process.num_symbols, 27, L, width=128, depth=3, heads=4).to(device)
    denoiser = NetworkDenoiser(network, process).eval()

    @torch.no_grad()
    def every_step() -> None:
        z = process.prior((num, L), generator).to(device)
        for t, s in pairwise(time_grid(steps).to(device).expand(num, -1).unbind(1)):
            x = categorical(denoiser(z, t.float()), generator)
            z = process.step(z, x, s, t, generator)

    def plain() -> float:
        return timed(every_step, device)

    def ours() -> float:
        options = {"generator": generator, "device": device}
        return timed(lambda: sample(denoiser, process, num, L, steps, **options), device)

    found = rounds({"plain loop": plain, "sampler": ours}, repeats)
    wait(device)
    about = {"process": "masked", "classes": 27, "tokens": L, "sequences": num, "steps": steps}
    return ratio("plain loop over sampler", found, "plain loop", "sampler", about, device)


def compiled(process_name: str, repeats: int, device: str, steps: int = 64, L: int = 64, num: int = 64):
    """The plain network over one with compiled layers, both under `sample`; compilation is left out."""
    process = get_process(process_name, 27)
    network = Transformer(process.num_symbols, 27, L, width=128, depth=3, heads=4).to(device)
    networks = {"plain": network, "compiled": copy.deepcopy(network)}
    compile_layers(networks["compiled"], dynamic=True)

    def job(network: Transformer):
        denoiser = NetworkDenoiser(network, process).eval()
        options = {"generator": generator_for(device, 0), "device": device}
        return lambda: timed(lambda: sample(denoiser, process, num, L, steps, **options), device)

    found = rounds({name: job(network) for name, network in networks.items()}, repeats)
    about = {"process": process_name, "classes": 27, "tokens": L, "sequences": num, "steps": steps}
    return ratio("plain over compiled sampling", found, "plain", "compiled", about, device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    cells = [(v, p) for v in VOCABULARIES for p in ("masked", "uniform")]
    records = [overhead(*cell, arguments.repeats, arguments.device) for cell in cells]
    records.append(skipping(arguments.repeats, arguments.device))
    records += [compiled(name, arguments.repeats, arguments.device) for name in ("masked", "uniform")]
    save(__file__, records)


if __name__ == "__main__":
    main()
