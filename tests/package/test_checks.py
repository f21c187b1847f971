"""The checks of what a user can set: types, finiteness and ranges as annotations say, in one line."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction as Quotient
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest
import torch

from dmmd_lite.utils.checks import (
    MAXIMUM,
    Between,
    Count,
    CountOrZero,
    Fraction,
    Name,
    Positive,
    PositiveOrZero,
    Seed,
    check,
    check_choice,
    check_fields,
    check_whole,
    checked,
)

ALLOWED = [  # (value, annotation, what becomes of it)
    (3, Count, 3),
    (np.int64(3), Count, 3),
    (0, CountOrZero, 0),
    (2**31 - 1, Seed, 2**31 - 1),
    (1, Fraction, 1.0),
    (np.float32(0.5), Positive, 0.5),
    (Quotient(1, 4), float, 0.25),
    (None, Count | None, None),
    (2, Count | None, 2),
    ("a", Literal["a", "b"], "a"),
    (None, Literal["a"] | None, None),
    ("out", str | Path, Path("out")),
    (Path("out"), str | Path | None, Path("out")),
    (None, str | Path | None, None),
    ([0.9, 1], tuple[float, float], (0.9, 1.0)),
    ((1, 2), list[int], [1, 2]),
    ([], tuple[int, ...], ()),
    ({"a": 1}, dict[str, Positive], {"a": 1.0}),
    (print, Callable[[int], None], print),
    (object, Any, object),
]


@pytest.mark.parametrize("value, hint, expected", ALLOWED)
def test_what_is_allowed_becomes_the_type_of_its_annotation(value, hint, expected):
    found = check("field", value, hint)
    assert found == expected and type(found) is type(expected)


def test_home_is_found_and_what_is_read_once_is_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert check("out", "~/run", str | Path) == tmp_path / "run"
    assert check("names", iter(["a"]), Iterable[str]) == ["a"]


NO_NAMES = ["", "  ", "a\nb", "a\n", "../a", "a/b", "/a", ".", "..", ".a", "a\\b", "~", "a:b", "a*", "é" * 51]

NO_NUMBERS = [
    True,
    "1",
    None,
    [1],
    math.nan,
    math.inf,
    -math.inf,
    1 + 0j,
    torch.tensor(1.0),
    np.array([1, 2]),
]
REFUSED = [
    *((value, int, "it must be a whole number") for value in [1.5, 1.0, *NO_NUMBERS]),
    *((value, float, "it must be a finite number") for value in [10**400, *NO_NUMBERS]),
    *(
        (value, Count, f"a whole number of at least 1 and at most {MAXIMUM}")
        for value in [0, -1, 10**30, 2.0]
    ),
    (-1, Seed, "a whole number of at least 0 and at most 2147483647"),
    (2**32, Seed, "a whole number of at least 0"),
    (0, Positive, "it must be a finite number, above 0"),
    (-1e-9, PositiveOrZero, "it must be a finite number, at least 0"),
    *((value, Fraction, r"it must lie in \[0, 1\]") for value in [1.5, -0.1, math.nan, 10**400, "half"]),
    (0.0, Annotated[float, Between(0, 1, "(]")], r"it must lie in \(0, 1\]"),
    (1.0, Annotated[float, Between(0, 1, "[)")], r"it must lie in \[0, 1\)"),
    (1, bool, "it must be True or False"),
    (3, str, "it must be a string"),
    ("c", Literal["a", "b"], r"choose one of \['a', 'b'\]"),
    (np.array(["a", "b"]), Literal["a", "b"], r"choose one of \['a', 'b'\]"),
    ("x", Count | None, "it must be a whole number of at least 1 and at most .* or None"),
    ("", str | Path, "it must be a path"),
    ("a\0b", str | Path, "it must be a path"),
    ("a\nb", str | Path, "it must be a path"),
    (Path("a\n"), str | Path, "it must be a path"),
    ("\ud800", str | Path, "it must be a path"),
    ("~nobody-of-this-name/x", str | Path, "it must be a path"),
    ("x" * 256, str | Path, "it must be a path"),
    (3, str | Path | None, "it must be a path or None"),
    ("abc", list[str], "it must be a list"),
    ("abc", Iterable[str], "it must be of type Iterable"),
    (torch.tensor(3), Iterable[str], "it must be of type Iterable"),
    ([1, 2, 3], tuple[int, int], "it must have 2 entries"),
    *((name, Name, "it must be a name of up to 100 letters, digits, spaces and") for name in NO_NAMES),
    (3, Callable[[int], None], "it must be of type Callable"),
    (3, torch.nn.Module, "it must be of type Module"),
]


@pytest.mark.parametrize("value, hint, words", REFUSED)
def test_what_is_refused_is_named_in_one_line(value, hint, words):
    with pytest.raises(ValueError, match=f"^field: .* is not allowed; .*{words}") as error:
        check("field", value, hint)
    assert len(str(error.value).splitlines()) == 1 and len(str(error.value)) < 300


@pytest.mark.parametrize(
    "value, hint, name",
    [
        ([1, "x"], list[int], "field.1"),
        ({"a": 0}, dict[str, Positive], "field.a"),
        ({"a": {"b": [0]}}, dict[str, dict[str, list[Count]]], "field.a.b.0"),
        ({3: 1}, dict[str, int], "field: key"),
    ],
)
def test_the_entry_at_fault_is_named(value, hint, name):
    with pytest.raises(ValueError, match=f"^{name}: .* is not allowed"):
        check("field", value, hint)


def test_long_values_are_cut_and_values_without_text_are_named_by_type():
    class Mute:
        def __repr__(self):
            raise RuntimeError

    for value, shown in [
        ("x" * 10**6, "'xxx.*…"),
        ("a\nb", r"'a\\nb'"),
        (10**5000, "a int"),
        (Mute(), "a Mute"),
    ]:
        with pytest.raises(ValueError, match=f"^field: {shown} is not allowed") as error:
            check("field", value, Count)
        assert len(str(error.value)) < 250


def test_fields_and_arguments_are_checked_and_converted():
    @dataclass(frozen=True)
    class Settings:
        steps: Count
        rate: PositiveOrZero = 1.0
        kinds: tuple[str, ...] = ()

        __post_init__ = check_fields

    assert Settings(np.int64(2), 1, ["a"]) == Settings(2, 1.0, ("a",))
    with pytest.raises(ValueError, match="^steps: nan is not allowed"):
        Settings(math.nan)

    @checked
    def function(out: str | Path, *rest, steps: Count = 1, settings: Settings | None = None, **options):
        return out, rest, steps, settings, options

    assert function("a", 1, steps=2, b=3) == (Path("a"), (1,), 2, None, {"b": 3})
    with pytest.raises(ValueError, match="^settings: 3 is not allowed; it must be of type Settings or None"):
        function("a", settings=3)


def test_checks_by_value_say_the_same():
    check_whole("n", 3), check_choice("k", "a", ["a"])
    for refuse, words in [
        (lambda: check_whole("n", 10, 1, 9), "at least 1 and at most 9"),
        (lambda: check_choice("k", torch.ones(2), ["a"]), "choose one of"),
    ]:
        with pytest.raises(ValueError, match=f"^[nxk]: .* is not allowed; .*{words}"):
            refuse()
