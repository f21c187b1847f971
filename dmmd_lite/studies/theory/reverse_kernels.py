"""Reverse kernels of enumerable worlds as tables: what a step does to every noisy state, exactly.

S counts the states, all sequences of L symbols (MASK included under masked noise). Everything is float64.
"""

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from dmmd_lite.processes.base import Process
from dmmd_lite.worlds.enumerable import EnumerableWorld


def all_states(process: Process, length: int) -> Tensor:
    """Return every z, [S, L], in lexicographic order."""
    return torch.cartesian_prod(*[torch.arange(process.num_symbols)] * length).view(-1, length)


def times(t: float, states: Tensor) -> Tensor:
    """Return the time t for every state, float64 [S]."""
    return torch.full((len(states),), t, dtype=torch.float64)


def noisy_law(world: EnumerableWorld, process: Process, t: float) -> Tensor:
    """Return q(z_t) of every state, [S]: the world's outcomes with noise."""
    return _noisy(world, process, t).sum(1)


def noise_table(world: EnumerableWorld, process: Process, t: float) -> Tensor:
    """Return q(z_t | x) for every state and outcome, [S, N]."""
    z = all_states(process, world.length)
    likelihood = process.likelihood(z, times(t, z))  # [S, L, V]
    per_token = one_hot(world.outcomes, world.vocab_size).double()  # [N, L, V]
    return torch.einsum("slv,nlv->snl", likelihood, per_token).prod(-1)


def _noisy(world: EnumerableWorld, process: Process, t: float) -> Tensor:
    """Return p(x) q(z_t | x) for every state and outcome, [S, N]."""
    return world.probs * noise_table(world, process, t)


def true_kernel(world: EnumerableWorld, process: Process, s: float, t: float) -> Tensor:
    """Return q(z_s | z_t) of the world, [S, S] with rows z_t: a mixture of product kernels over outcomes.

    Rows of states that never occur are 0.
    """
    z, V = all_states(process, world.length), world.vocab_size
    joint = _noisy(world, process, t)
    outcome = joint / joint.sum(1, keepdim=True).clamp(min=1e-300)  # p(x | z_t)
    tokens = [one_hot(x, V).double().expand(len(z), -1, -1) for x in world.outcomes]
    given_x = torch.stack([product_kernel(x, process, s, t) for x in tokens])  # [N, S, S]
    return torch.einsum("tn,nts->ts", outcome, given_x)


def product_kernel(x: Tensor, process: Process, s: float, t: float) -> Tensor:
    """Return p(z_s | z_t), [S, S] with rows z_t, of a sampler with independent tokens from x [S, L, V]."""
    return _onward(x, process, s, t).sum(-1).prod(-1)


def _onward(x: Tensor, process: Process, s: float, t: float) -> Tensor:
    """Return x_c q(z_s | z_t, c) at every position, [S (z_t), S (z_s), L, V]."""
    z = all_states(process, x.shape[1])
    at_s, at_t = times(s, z), times(t, z)
    tokens = [torch.full_like(z, c) for c in range(process.vocab_size)]
    table = torch.stack([process.posterior(z, token, at_s, at_t) for token in tokens], -2)
    onward = table[:, torch.arange(z.shape[1]), :, z]  # of every z_s: [S (z_s), L, S (z_t), V]
    return onward.permute(2, 0, 1, 3) * x[:, None]


def implied_posterior(
    x: Tensor, weight: Tensor, process: Process, s: float, t: float
) -> tuple[Tensor, Tensor]:
    """Return p(z_s) [S] and E_g[x | z_s] [S, L, V] of a generator, uniform where p(z_s) is 0.

    Tokens are drawn from x, then z_s ~ q(z_s | z_t, tokens).

    Args:
    x: the generator's output at every z_t, [S, L, V].
    weight: probabilities of z_t, [S].
    """
    onward = _onward(x, process, s, t)
    position = onward.sum(-1)  # [S, S, L]
    places = range(position.shape[-1])
    rest = [position[..., [m for m in places if m != here]].prod(-1) for here in places]
    joint = torch.einsum("t,tslv,tsl->slv", weight, onward, torch.stack(rest, -1))
    p = joint.sum(-1)[:, 0]
    known = (p > 0)[:, None, None]
    return p, torch.where(known, joint / p.clamp(min=1e-300)[:, None, None], 1 / x.shape[-1])


def distance(kernel: Tensor, other: Tensor, weight: Tensor) -> float:
    """Return the total variation between two kernels [S, S], averaged over rows by `weight` [S]."""
    return float(weight @ (kernel - other).abs().sum(1) / 2)
