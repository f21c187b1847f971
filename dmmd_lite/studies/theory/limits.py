"""Limits of few-step samplers by direct optimisation: the best mixture of product laws, where SDTT ends."""

import torch
from torch import Tensor

from dmmd_lite.denoisers.exact import log_posterior
from dmmd_lite.objectives.terms import clamped, divergence_between
from dmmd_lite.processes.masked import Masked
from dmmd_lite.utils.checks import check_whole
from dmmd_lite.worlds.enumerable import EnumerableWorld


def best_mixture(
    world: EnumerableWorld, components: int, restarts: int = 64, steps: int = 600, seed: int = 0
) -> tuple[float, Tensor]:
    """Compute the minimum total variation of an equal mixture of product laws from the world's law.

    One component is all that one masked step without noise can emit; V^L components are the starting states
    of one step under uniform noise; a student with M values of lambda emits M from one start. Adam on the
    logits from random starts with a decaying rate gives an upper limit, less than 1e-3 above the minimum
    where that is known. Returns the distance and the law [V^L], in the order of `world.all_sequences`.

    Args:
    components: number of product laws.
    restarts: number of random starts.
    steps: updates of Adam.
    """
    check_whole("components", components)
    generator = torch.Generator().manual_seed(seed)
    shape = (restarts, components, world.length, world.vocab_size)
    logits = (2 * torch.randn(shape, generator=generator, dtype=torch.float64)).requires_grad_()

    def laws(logits: Tensor, sequences: Tensor) -> Tensor:
        """Return probabilities of sequences [N, L] under mixtures [..., M, L, V], [..., N]."""
        log_p = logits.log_softmax(-1)
        joint = sum(log_p[..., position, x] for position, x in enumerate(sequences.T))
        return joint.exp().mean(-2)

    def distances() -> Tensor:
        """Return what the mixtures lack of the world's outcomes, the total variation, [restarts]."""
        return (world.probs - laws(logits, world.outcomes)).clamp(min=0).sum(-1)

    optimizer = torch.optim.Adam([logits], lr=0.2)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (1 - step / steps) ** 2)
    for _ in range(steps):
        optimizer.zero_grad()
        distances().sum().backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        found = distances()
        best = int(found.argmin())
        return float(found[best]), laws(logits[best], world.all_sequences())


def one_step_sdtt(world: EnumerableWorld, clamp: float, divergence: str = "reverse_kl") -> Tensor:
    """Compute the product law [L, V] at the minimum of SDTT's loss for one-step students.

    It is found by direct minimisation for one round from exact posteriors: z_1 is all MASK, the first
    sub-step reveals every position independently with probability 1/2, and every z after it is enumerated.
    Targets are cut below `clamp` (see `objectives.sdtt`). For the coins of P(HH) = 0.6 reverse KL puts 0.66,
    0.73, 0.81, 0.93 on H with a clamp of 1e-3, 1e-6, 1e-10, 1e-20; forward KL puts 0.6, the data's marginal,
    at any clamp.
    """
    process = Masked(world.vocab_size)
    z = torch.cartesian_prod(*[torch.arange(process.num_symbols)] * world.length).view(-1, world.length)
    masked = process.loss_mask(z)
    times = torch.tensor([1, 0.5], dtype=torch.float64)
    log_first = log_posterior(world, torch.full_like(z, process.mask), times[:1].expand(len(z)), process, 0)
    log_second = log_posterior(world, z, times[1:].expand(len(z)), process, 0)
    token = z.clamp(max=world.vocab_size - 1).unsqueeze(-1)
    drawn = log_first.exp().gather(-1, token).squeeze(-1)
    p_z = (torch.where(masked, 1, drawn) / 2).prod(-1)
    log_target = clamped(torch.where(masked.unsqueeze(-1), log_second, log_first), clamp)
    logits = torch.zeros(world.length, world.vocab_size, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [logits], max_iter=500, tolerance_grad=1e-10, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        log_x = logits.log_softmax(-1).expand_as(log_target)
        value = p_z @ divergence_between(divergence, log_x, log_target).sum(-1)
        value.backward()
        return value

    optimizer.step(loss)
    return logits.detach().softmax(-1)
