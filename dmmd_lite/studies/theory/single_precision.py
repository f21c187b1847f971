"""The bias of categories drawn with single-precision uniforms at small probabilities (arXiv 2409.02908).

A common sampler takes the class with the largest p_c / (-log U_c), a fresh uniform for every class. In
float32 U_c is a multiple of 2^-24, so -log U_c is never below 2^-24, and a class of probability q comes out
with a / (e^a - 1) of it, a = 2^-24 / q. A masked model that draws "stay masked" together with its tokens has
q = p_c (alpha_s - alpha_t) / (1 - alpha_t): the more steps, the smaller.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

from dmmd_lite.denoisers.base import Denoiser
from dmmd_lite.processes.base import Process
from dmmd_lite.processes.schedules import time_grid
from dmmd_lite.utils.rng import uniform

BITS = 24  # random bits of a float32 uniform


def kept_share(q: Tensor, bits: int = BITS) -> Tensor:
    """Return the share of its probability q > 0 with which a class is drawn, in the shape of q, float64."""
    a = 2.0**-bits / q.double()
    return torch.where(a > 0, a / torch.expm1(a), 1)


def drawn_law(p: Tensor, revealed: float, bits: int = BITS) -> Tensor:
    """Return the law [..., V] of tokens that this sampler draws for p [..., V] where it reveals a position.

    Args:
    revealed: probability that the position is revealed.
    """
    biased = p.double() * kept_share(p * revealed, bits)
    return biased / biased.sum(-1, keepdim=True)


def ratio_sampler(p: Tensor, generator: torch.Generator, bits: int | None = None) -> Tensor:
    """Draw a class for each row of probabilities p [N, V] with this sampler, int64 [N].

    Args:
    bits: bits of the uniforms; None: uniforms in the precision of p.
    """
    if bits is None:
        u = torch.rand(p.shape, generator=generator, dtype=p.dtype)
    else:
        u = (uniform(p.shape, generator) * 2**bits).floor() / 2**bits
    return (p / (1e-10 - (u + 1e-10).log())).argmax(-1)


@torch.no_grad()
def common_samples(
    denoiser: Denoiser,
    process: Process,
    num: int,
    length: int,
    steps: int,
    generator: torch.Generator,
    bits: int | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Sample a masked model in the common way: every step draws "stay masked" together with the tokens.

    Returns the tokens [num, length] and, for every token in the order drawn, its surprise -log p(x) less the
    entropy of p, and the surprise that `drawn_law` predicts, both [num * length], nats. A sampler without
    bias has mean surprise 0.

    Args:
    bits: bits of the uniforms; None: float32 uniforms.
    """
    z, grid = process.prior((num, length), generator), time_grid(steps)
    surprise, expected = [], []
    for t, s in zip(grid[:-1], grid[1:], strict=True):
        alpha_t, alpha_s = process.schedule.alpha(t), process.schedule.alpha(s)
        revealed, hidden = float((alpha_s - alpha_t) / (1 - alpha_t)), process.loss_mask(z)
        p = denoiser(z, t.float().expand(num)).exp()[hidden]
        drawn = ratio_sampler(pad(revealed * p, (0, 1), value=1 - revealed), generator, bits)
        z[hidden] = drawn  # class V is MASK
        p, x = p[drawn < process.vocab_size], drawn[drawn < process.vocab_size]
        log_p = p.double().clamp_min(1e-30).log()
        entropy = -(p * log_p).sum(-1)
        surprise.append(-log_p.gather(-1, x[:, None])[:, 0] - entropy)
        expected.append(-(drawn_law(p, revealed, bits or BITS) * log_p).sum(-1) - entropy)
    return z, torch.cat(surprise), torch.cat(expected)
