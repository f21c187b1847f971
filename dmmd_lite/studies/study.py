"""What a study is: a student's recipe with one thing changed at a time, and what was expected of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dmmd_lite.recipes.recipe import Recipe

BASELINE = "as it is"  # the variant without a change
TEACHER_NETWORK = "before distillation"  # the network a student starts from, in the student's number of steps
NO_NOISE_INPUT = "without noise input"
SEEDS = 3  # training seeds that a verdict needs
SAMPLES_KEPT = 16  # samples of images kept
DIVERGED = "updates_before_divergence"  # the metric of a training whose loss stopped being finite
Variants = dict[str, dict[str, Any] | str]  # name -> changes to the recipe, or the name of another recipe


@dataclass(frozen=True)
class Expectation:
    """The expectation that the variant `less` has a lower value of a metric than the variant `more`.

    Args:
    text: the expectation in words.
    metric: "" is the metric that decides on the student's world.
    process: noise of the students it is about; "" is every noise.
    """

    text: str
    less: str
    more: str
    metric: str = ""
    process: str = ""


@dataclass(frozen=True)
class Study:
    """A study of variants of students.

    Args:
    students: names of recipes.
    variants: a student's recipe -> its variants.
    expected: what was expected before anything was run.
    """

    students: tuple[str, ...]
    variants: Callable[[Recipe], Variants]
    expected: tuple[Expectation, ...]
