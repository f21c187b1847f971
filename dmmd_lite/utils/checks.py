"""Checks of arguments, which raise a ValueError of one line with the field, the value and what is allowed."""

import math
from collections.abc import Iterable
from numbers import Integral, Real


def check_choice(name: str, value, allowed: Iterable) -> None:
    """Raise ValueError unless the value is one of `allowed`."""
    allowed = list(allowed)
    if value not in allowed:
        raise ValueError(f"{name}: {value!r} is not allowed; choose one of {allowed}")


def check_whole(name: str, value, minimum: int = 1) -> None:
    """Raise ValueError unless the value is a whole number, no bool, of at least `minimum`."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < minimum:
        raise ValueError(f"{name}: {value!r} is not allowed; it must be a whole number of at least {minimum}")


def check_number(name: str, value, minimum: float = 0.0) -> None:
    """Raise ValueError unless the value is a finite number, no bool, of at least `minimum`."""
    number = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if not number or value < minimum:
        raise ValueError(
            f"{name}: {value!r} is not allowed; it must be a finite number, at least {minimum:g}"
        )


def check_interval(name: str, value, low: float, high: float, ends: str = "[]") -> None:
    """Raise ValueError unless the value is a number between `low` and `high`.

    ends: the brackets of the interval; "[]" allows both limits, "(]" only `high`.
    """
    number = isinstance(value, Real) and not isinstance(value, bool)
    above = number and (value >= low if ends[0] == "[" else value > low)
    below = number and (value <= high if ends[1] == "]" else value < high)
    if not (above and below):
        limits = f"{ends[0]}{low:g}, {high:g}{ends[1]}"
        raise ValueError(f"{name}: {value!r} is not allowed; it must lie in {limits}")
