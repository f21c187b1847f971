"""What D-MMD's generator descends in one step, by enumeration of tiny worlds.

A student is a mixture of N product distributions, one for each value of its input noise: log p [N, L, V] in
double precision. The auxiliary is at its optimum without the anchor, the exact posterior of the student's own
samples. Every sequence of the world needs a positive probability (`smoothed`).

Masked noise: for a set A of positions let F_A be the divergence KL(p_g(x_A) | p_theta(x_A)) of the student's
and the teacher's distribution of the tokens in A. The gradient of a class at position k, with the others R of
A shown, is log p_g(x_k | x_R) - log p_theta(x_k | x_R) up to a term without the class, and that is D-MMD's
term at a z_s that shows exactly R. So holding z_s constant costs nothing: D-MMD descends the sum of
c_|A| F_A, whose weights c follow from the distribution of s, from w(s) and from L.

Uniform noise: the divergence KL(p_g(z_s) | p_theta(z_s)) of noisy sequences has the gradient alpha_s times
the difference of the logarithms of alpha_s v + (1 - alpha_s) / V, where v is the leave-one-out distribution
of student or teacher; D-MMD's is the difference of the logarithms of their posteriors, another one.
"""

from itertools import combinations
from typing import Literal

import torch
from torch import Tensor

from dmmd_lite.denoisers.base import to_leave_one_out
from dmmd_lite.denoisers.exact import log_posterior
from dmmd_lite.processes.base import Process
from dmmd_lite.processes.masked import Masked
from dmmd_lite.studies.theory.reverse_kernels import all_states, noise_table, times
from dmmd_lite.worlds.enumerable import EnumerableWorld

TINY = 1e-300  # the floor of posteriors, which changes no digit and keeps logarithms finite


def smoothed(world: EnumerableWorld, share: float = 0.1) -> EnumerableWorld:
    """Return a world of all sequences, of which `share` is spread over them evenly."""
    law = (1 - share) * world.law() + share / len(world.law())
    return _world(world, law)


def student_law(log_p: Tensor, world: EnumerableWorld) -> Tensor:
    """Return the distribution of a student over all sequences, [V^L]."""
    return _each(log_p, world.all_sequences()).exp().mean(0)


def subset_weights(
    length: int, s: Literal["bridge", "start"] = "bridge", weight: Literal["one", "bound"] = "one"
) -> Tensor:
    """Return c_m for subsets of m = 1 ... L positions, [L].

    c_m is the integral of p(s) w(s) (1 - s)^(m - 1) s^(L - m + 1), for a student that takes one step from
    t = 1. p(s) = s stands for the "bridge", in which t = 1 has this probability, 1 for "start". w(s) is 1 or,
    for the "bound" of linear masked noise, 1/s.
    """
    m = torch.arange(1, length + 1, dtype=torch.float64)
    power = length - m + 1 + int(s == "bridge") - int(weight == "bound")
    return (torch.lgamma(power + 1) + torch.lgamma(m) - torch.lgamma(power + 1 + m)).exp()


def subset_shares(
    length: int, s: Literal["bridge", "start"] = "bridge", weight: Literal["one", "bound"] = "one"
) -> Tensor:
    """Return the part of all weight that falls on subsets of m = 1 ... L positions, [L]."""
    number = torch.tensor([len(list(combinations(range(length), m))) for m in range(1, length + 1)])
    total = number * subset_weights(length, s, weight)
    return total / total.sum()


def subset_divergences(log_p: Tensor, world: EnumerableWorld, weights: Tensor) -> Tensor:
    """Compute the sum of weights_|A| KL(p_g(x_A) | p_theta(x_A)) over all sets A of positions."""
    shape = [world.vocab_size] * world.length
    student, teacher = (p.view(shape) for p in (student_law(log_p, world), world.law()))
    total = log_p.new_zeros(())
    for m in range(1, world.length + 1):
        for kept in combinations(range(world.length), m):
            rest = [place for place in range(world.length) if place not in kept]
            g, theta = (p.sum(rest) if rest else p for p in (student, teacher))
            total = total + weights[m - 1] * (g * (g / theta).log()).sum()
    return total


def masked_loss(log_p: Tensor, world: EnumerableWorld, weights: Tensor) -> Tensor:
    """Compute D-MMD's generator loss (equation 11) of a one-step student under masked noise.

    It is the expectation over input noise, tokens and z_s, which carry no gradient. weights: those of
    `subset_weights`, whose entry for m is the weight of a z_s that shows m - 1 tokens.
    """
    process = Masked(world.vocab_size)
    x, half = world.all_sequences(), times(0.5, world.all_sequences())
    mixture = _world(world, student_law(log_p.detach(), world))
    probability = _each(log_p.detach(), x).exp() / len(log_p)  # of noise and tokens, [N, V^L]
    total = log_p.new_zeros(())
    for number in range(world.length):
        for known in combinations(range(world.length), number):
            hidden = torch.ones(world.length, dtype=torch.bool)
            hidden[list(known)] = False
            z = torch.where(hidden, process.mask, x)
            phi, theta = (log_posterior(w, z, half, process, TINY) for w in (mixture, world))
            terms = torch.einsum("nlc,xlc->nxl", log_p.exp(), phi - theta)
            total = total + weights[number] * (probability * terms[..., hidden].sum(-1)).sum()
    return total


def noisy_divergence(log_p: Tensor, world: EnumerableWorld, process: Process, s: float) -> Tensor:
    """Compute KL(p_g(z_s) | p_theta(z_s)) of sequences with uniform noise."""
    table = noise_table(world, process, s)
    student, teacher = table @ student_law(log_p, world), table @ world.law()
    return (student * (student / teacher).log()).sum()


def uniform_loss(
    log_p: Tensor, world: EnumerableWorld, process: Process, s: float, form: Literal["exact", "moment"]
) -> Tensor:
    """Compute a generator loss under uniform noise with z_s ~ q(z_s | x) held constant.

    form: "moment" is equation 11, the difference of log-posteriors; "exact" has the gradient of
    `noisy_divergence`.
    """
    z = all_states(process, world.length)
    at, alpha = times(s, z), process.alpha(times(s, z)).unsqueeze(-1)
    mixture = _world(world, student_law(log_p.detach(), world))
    logs = [log_posterior(w, z, at, process, TINY) for w in (mixture, world)]
    factor = torch.ones_like(alpha)
    if form == "exact":
        v = [to_leave_one_out(log_x, z, at, process).exp() for log_x in logs]
        logs, factor = [(alpha * p + (1 - alpha) / world.vocab_size).log() for p in v], alpha
    per_noise = _each(log_p.detach(), world.all_sequences()).exp() @ noise_table(world, process, s).T
    terms = torch.einsum("nlc,zlc->nz", log_p.exp(), factor * (logs[0] - logs[1]))
    return (per_noise * terms).sum() / len(log_p)


def _world(world: EnumerableWorld, law: Tensor) -> EnumerableWorld:
    """Return a world with another distribution of all sequences."""
    return EnumerableWorld(world.name, world.vocab_size, world.all_sequences(), law.tolist(), world.symbols)


def _each(log_p: Tensor, x: Tensor) -> Tensor:
    """Return the log-probability of every sequence x [S, L] under every product distribution, [N, S]."""
    return sum(log_p[:, place, x[:, place]] for place in range(x.shape[1]))
