"""What a study is: a student's recipe with one thing changed at a time, and what was expected of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dmmd_lite.recipes.recipe import Recipe

BASELINE = "as it is"  # the variant without a change
TEACHER_NETWORK = "before distillation"  # the network a student starts from, in the student's number of steps
NO_NOISE_INPUT = "without noise input"
SEEDS = 3  # training seeds a verdict needs
SAMPLES_KEPT = 16  # samples of images kept
DIVERGED = "updates_before_divergence"  # the metric of a training whose loss stopped being finite
Variants = dict[
    str, dict[str, Any] | str
]  # what each is called -> changes to the recipe, or another one's name


@dataclass(frozen=True)
class Expectation:
    """That the variant `less` has a lower value of a metric than the variant `more`."""

    text: str
    less: str
    more: str
    metric: str = ""  # "": the one that decides on the student's world
    process: str = ""  # of the students it is about; "": all


@dataclass(frozen=True)
class Study:
    """students: recipes' names; variants: of a student's recipe; expected: before anything was run."""

    students: tuple[str, ...]
    variants: Callable[[Recipe], Variants]
    expected: tuple[Expectation, ...]
