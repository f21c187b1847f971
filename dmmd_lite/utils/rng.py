"""Random numbers without single-precision bias.

A categorical draw in float32 (Gumbel noise or `torch.multinomial`) distorts classes whose probability is
near 2^-24, which lowers the effective temperature of many-step samplers (arXiv 2409.02908). Every draw here
is made in float64, on the device of the generator. `float64_device` sends float64 work for Apple's MPS,
which has no float64, to the CPU; nothing else depends on the device.
"""

from typing import Annotated

import torch
from torch import Tensor

from dmmd_lite.utils.checks import Between, checked
from dmmd_lite.utils.tensors import Device

TWO_STAGE_CLASSES = 4096  # beyond this number of classes `pick` searches in two stages
RUN_LENGTH = 256  # classes per run of the first stage
CACHE_ROWS = 8  # rows of that many classes that stay in a CPU's cache over several passes


def float64_device(device: torch.device | str) -> torch.device:
    """Return where float64 work for `device` is done: there, or on the CPU for MPS."""
    device = torch.device(device)
    return torch.device("cpu") if device.type == "mps" else device


@checked
def generator_for(device: Device, seed: Annotated[int, Between(0, 2**63 - 1)]) -> torch.Generator:
    """Make a seeded generator for random numbers that are used on `device`."""
    return torch.Generator(float64_device(device)).manual_seed(seed)


def uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draw from U[0, 1) in float64 on the generator's device."""
    return torch.rand(shape, generator=generator, device=generator.device, dtype=torch.float64)


def normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draw standard normal numbers in float32 on the generator's device."""
    return torch.randn(shape, generator=generator, device=generator.device)


def categorical(log_p: Tensor, generator: torch.Generator) -> Tensor:
    """Draw a class per row of log-probabilities [..., V] (need not be normalised), int64 [...].

    A row that is no distribution, as for `pick`, gives class 0: losses of it are NaN and end a training.
    """
    return pick(log_p, uniform(log_p.shape[:-1], generator)).clamp(min=0)


def pick(log_p: Tensor, u: Tensor) -> Tensor:
    """Return the class of each row of log-probabilities [..., V] at float64 u [...] in [0, 1), int64 [...].

    This inverts the distribution function in float64: class c is drawn exactly when cdf[c-1] <= u < cdf[c],
    so a class of probability zero is never drawn. log_p need not be normalised. A row that is no distribution
    (a NaN or +inf in it, or -inf everywhere) gives -1. More than `TWO_STAGE_CLASSES` classes are searched in
    two stages, first for a run of `RUN_LENGTH` classes and then for a class of it in float64; only the share
    of a run has the precision of log_p, which favours none of its classes.
    """
    last, shape = log_p.shape[-1] - 1, u.shape
    here = log_p.detach().to(u.device)
    if last < TWO_STAGE_CLASSES:
        here = here.double()
        return _invert((here - here.amax(-1, keepdim=True)).exp_(), u).to(log_p.device)
    rows = CACHE_ROWS if here.device.type == "cpu" else max(1, u.numel())
    here, u = here.reshape(-1, last + 1), u.reshape(-1)
    sums = torch.cat([_sums_of_runs(part) for part in here.split(rows)]).double()
    found = _invert(sums, u)
    run = found.clamp(min=0).unsqueeze(-1)
    below, share = (v.gather(-1, run).squeeze(-1) for v in (sums.cumsum(-1) - sums, sums))
    within = ((u * sums.sum(-1) - below) / share).clamp(0, 1 - 2**-53)
    classes = run * RUN_LENGTH + torch.arange(RUN_LENGTH, device=u.device)
    of_run = here.gather(-1, classes.clamp(max=last)).double()
    weights = torch.where(classes <= last, (of_run - of_run.amax(-1, keepdim=True)).exp(), 0)
    token = (run.squeeze(-1) * RUN_LENGTH + _invert(weights, within)).clamp(max=last)
    return token.masked_fill(found < 0, -1).view(shape).to(log_p.device)


def _sums_of_runs(log_p: Tensor) -> Tensor:
    """Compute the sums of exp(log_p [n, V]) over each run, scaled by one constant per row, [n, runs].

    On a CPU the pass over the classes for their maximum is skipped if the exponentials stay in the range of
    float32 without it.
    """
    if log_p.device.type != "cpu":
        return _add_runs(log_p.softmax(-1))
    sums = _add_runs(log_p.exp())
    total = sums.sum(-1)
    return sums if ((total > 1e-20) & (total < 1e30)).all() else _add_runs(log_p.softmax(-1))


def _add_runs(p: Tensor) -> Tensor:
    """Sum p [n, V] over each run, the last of which may be shorter, [n, runs]."""
    whole = p.shape[-1] // RUN_LENGTH * RUN_LENGTH
    parts = p[..., :whole].unflatten(-1, (-1, RUN_LENGTH)).sum(-1), p[..., whole:].sum(-1, keepdim=True)
    return torch.cat(parts, -1)


def _invert(p: Tensor, u: Tensor) -> Tensor:
    """Return the first class of each row of weights p [..., V] whose cumulated share exceeds u [...], and -1
    where the weights have no positive, finite sum."""
    cdf = p.cumsum(-1)
    total = cdf[..., -1]
    token = torch.searchsorted(cdf, (u * total).unsqueeze(-1), right=True)
    token = token.clamp(max=p.shape[-1] - 1).squeeze(-1)
    return token.masked_fill(~((total > 0) & (total < torch.inf)), -1)


def integers(high: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """int64 draws from {0, …, high - 1} on the generator's device."""
    return torch.randint(high, shape, generator=generator, device=generator.device)
