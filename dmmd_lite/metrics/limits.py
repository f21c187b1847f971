"""What mixtures of product laws can do at best: the limits of few-step samplers, by direct optimisation."""

import torch
from torch import Tensor

from dmmd_lite.worlds.enumerable import EnumerableWorld


def best_mixture(
    world: EnumerableWorld, components: int, restarts: int = 64, steps: int = 600, seed: int = 0
) -> tuple[float, Tensor]:
    """Least total variation that an equal mixture of `components` product laws can have from the world's law.

    One component is all that one masked step without noise can emit; V^L components are the starting states
    of one step under uniform noise. Adam on the logits from random starts with a decaying rate; returns the
    distance and the law [V^L], in the order of `world.all_sequences`.
    """
    generator = torch.Generator().manual_seed(seed)
    truth, sequences = world.law(), world.all_sequences()
    shape = (restarts, components, world.length, world.vocab_size)
    logits = (2 * torch.randn(shape, generator=generator, dtype=torch.float64)).requires_grad_()

    def laws() -> Tensor:
        log_p = logits.log_softmax(-1)
        joint = sum(log_p[:, :, position, sequences[:, position]] for position in range(world.length))
        return joint.exp().mean(1)  # [restarts, V^L]

    optimizer = torch.optim.Adam([logits], lr=0.2)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (1 - step / steps) ** 2)
    for _ in range(steps):
        optimizer.zero_grad()
        (laws() - truth).abs().sum().backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        distances, found = (laws() - truth).abs().sum(-1) / 2, laws()
    best = int(distances.argmin())
    return float(distances[best]), found[best]
