"""How much faster is a D-MMD step here than Algorithm 1 written down line by line?

In units of a network's forward pass (a backward pass is two), a generator step of the published algorithm
takes 3 + 1 + 1 and an auxiliary step 1 + 1 + 3, each with a draw of its own: 10 for the pair. One draw for
both players takes 7, so 1.43 is what counting promises; fewer passes over [B, L, V] and over the
parameters come on top. With 50,257 classes heads are most of the work. Tensors of all classes are never made
whole, so the generator's head is asked again after its draw, 8 units of heads; but each is asked only where
something is noise, and gradients are taken with the losses, so none is asked a third time. The requirement:
1.3 times as fast, 1.6 times with 50,257 classes and half the memory.

    python benchmarks/algorithm1.py [--repeats 5]

leaves a record a setting and noise: the time of the literal pair over that of a step of `training.train`,
and for many classes the same of peak memory, each in a process of its own, at four times the batch: at the
one that is timed, half of it is weights, their averages and moments, which both need alike. The literal
version below is plain PyTorch: alternating players, full heads, three log-softmaxes, one tensor at a time in
optimisers and average, the same `Transformer`, batch and number of updates.

Found on one of two x86_64 cores, the other idle, torch 2.13.0: 1.46 to 1.50 with few classes and small
networks, 1.39 to 1.41 with 3.2 million parameters, close to what counting promises; with 50,257 classes 3.8
masked and 2.8 uniform (beside a busy core, where memory is what both wait for, up to 7.4 and 4.0 were seen,
in chunks twice as large). Memory: 0.37 masked, 0.44 uniform.
"""

import argparse
import copy
import json
import subprocess
import sys
from functools import partial

import torch
from common import loop_seconds, peak_bytes, ratio, rounds, save, timed
from torch.nn.functional import log_softmax

from dmmd_lite import DMMD, DMMDSettings, NetworkDenoiser, Record, TrainingOptions, Transformer, get_process
from dmmd_lite.utils.provenance import machine
from dmmd_lite.utils.rng import integers

K, LARGER = 16, 4  # sampling steps of the student; times the batch that memory is measured at
SETTINGS = {  # classes, tokens, batch, width, depth; pairs timed at once
    "digits": (17, 64, 64, 96, 3, 6),
    "docstrings": (27, 128, 32, 128, 3, 4),
    "larger": (27, 128, 16, 256, 6, 2),
    "many classes": (50_257, 128, 4, 128, 3, 1),
}


class Literal:
    """Algorithm 1 for masked or uniform noise with the linear schedule alpha = 1 - t."""

    def __init__(self, networks, vocab_size: int, masked: bool):
        self.generator, self.auxiliary, self.teacher = networks
        self.average = copy.deepcopy(self.generator).requires_grad_(False)
        self.optimizers = [
            torch.optim.AdamW(net.parameters(), lr=1e-4, betas=(0.0, 0.99), weight_decay=0.0, foreach=False)
            for net in (self.generator, self.auxiliary)
        ]
        self.vocab_size, self.masked = vocab_size, masked

    def law(self, network, z, t):
        log_x = log_softmax(network(z, t), -1)
        if self.masked:  # what is known stays
            known = torch.full_like(log_x, -1e9).scatter(-1, z.clamp(max=self.vocab_size - 1)[..., None], 0.0)
            log_x = torch.where((z == self.vocab_size)[..., None], log_x, known)
        return log_x

    def draw(self, x):
        """Lines 1 to 5: s, log x_eta(z_t), tokens, z_s."""
        s = torch.rand(len(x))
        t = (s + torch.rand(len(x)) / K).clamp(max=1)
        z_t = torch.where(torch.rand(x.shape) < (1 - t)[:, None], x, self.noise(x))
        log_x = self.law(self.generator, z_t, t)
        p = log_x.detach().exp()
        tokens = torch.multinomial(p.flatten(0, 1), 1).view_as(x)
        return s, log_x, tokens, self.back(z_t, tokens, s, t)

    def noise(self, x):
        return torch.full_like(x, self.vocab_size) if self.masked else torch.randint_like(x, self.vocab_size)

    def back(self, z_t, tokens, s, t):
        """z_s ~ q(z_s | z_t, tokens), equation 4."""
        alpha_s, alpha_t = (1 - s)[:, None], (1 - t)[:, None]
        if self.masked:
            revealed = torch.rand(z_t.shape) < (alpha_s - alpha_t) / (1 - alpha_t)
            return torch.where((z_t == self.vocab_size) & revealed, tokens, z_t)
        step, V = (alpha_t / alpha_s)[..., None], self.vocab_size
        at_t, at_x = (torch.zeros(*v.shape, V).scatter_(-1, v[..., None], 1.0) for v in (z_t, tokens))
        p = (step * at_t + (1 - step) / V) * (alpha_s[..., None] * at_x + (1 - alpha_s[..., None]) / V)
        return torch.multinomial(p.flatten(0, 1), 1).view_as(z_t)

    def scored(self, z):
        return (z == self.vocab_size) if self.masked else torch.ones_like(z, dtype=torch.bool)

    def generator_step(self, x):
        s, log_x, _, z_s = self.draw(x)
        with torch.no_grad():
            log_teacher, log_auxiliary = self.law(self.teacher, z_s, s), self.law(self.auxiliary, z_s, s)
        moment = (log_x.exp() * (log_auxiliary - log_teacher)).sum(-1)  # (11)
        self.update(0, torch.where(self.loss_mask(z_s), moment, 0).sum(-1).mean() / x.shape[1])
        with torch.no_grad():
            for slow, fast in zip(self.average.parameters(), self.generator.parameters(), strict=True):
                slow.mul_(0.999).add_(fast, alpha=0.001)

    def auxiliary_step(self, x):
        with torch.no_grad():
            s, _, tokens, z_s = self.draw(x)
            log_teacher = self.law(self.teacher, z_s, s)
        log_auxiliary = self.law(self.auxiliary, z_s, s)
        student = -log_auxiliary.gather(-1, tokens[..., None]).squeeze(-1)
        anchor = -(log_teacher.exp() * log_auxiliary).sum(-1)
        self.update(
            1, torch.where(self.loss_mask(z_s), student + anchor, 0).sum(-1).mean() / x.shape[1]
        )  # (12)

    def update(self, which, loss):
        optimizer, network = self.optimizers[which], (self.generator, self.auxiliary)[which]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0, foreach=False)
        optimizer.step()


def players(setting: str, process):
    V, L, _, width, depth, _ = SETTINGS[setting]
    sizes = {"width": width, "depth": depth, "heads": max(4, width // 64)}
    return [Transformer(process.num_symbols, V, L, **sizes) for _ in range(3)]


def literal(setting: str, process_name: str, times: int = 1) -> float:
    """Seconds of a pair of steps, of so many times the batch."""
    V, L, batch, *_, pairs = SETTINGS[setting]
    batch *= times
    process = get_process(process_name, V)
    *ours, teacher = players(setting, process)
    method = Literal([*ours, teacher.requires_grad_(False)], V, process.absorbing)

    def steps() -> None:
        for _ in range(pairs):
            method.generator_step(torch.randint(V, (batch, L)))
            method.auxiliary_step(torch.randint(V, (batch, L)))

    method.auxiliary_step(torch.randint(V, (batch, L)))  # optimisers make their tensors
    method.generator_step(torch.randint(V, (batch, L)))
    return timed(steps) / pairs


def fused(setting: str, process_name: str, times: int = 1) -> float:
    """Seconds of a loop step, which updates both players, of so many times the batch."""
    V, L, batch, *_, pairs = SETTINGS[setting]
    batch *= times
    process = get_process(process_name, V)
    generator, auxiliary, teacher = (NetworkDenoiser(net, process) for net in players(setting, process))
    method = DMMD(
        generator, auxiliary, teacher.requires_grad_(False), process, DMMDSettings(K, updates="fused")
    )
    rates = {"generator": 1e-4, "auxiliary": 1e-4}
    options = TrainingOptions(pairs + 2, batch, rates, betas=(0.0, 0.99), ema={"generator": 0.999})
    return loop_seconds(method, lambda n, g: integers(V, (n, L), g), options, warm=1)


def peak(version: str, setting: str, process_name: str) -> float:
    """Peak memory in MB above what the process held before, in a process of its own."""
    one = [sys.executable, __file__, "--peak", version, setting, process_name]
    return json.loads(subprocess.run(one, check=True, stdout=subprocess.PIPE, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peak", nargs=3, metavar=("VERSION", "SETTING", "NOISE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    versions = {"literal": literal, "fused": fused}
    if arguments.peak:
        version, setting, process_name = arguments.peak
        before = peak_bytes()
        versions[version](setting, process_name, LARGER)
        print((peak_bytes() - before) / 1e6)
        return
    records = []
    for setting, (V, L, batch, width, depth, _) in SETTINGS.items():
        about = {"classes": V, "tokens": L, "batch": batch, "width": width, "depth": depth}
        for process_name in ("masked", "uniform"):
            about = {"setting": setting, "process": process_name, **about}
            jobs = {name: partial(run, setting, process_name) for name, run in versions.items()}
            found = rounds(jobs, arguments.repeats)
            records.append(ratio("Algorithm 1 over fused step", found, "literal", "fused", about))
            if V > 1000:
                megabytes = {name: peak(name, setting, process_name) for name in versions}
                quotient = megabytes["fused"] / megabytes["literal"]
                details, made = {**about, "megabytes": megabytes}, {"measured": machine("cpu")}
                details["batch"] *= LARGER
                records.append(
                    Record("memory of a fused step over Algorithm 1", quotient, None, None, 1, "literal",
                           details, provenance=made)
                )  # fmt: skip
    save(__file__, records)


if __name__ == "__main__":
    main()
