"""Is this package as fast as the public ones, at equal networks and equal work?

Compared with `flow_matching` (Meta, discrete flow matching: masked and uniform) and `bionemo-moco` (NVIDIA,
MDLM: masked), both from the package index (`make bench` installs them): a teacher's training step, and 16
and 256 sampling steps. The same `Transformer`, batch and optimiser everywhere; around them everybody's own
noise, loss and sampler. The floor is the network itself (see `loop.py`), so differences are what is done
around it: passes over [B, L, V], classes drawn where nothing changes, evaluations that reveal nothing. The
requirement: slower nowhere.

    python benchmarks/peers.py [--repeats 5]

leaves a record a row: the time of the other package over ours.

Found on one of two x86_64 cores, the other idle, torch 2.13.0: training steps 0.98, 0.99 and 1.00, each
interval holding 1, since all of them are the network's time (our loop also looks whether every loss is
finite); 16 sampling steps 1.05 to 1.10; 256 steps 1.4 uniform and 4.8 to 5.0 masked, where what reveals
nothing is not evaluated.
"""

import argparse

import torch
from bionemo.moco.distributions.prior.discrete.mask import DiscreteMaskedPrior
from bionemo.moco.distributions.time.uniform import UniformTimeDistribution
from bionemo.moco.interpolants.continuous_time.discrete.mdlm import MDLM
from bionemo.moco.schedules.noise.continuous_noise_transforms import LogLinearExpNoiseTransform
from common import loop_seconds, ratio, rounds, save, timed
from flow_matching.loss import MixturePathGeneralizedKL
from flow_matching.path import MixtureDiscreteProbPath
from flow_matching.path.scheduler import PolynomialConvexScheduler
from flow_matching.solver import MixtureDiscreteEulerSolver
from flow_matching.utils import ModelWrapper

from dmmd_lite import (
    DenoisingObjective,
    NetworkDenoiser,
    TrainingOptions,
    Transformer,
    generator_for,
    get_process,
    sample,
)
from dmmd_lite.utils.rng import integers

V, L, BATCH, NUM, STEPS = 27, 64, 64, 32, 12
SIZE = {"width": 128, "depth": 3, "heads": 4}


def network(num_symbols: int, classes: int) -> Transformer:
    torch.manual_seed(0)
    return Transformer(num_symbols, classes, L, **SIZE)


def trained(net: Transformer, loss) -> float:
    """Mean seconds of a step of a plain loop: loss(batch), clipping, AdamW, average."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4, foreach=True)
    average = [p.detach().clone() for p in net.parameters()]

    def step() -> None:
        optimizer.zero_grad()
        loss(torch.randint(V, (BATCH, L))).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        torch._foreach_lerp_(average, [p.detach() for p in net.parameters()], 0.001)

    step()
    return timed(lambda: [step() for _ in range(STEPS)]) / STEPS


class Ours:
    name = "dmmd_lite"

    def __init__(self, process_name: str):
        self.process = get_process(process_name, V)
        self.net = network(self.process.num_symbols, V)
        self.denoiser = NetworkDenoiser(self.net, self.process)

    def train(self) -> float:
        options = TrainingOptions(STEPS + 2, BATCH, {"denoiser": 1e-4}, ema={"denoiser": 0.999})
        method = DenoisingObjective(self.denoiser, self.process)
        return loop_seconds(method, lambda n, g: integers(V, (n, L), g), options, warm=1)

    def sample(self, steps: int) -> None:
        sample(self.denoiser, self.process, NUM, L, steps, generator=generator_for("cpu", 0))


class FlowMatching:
    name = "flow_matching"

    def __init__(self, process_name: str):
        self.masked = process_name == "masked"
        self.classes = V + self.masked  # the mask is one of its classes
        self.net = network(self.classes, self.classes)
        self.path = MixtureDiscreteProbPath(scheduler=PolynomialConvexScheduler(n=1.0))

    def prior(self, shape):
        return torch.full(shape, V) if self.masked else torch.randint(V, shape)

    def train(self) -> float:
        objective = MixturePathGeneralizedKL(self.path)

        def loss(x):
            t = torch.rand(len(x)) * (1 - 1e-3)
            z = self.path.sample(t=t, x_0=self.prior(x.shape), x_1=x).x_t
            return objective(logits=self.net(z, t), x_1=x, x_t=z, t=t)

        return trained(self.net, loss)

    def sample(self, steps: int) -> None:
        class Probabilities(ModelWrapper):
            def forward(self, x, t, **extras):
                return torch.softmax(self.model(x, t), -1)

        solver = MixtureDiscreteEulerSolver(Probabilities(self.net), self.path, self.classes)
        with torch.no_grad():
            solver.sample(self.prior((NUM, L)), step_size=1 / steps)


class Moco:
    name = "bionemo-moco"

    def __init__(self, process_name: str):
        self.net = network(V + 1, V + 1)
        self.mdlm = MDLM(
            UniformTimeDistribution(), DiscreteMaskedPrior(V, inclusive=False), LogLinearExpNoiseTransform()
        )

    def train(self) -> float:
        def loss(x):
            t = self.mdlm.sample_time(len(x))
            z = self.mdlm.interpolate(x, t)
            return self.mdlm.loss(self.net(z, t), x, z, t).mean()

        return trained(self.net, loss)

    @torch.no_grad()
    def sample(self, steps: int) -> None:
        z, dt = torch.full((NUM, L), V), torch.full((NUM,), 1 / steps)
        for k in range(steps, 0, -1):
            t = torch.full((NUM,), k / steps)
            z = self.mdlm.step(self.net(z, t), t, z, dt)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats, records = parser.parse_args().repeats, []
    for process_name, others in (("masked", (FlowMatching, Moco)), ("uniform", (FlowMatching,))):
        packages = [kind(process_name) for kind in (Ours, *others)]
        rows = {"training step": {p.name: p.train for p in packages}}
        for steps in (16, 256):
            rows[f"{steps} sampling steps"] = {
                p.name: (lambda p=p, steps=steps: timed(lambda: p.sample(steps))) for p in packages
            }
        for row, jobs in rows.items():
            found = rounds(jobs, repeats)
            about = {"row": row, "process": process_name, "classes": V, "tokens": L, **SIZE}
            records += [ratio(f"{p.name} over ours", found, p.name, Ours.name, about) for p in packages[1:]]
    save(__file__, records)


if __name__ == "__main__":
    main()
