"""Students of IDLM."""

from dmmd_lite.recipes.recipe import Recipe
from dmmd_lite.recipes.students.base import StudentPlan, adversarial, one_for_all


def make(world: str, process: str, steps: int, scale: str) -> Recipe:
    """Make a recipe without noise input, as published.

    Exact posteriors have the floor of the network that the auxiliary starts as: with a higher one it starts
    by calling impossible pairs too rare, and without an anchor that decides which way a student goes.
    Converted distributions magnify a floor, so it is lower under uniform noise, whose bound is finite
    whatever a teacher excludes.
    """
    from dmmd_lite.objectives.idlm import idlm

    floor = 1e-9 if process == "uniform" else 1e-6
    return adversarial("idlm", idlm(steps, process), world, process, scale, floor=floor)


PLAN = StudentPlan(
    "idlm",
    "IDLM",
    make,
    recommended=(16, "4 to 32"),
    knob=lambda recipe: {"training.betas": [0.0, 0.99]},  # those of D-MMD
    any_steps=True,
    steps=one_for_all,
    best={("digits", "masked"): "rates x 2", ("digits", "uniform"): "rates x 1/2"},
)
