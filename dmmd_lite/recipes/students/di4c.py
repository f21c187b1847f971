"""Students of Di4C."""

from dataclasses import replace

from dmmd_lite.recipes.recipe import Recipe
from dmmd_lite.recipes.students.base import StudentPlan, noise_init, one_for_all, student
from dmmd_lite.recipes.world_settings import settings_of

TEXTS = ("chain", "text", "strings")  # kinds of worlds whose data have little weight in the loss


def make(world: str, process: str, steps: int, scale: str) -> Recipe:
    """Make a recipe with 16 lambdas, as published, on the tiny worlds and at paper scale, else 8.

    Batches are smaller by that factor, as published too. On the coins 8 lambdas did less well, and with 4
    even the minimum of the loss is far from the truth. Data has weight 0.1 for texts and chains, else 1, as
    published for pixels. The learning rate is a teacher's, since no player follows another.
    """
    from dmmd_lite.networks.transformer import CONTINUOUS
    from dmmd_lite.objectives.di4c import Di4CSettings

    numbers = settings_of(world, process, steps)
    samples = {"smoke": 2, "paper": 16}.get(scale, 16 if numbers.kind == "tiny" else 8)
    settings = Di4CSettings(steps, samples, data_weight=0.1 if numbers.kind in TEXTS else 1.0)
    lr = {"student": numbers.at(scale).teacher_lr}
    recipe = student("di4c", world, process, scale, settings, lr, floor=1e-6, copies=samples)
    mixture = {"mixture": CONTINUOUS, **noise_init(numbers, CONTINUOUS)}
    return replace(recipe, network={**recipe.network, **mixture})


PLAN = StudentPlan(
    "di4c",
    "Di4C",
    make,
    recommended=(16, "half of its teacher's"),
    knob=lambda recipe: {"method.data_weight": 0.1},
    any_steps=True,
    steps=one_for_all,
    best={("digits", "uniform"): "rates x 1/2"},
)
