"""Uniform noise as the argmax of Gaussian noise on one-hot tokens (Duo, arXiv 2506.10892, equation 10).

With signal a in [0, 1], w = a x + sqrt(1 - a^2) epsilon and argmax w ~ Cat(alpha x + (1 - alpha)/V), where
alpha = T(a) (`kept_fraction`). The same epsilon at two times makes a pair of noisy tokens on one path of the
Gaussian probability flow (`coupled`).
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.special import log_ndtr, ndtri

from dmmd_lite.utils.rng import float64_device, integers, uniform


def kept_fraction(signal: Tensor, vocab_size: int) -> Tensor:
    """Compute alpha = T(a) for signals a in [0, 1] of any shape (Duo, equation 10), in float64.

    T(a) = V/(V - 1) [P - 1/V], where P = int phi(u) Phi(u + a/sigma)^(V - 1) du with sigma = sqrt(1 - a^2) is
    the probability that the component of w at the token is the largest. Quadrature at 4096 values of a/sigma,
    linear interpolation between them.
    """
    a = signal.to(float64_device(signal.device)).double()
    ratios, alphas = _table(vocab_size)
    return _interpolate(a / (1 - a**2).clamp(min=1e-300).sqrt(), ratios, alphas)


def signal_of(alpha: Tensor, vocab_size: int) -> Tensor:
    """Compute the signal a = T^-1(alpha), the inverse of `kept_fraction`, in float64."""
    ratios, alphas = _table(vocab_size)
    ratio = _interpolate(alpha.to(float64_device(alpha.device)).double(), alphas, ratios)
    return ratio / (1 + ratio**2).sqrt()


def coupled(x: Tensor, alphas: Sequence[Tensor], vocab_size: int, generator: torch.Generator) -> list[Tensor]:
    """Draw z [B, L] at every kept fraction [B, 1] of tokens x [B, L], all from one epsilon per position.

    Each has the marginal of the uniform process. A token that is kept at one alpha is kept at larger ones.
    """
    u, v = uniform((2, *x.shape), generator)
    at_x, largest = ndtri(u), ndtri(v ** (1 / (vocab_size - 1)))  # epsilon at x; maximum of the V - 1 others
    shift = 1 + integers(vocab_size - 1, x.shape, generator)  # the maximum is at any class but x
    other, found = (x + shift.to(x.device)) % vocab_size, []
    for alpha in alphas:
        a = signal_of(alpha, vocab_size).to(u.device)
        sigma = (1 - a**2).sqrt()
        kept = a + sigma * at_x > sigma * largest
        found.append(torch.where(kept.to(x.device), x, other))
    return found


@lru_cache
def _table(vocab_size: int) -> tuple[Tensor, Tensor]:
    """Tabulate a/sigma and T, both increasing, up to where T is 1 to nine digits."""
    ratio = torch.linspace(0, 12, 4096, dtype=torch.float64)
    u = torch.linspace(-9, 9, 601, dtype=torch.float64)
    weight = torch.exp(-(u**2) / 2)
    log_power = (vocab_size - 1) * log_ndtr(u + ratio.unsqueeze(-1))
    p = (log_power.exp() * weight).sum(-1) / weight.sum()  # the trapezoidal rule: exact to rounding here
    alpha = (vocab_size * p - 1) / (vocab_size - 1)
    alpha[0] = 0
    used = alpha < 1 - 1e-9
    return ratio[used], alpha[used]


def _interpolate(x: Tensor, xs: Tensor, ys: Tensor) -> Tensor:
    """Evaluate the piecewise linear function through (xs, ys) at x; it is constant beyond the ends."""
    xs, ys = xs.to(x.device), ys.to(x.device)
    i = torch.searchsorted(xs, x.contiguous()).clamp(1, len(xs) - 1)
    weight = ((x - xs[i - 1]) / (xs[i] - xs[i - 1])).clamp(0, 1)
    return ys[i - 1] + weight * (ys[i] - ys[i - 1])
