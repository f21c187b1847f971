"""Students of Duo's DCD."""

from dmmd_lite.recipes.recipe import Recipe
from dmmd_lite.recipes.students.base import StudentPlan, in_rounds


def make(world: str, process: str, steps: int, scale: str) -> Recipe:
    """Make a recipe of five rounds, as published. Converted distributions magnify a floor, so that of exact
    posteriors is low."""
    from dmmd_lite.objectives.dcd import DCDSettings

    settings = DCDSettings(steps)
    return in_rounds("dcd", settings, settings.rounds, world, process, scale, floor=1e-9)


PLAN = StudentPlan(
    "dcd",
    "DCD",
    make,
    recommended=(16, "8 to 32"),
    knob=lambda recipe: {"method.divergence": "forward_kl"},
    processes=("uniform",),
    why_not={"masked": "its pairs of noise levels share a Gaussian, which only uniform noise comes from"},
    best={("digits", "uniform"): "rates x 1/2"},
)
