"""Checks of everything that a user can set: type, finiteness and range, as the annotations say.

    steps: Count                                            a whole number of at least 1
    clamp: Annotated[float, Between(0, 1, "()")]            a finite number in that interval
    decay: Literal["constant", "linear"]                    one of these
    out: str | Path                                         a path; `~` is the home folder

`check` reads such an annotation. `check_fields` applies it to the fields of a dataclass, and `checked` to the
arguments of a function. All of them raise a ValueError of one line with the field, the value and what is
allowed. Whole numbers of other libraries become Python's, and whole numbers in the place of a float become
floats, so that what was checked can be written and compared.
"""

import math
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import cache, wraps
from inspect import signature
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

MAXIMUM = 2**31 - 1  # of sizes and counts; more fits no memory and no time
SHOWN = 100  # characters of a value in a message
UNIONS, LISTS = (Union, UnionType), (Iterable, Sequence, Collection)


@dataclass(frozen=True)
class Between:
    """The range of a number, in an annotation: `Annotated[int, Between(0, 9)]`.

    Args:
    ends: the brackets of the interval; "[]" allows both limits, "(]" only `high`.
    """

    low: float = -math.inf
    high: float = math.inf
    ends: str = "[]"

    def allows(self, value: float) -> bool:
        """Return whether a number lies in the range."""
        above = value >= self.low if self.ends[0] == "[" else value > self.low
        return above and (value <= self.high if self.ends[1] == "]" else value < self.high)

    def words(self, kind: type) -> str:
        """Say what is allowed of numbers of a type."""
        if kind is int:
            return f"be a whole number of at least {self.low} and at most {self.high}"
        if math.isinf(self.high):
            return f"be a finite number, {'at least' if self.ends[0] == '[' else 'above'} {self.low:g}"
        return f"lie in {self.ends[0]}{self.low:g}, {self.high:g}{self.ends[1]}"


@dataclass(frozen=True)
class Rule:
    """Another condition, in an annotation: a function value -> whether it is allowed, and the words for it,
    as they follow "it must"."""

    allows: Callable[[Any], bool]
    description: str

    def words(self, kind: type) -> str:
        """Say what is allowed."""
        return self.description


Count = Annotated[int, Between(1, MAXIMUM)]
CountOrZero = Annotated[int, Between(0, MAXIMUM)]
Seed = Annotated[int, Between(0, MAXIMUM)]  # a generator on the CPU reads 32 bits; the upper half is for data
Positive = Annotated[float, Between(0, math.inf, "()")]
PositiveOrZero = Annotated[float, Between(0)]
Fraction = Annotated[float, Between(0, 1)]
PositiveFraction = Annotated[float, Between(0, 1, "(]")]
Name = Annotated[  # what is part of a file's name, so that it must not lead to another folder
    str,
    Rule(
        lambda text: re.fullmatch(r"\w[\w .@+=-]*", text) is not None and len(text.encode()) <= 100,
        "be a name of up to 100 letters, digits, spaces and any of _.@+=-, the first a letter, a digit or _",
    ),
]

WORDS = {int: "a whole number", float: "a finite number", bool: "True or False", str: "a string"}
WORDS |= {NoneType: "None", Path: "a path", tuple: "a list", list: "a list", dict: "a dictionary"}


def check(name: str, value, hint):
    """Return a value as the type that its annotation names; ValueError where it has another type or is not in
    the range. name: what the user calls it."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Literal:
        check_choice(name, value, parts)
        return value
    if not _is_a(value, hint):
        refuse(name, value, hint)
    if origin is Annotated:
        found = check(name, value, parts[0])
        return found if all(rule.allows(found) for rule in parts[1:]) else refuse(name, value, hint)
    if origin in UNIONS:
        kind = Path if Path in parts and isinstance(value, str) else next(p for p in parts if _is_a(value, p))
        return check(name, value, kind)
    if hint is Path:
        return _path(name, value)
    if hint in (int, float):
        return hint(value)
    return _check_entries(name, value, origin, parts) if parts else value


def _check_entries(name: str, value, origin: type, parts: tuple):
    """Return a container whose entries were checked; what can be read only once becomes a list."""
    if issubclass(origin, Mapping):
        keys = {key: check(f"{name}: key", key, parts[0]) for key in value}
        return {new: check(f"{name}.{key}", value[key], parts[1]) for key, new in keys.items()}
    if origin not in (list, tuple, *LISTS):
        return value
    try:
        value = list(value)
    except TypeError:  # it says that it can be read, and cannot
        refuse(name, value, origin[parts])
    if origin is not tuple or parts[-1] is ...:
        parts = parts[:1] * len(value)
    elif len(value) != len(parts):
        raise ValueError(f"{name}: {shown(value)} is not allowed; it must have {len(parts)} entries")
    entries = [check(f"{name}.{i}", value[i], part) for i, part in enumerate(parts)]
    return tuple(entries) if origin is tuple else entries


def _is_a(value, hint) -> bool:
    """Return whether a value's type suits an annotation, whatever its range and its entries.

    A bool is no number, NaN and the infinities are none, and a string is no list; a list may stand in the
    place of a tuple, as it does in JSON.
    """
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _is_a(value, parts[0])
    if origin in UNIONS:
        return any(_is_a(value, part) for part in parts)
    if origin is Literal:
        return isinstance(value, tuple(map(type, parts)))
    kind = object if hint is Any else origin or hint
    if kind in (int, float):
        number = isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool)
        return number and (kind is int or _is_finite(value))
    kinds = {Path: str | os.PathLike, list: list | tuple, tuple: list | tuple}
    return isinstance(value, kinds.get(kind, kind)) and not (isinstance(value, str) and kind in LISTS)


def _is_finite(value: Real) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float can hold
        return False


def _path(name: str, value: str | os.PathLike) -> Path:
    """Return a path with `~` as the home folder; ValueError for one that is empty, impossible or not one
    line."""
    try:
        path = Path(value).expanduser()
        names = [os.fsencode(part) for part in path.parts]
    except (
        RuntimeError,
        TypeError,
        UnicodeError,
    ):  # an unknown user, bytes, characters that no name can have
        refuse(name, value, Path)
    in_lines = os.fspath(value).splitlines() != [os.fspath(value)]
    if in_lines or any(len(part) > 255 or b"\0" in part for part in names):
        refuse(name, value, Path)
    return path


def refuse(name: str, value, hint):
    """Raise the ValueError of a value that an annotation does not allow."""
    raise ValueError(f"{name}: {shown(value)} is not allowed; it must {_words(hint)}")


def shown(value) -> str:
    """Return a value as it stands in a message: its `repr` in one line, cut where it is long, or its type."""
    text = f"a {type(value).__name__}"
    if type(value).__repr__ is not object.__repr__:
        with suppress(Exception):  # a huge number, or an object of the user's that cannot be printed
            text = " ".join(repr(value).split())
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def _words(hint) -> str:
    """Say what an annotation allows, as it follows "it must"."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return " and ".join(rule.words(parts[0]) for rule in parts[1:])
    if origin in UNIONS:
        parts = [part for part in parts if part is not str or Path not in parts]
        return " or ".join(_words(part) for part in parts).replace(" or be ", " or ")
    if origin is Literal:
        return f"be one of {list(parts)}"
    kind = origin or hint
    return f"be {WORDS[kind]}" if kind in WORDS else f"be of type {kind.__name__}"


def check_fields(settings) -> None:
    """Check the fields of a dataclass by their annotations, in its `__post_init__`."""
    hints = _hints(type(settings))
    for field in fields(settings):
        value = check(field.name, getattr(settings, field.name), hints[field.name])
        object.__setattr__(settings, field.name, value)


def checked(function: Callable) -> Callable:
    """Make a function that checks its arguments by their annotations before it runs; a decorator."""
    parameters = signature(function)

    @wraps(function)
    def run(*arguments, **keywords):
        try:
            bound, hints = parameters.bind(*arguments, **keywords), _hints(function)
        except TypeError as error:
            raise TypeError(f"{function.__qualname__}(): {error}") from None
        for name, value in bound.arguments.items():
            if name in hints:
                kind = parameters.parameters[name].kind
                if kind not in (kind.VAR_POSITIONAL, kind.VAR_KEYWORD):
                    bound.arguments[name] = check(name, value, hints[name])
        return function(*bound.args, **bound.kwargs)

    return run


@cache
def _hints(owner) -> dict[str, Any]:
    return get_type_hints(owner, include_extras=True)


def check_choice(name: str, value, allowed: Iterable) -> None:
    """Raise ValueError unless the value is one of `allowed`."""
    allowed = list(allowed)
    if not any(isinstance(value, type(choice)) and value == choice for choice in allowed):
        raise ValueError(f"{name}: {shown(value)} is not allowed; choose one of {allowed}")


def check_whole(name: str, value, minimum: int = 1, maximum: int = MAXIMUM) -> None:
    """Raise ValueError unless the value is a whole number, no bool, from `minimum` to `maximum`."""
    check(name, value, Annotated[int, Between(minimum, maximum)])
