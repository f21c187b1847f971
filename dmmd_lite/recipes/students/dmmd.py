"""Students of D-MMD."""

from dmmd_lite.recipes.recipe import Recipe
from dmmd_lite.recipes.students.base import StudentPlan, adversarial_rates, dmmd_settings, student
from dmmd_lite.recipes.world_settings import settings_of


def make(world: str, process: str, steps: int, scale: str, variant: str = "") -> Recipe:
    """Make a recipe; variant "-nonoise" has no input noise.

    The one-step student of the coins under uniform noise always starts from t = 1, the only time it is used
    at; parity keeps the bridge, whose t < 1 break its symmetry.
    """
    numbers = settings_of(world, process, steps)
    only_start = world == "coins" and process == "uniform" and steps == 1
    settings = dmmd_settings(numbers, steps, "start" if only_start else "bridge")
    lr, noise = adversarial_rates(world, process, steps, scale), 0 if variant else numbers.noise_channels
    return student(
        "dmmd", world, process, scale, settings, lr, betas=(0.0, 0.99), noise=noise, variant=variant
    )


PLAN = StudentPlan(
    "dmmd",
    "D-MMD",
    make,
    recommended=(16, "8 to 64"),
    knob=lambda recipe: {"method.temperature": 0.8},  # of the teacher
)
