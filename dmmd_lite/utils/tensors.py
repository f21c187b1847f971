"""Annotations of tensors and devices, for `utils.checks.checked`."""

from typing import Annotated

import torch
from torch import Tensor

from dmmd_lite.utils.checks import Rule, check


def is_here(device: torch.device | str) -> bool:
    """Return whether this machine has a device."""
    try:
        device = torch.device(device)
    except RuntimeError:  # not a device's name
        return False
    if device.type == "cuda":
        return (device.index or 0) < torch.cuda.device_count()
    return device.type == "cpu" or device.type == "mps" and torch.backends.mps.is_available()


Device = Annotated[torch.device | str, Rule(is_here, "be a device of this machine: cpu, cuda or mps")]
Tokens = Annotated[Tensor, Rule(lambda x: x.ndim == 2 and x.dtype == torch.long, "be int64 tokens [B, L]")]


def whole_numbers(x: Tensor) -> bool:
    """Return whether a tensor holds whole numbers [B, L] of any size in bits."""
    return x.ndim == 2 and not (x.is_floating_point() or x.is_complex() or x.dtype == torch.bool)


Floats = Annotated[Tensor, Rule(Tensor.is_floating_point, "be floating-point numbers")]
Integers = Annotated[Tensor, Rule(whole_numbers, "be whole numbers [B, L]")]


def in_unit_interval(t: Tensor) -> bool:
    """Return whether a tensor holds one floating-point number for each sequence, in [0, 1]. Numbers on a GPU
    are not looked at, because that would wait for them."""
    shaped = t.ndim == 1 and t.is_floating_point()
    return shaped and (t.device.type != "cpu" or bool(((t >= 0) & (t <= 1)).all()))


Times = Annotated[Tensor, Rule(in_unit_interval, "be floating-point times [B] in [0, 1]")]


def check_tokens(name: str, x, symbols: int) -> None:
    """Raise ValueError unless x is tokens [B, L] from 0 to symbols - 1, at least one of them."""
    check(name, x, Integers)
    if not x.numel() or x.min() < 0 or x.max() >= symbols:
        found = f"{int(x.min())} to {int(x.max())}" if x.numel() else "none"
        raise ValueError(f"{name}: tokens {found} are not allowed; they must be 0 to {symbols - 1}")


def check_noisy(z: Tensor, t: Tensor, symbols: int) -> None:
    """Raise ValueError unless z is tokens [B, L] from 0 to symbols - 1, or distributions [B, L, S] of them,
    and t is times [B]. Tokens on a GPU are not looked at, because that would wait for them."""
    soft = z.is_floating_point()
    if z.ndim != 2 + soft or len(t) != len(z):
        words = f"shape {list(z.shape)} with t of {list(t.shape)} is not allowed; they must be [B, L] and [B]"
        raise ValueError(f"z: {words}")
    if not soft and z.device.type == "cpu":
        check_tokens("z", z, symbols)
