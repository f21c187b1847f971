"""Students of SDTT."""

from math import log2

from dmmd_lite.recipes.recipe import Recipe
from dmmd_lite.recipes.students.base import StudentPlan, in_rounds


def make(world: str, process: str, steps: int, scale: str) -> Recipe:
    """Make a recipe. The first round's teacher takes 64 steps; at paper scale 1024, as published."""
    from dmmd_lite.objectives.sdtt import SDTTSettings

    rounds = max(1, round(log2((1024 if scale == "paper" else 64) / steps)))
    return in_rounds("sdtt", SDTTSettings(steps, rounds), rounds, world, process, scale, floor=1e-6)


PLAN = StudentPlan(
    "sdtt",
    "SDTT",
    make,
    recommended=(16, "8 and more"),
    knob=lambda recipe: {"method.divergence": "forward_kl"},
    processes=("masked",),
    why_not={"uniform": "its targets are defined by which positions a sub-step reveals"},
)
