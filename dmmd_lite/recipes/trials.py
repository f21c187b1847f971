"""Equal tuning: the same four trials for every method, and the recipe with the best of them.

Trials are a method's recipe as it is first written down, the same with half and with twice its learning
rates, and with another value of one of the method's settings (`StudentPlan.knob`). All of them take equal
work. What was best for training seed 0 on validation data (on the digits, four steps) is set for all students
of that method, noise and world at the scale of the models that ship (`StudentPlan.best`).
"""

from collections.abc import Callable
from typing import Any

from dmmd_lite.recipes.recipe import Recipe
from dmmd_lite.recipes.students import plan_of
from dmmd_lite.recipes.world_settings import settings_of

RATES = {"the recipe": 1.0, "rates x 1/2": 0.5, "rates x 2": 2.0}


def trials_of(recipe: Recipe) -> dict[str, dict[str, Any]]:
    """Return the trials of a student's recipe: name of the trial -> changes to the recipe."""
    rates = recipe.training.lr.items()
    scaled = {
        trial: {f"training.lr.{player}": factor * rate for player, rate in rates}
        for trial, factor in RATES.items()
    }
    knob = plan_of(recipe.role).knob(recipe)
    return scaled | {", ".join(f"{key.split('.')[-1]} {value}" for key, value in knob.items()): knob}


def tuned(make: Callable[[str], Recipe], scale: str) -> Recipe:
    """Return a student's recipe with the best of its trials."""
    recipe = make(scale)
    trial = plan_of(recipe.role).best.get((recipe.world, recipe.process))
    shown = settings_of(recipe.world).shown_at
    return recipe.with_changes(trials_of(recipe)[trial]) if trial and scale == shown else recipe
