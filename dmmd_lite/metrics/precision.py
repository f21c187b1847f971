"""What drawing categories from single-precision uniforms does to small probabilities (arXiv 2409.02908).

A common sampler takes the class with the largest p_c / (-log U_c), a fresh uniform for every class. In
float32 U_c is a multiple of 2^-24, so -log U_c is never below 2^-24, and a class of probability q comes out
with a / (e^a - 1) of it, a = 2^-24 / q. A masked model that draws "stay masked" together with its tokens has
q = p_c (alpha_s - alpha_t) / (1 - alpha_t): the more steps, the smaller.
"""

import torch
from torch import Tensor

from dmmd_lite.rng import uniform

BITS = 24  # of a float32 uniform


def kept_share(q: Tensor, bits: int = BITS) -> Tensor:
    """The share of its probability q (above 0) with which a class is drawn, any shape, float64."""
    a = 2.0**-bits / q.double()
    return torch.where(a > 0, a / torch.expm1(a), 1)


def drawn_law(p: Tensor, revealed: float, bits: int = BITS) -> Tensor:
    """The law of tokens [..., V] that this sampler draws for p [..., V] where a position is revealed with
    probability `revealed`, given that it is."""
    biased = p.double() * kept_share(p * revealed, bits)
    return biased / biased.sum(-1, keepdim=True)


def ratio_sampler(p: Tensor, num: int, generator: torch.Generator, bits: int | None = None) -> Tensor:
    """`num` classes from probabilities p [V] by that sampler, int64 [num], with uniforms in the precision of
    p, or cut to `bits` bits."""
    if bits is None:
        u = torch.rand((num, len(p)), generator=generator, dtype=p.dtype)
    else:
        u = (uniform((num, len(p)), generator) * 2**bits).floor() / 2**bits
    return (p / (1e-10 - (u + 1e-10).log())).argmax(-1)
