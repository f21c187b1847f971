"""Students of Di[M]O."""

from dmmd_lite.recipes.recipe import Recipe
from dmmd_lite.recipes.students.base import StudentPlan, adversarial
from dmmd_lite.recipes.world_settings import settings_of


def make(world: str, process: str, steps: int, scale: str) -> Recipe:
    """Make a recipe. The networks' noise input takes the part of the published noise on embeddings."""
    from dmmd_lite.objectives.dimo import dimo

    return adversarial("dimo", dimo(), world, process, scale, noise=settings_of(world).noise_channels)


PLAN = StudentPlan(
    "dimo",
    "Di[M]O",
    make,
    recommended=(1, "1"),
    knob=lambda recipe: {"method.beta": -0.2},
    processes=("masked",),
    why_not={"uniform": "it masks what it generated"},
    why_one_step="its student is only ever shown the start of sampling",
    steps=lambda world: (1,),
    best={("digits", "masked"): "rates x 2"},
)
