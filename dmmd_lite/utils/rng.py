"""Random draws without single-precision bias.

A categorical draw in float32 (Gumbel noise or `torch.multinomial`) distorts classes whose probability is
near 2^-24, which lowers the effective temperature of many-step samplers (arXiv 2409.02908). Every draw here
is made in float64, on the device of the generator. `float64_device` sends float64 work for Apple's MPS,
which has no float64, to the CPU; nothing else depends on the device.
"""

import torch
from torch import Tensor

TWO_STAGE_CLASSES, RUN_LENGTH = (
    4096,
    256,
)  # classes beyond which `pick` searches in two stages, and those of a run


CACHE_ROWS = 8  # laws of so many classes that a CPU's cache holds while one pass after the other is made


def float64_device(device: torch.device | str) -> torch.device:
    """Where float64 work for `device` is done: there, or on the CPU for MPS."""
    device = torch.device(device)
    return torch.device("cpu") if device.type == "mps" else device


def generator_for(device: torch.device | str, seed: int) -> torch.Generator:
    """A seeded generator fit for draws that end on `device`."""
    return torch.Generator(float64_device(device)).manual_seed(seed)


def uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """float64 draws from U[0, 1) on the generator's device."""
    return torch.rand(shape, generator=generator, device=generator.device, dtype=torch.float64)


def normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """float32 standard normal draws on the generator's device."""
    return torch.randn(shape, generator=generator, device=generator.device)


def categorical(log_p: Tensor, generator: torch.Generator) -> Tensor:
    """One class per row of log-probabilities [..., V] (need not be normalised), as int64 [...]."""
    return pick(log_p, uniform(log_p.shape[:-1], generator))


def pick(log_p: Tensor, u: Tensor) -> Tensor:
    """The class of each row of log-probabilities [..., V] at float64 u [...] in [0, 1), as int64 [...].

    Inverse distribution function in float64: class c is drawn exactly when cdf[c-1] <= u < cdf[c], so a
    class of probability zero is never drawn. log_p need not be normalised. More than `TWO_STAGE_CLASSES`
    classes are searched in two stages, a run of `RUN_LENGTH` classes and then one of its classes in float64;
    only the share of a run has the precision of log_p, by which none of its classes gains or loses.
    """
    last, shape = log_p.shape[-1] - 1, u.shape
    here = log_p.detach().to(u.device)
    if last < TWO_STAGE_CLASSES:
        here = here.double()
        return _invert((here - here.amax(-1, keepdim=True)).exp_(), u).to(log_p.device)
    rows = CACHE_ROWS if here.device.type == "cpu" else max(1, u.numel())
    here, u = here.reshape(-1, last + 1), u.reshape(-1)
    sums = torch.cat([_sums_of_runs(part) for part in here.split(rows)]).double()
    run = _invert(sums, u).unsqueeze(-1)
    below, own = ((v.gather(-1, run).squeeze(-1)) for v in (sums.cumsum(-1) - sums, sums))
    within = ((u * sums.sum(-1) - below) / own).clamp(0, 1 - 2**-53)
    classes = run * RUN_LENGTH + torch.arange(RUN_LENGTH, device=u.device)
    of_run = here.gather(-1, classes.clamp(max=last)).double()
    weights = torch.where(classes <= last, (of_run - of_run.amax(-1, keepdim=True)).exp(), 0)
    token = (run.squeeze(-1) * RUN_LENGTH + _invert(weights, within)).clamp(max=last)
    return token.view(shape).to(log_p.device)


def _sums_of_runs(log_p: Tensor) -> Tensor:
    """Weights of the runs of log-probabilities [n, V], but for a constant a row, [n, runs].

    On a CPU every pass over the classes counts, and the one for their maximum is not made where exponentials
    stay in the range of float32 without it.
    """
    if log_p.device.type != "cpu":
        return _add_runs(log_p.softmax(-1))
    sums = _add_runs(log_p.exp())
    total = sums.sum(-1)
    return sums if ((total > 1e-20) & (total < 1e30)).all() else _add_runs(log_p.softmax(-1))


def _add_runs(p: Tensor) -> Tensor:
    """Sums over runs of p [n, V], the last of which may be shorter, [n, runs]."""
    whole = p.shape[-1] // RUN_LENGTH * RUN_LENGTH
    parts = p[..., :whole].unflatten(-1, (-1, RUN_LENGTH)).sum(-1), p[..., whole:].sum(-1, keepdim=True)
    return torch.cat(parts, -1)


def _invert(p: Tensor, u: Tensor) -> Tensor:
    """The first class of each row of weights p [..., V] with which the share of the sum exceeds u [...]."""
    cdf = p.cumsum(-1)
    token = torch.searchsorted(cdf, (u * cdf[..., -1]).unsqueeze(-1), right=True)
    return token.clamp(max=p.shape[-1] - 1).squeeze(-1)


def integers(high: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """int64 draws from {0, …, high - 1} on the generator's device."""
    return torch.randint(high, shape, generator=generator, device=generator.device)
