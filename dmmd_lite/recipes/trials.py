"""Equal tuning: the same four trials for every method, and which of them its recipes have.

Trials are a method's recipe as it is first written down, with half and with twice its learning rates, and
with one other value of a knob of its own. All of them take the recipe's own work. What was best for training
seed 0 on validation data (on the digits, four steps) is set for all students of that method, noise and
world, at laptop scale.
"""

from collections.abc import Callable
from typing import Any

from dmmd_lite.recipes.recipe import Recipe
from dmmd_lite.recipes.world_settings import kind_of

RATES = {"the recipe": 1.0, "rates x 1/2": 0.5, "rates x 2": 2.0}
BEST = {  # (kind of world, noise, role) -> its best trial, where that was not the recipe
    ("digits", "masked", "idlm"): "rates x 2",
    ("digits", "masked", "dimo"): "rates x 2",
    ("digits", "uniform", "dcd"): "rates x 1/2",
    ("digits", "uniform", "di4c"): "rates x 1/2",
    ("digits", "uniform", "idlm"): "rates x 1/2",
    ("digits", "uniform", "redi"): "pool_steps 64, uses 16",
}


def trials_of(recipe: Recipe) -> dict[str, dict[str, Any]]:
    """The trials of a student's recipe: what each is called -> changes to the recipe."""
    rates = recipe.training.lr.items()
    scaled = {
        trial: {f"training.lr.{player}": factor * rate for player, rate in rates}
        for trial, factor in RATES.items()
    }
    knob = _knob(recipe)
    return scaled | {", ".join(f"{key.split('.')[-1]} {value}" for key, value in knob.items()): knob}


def _knob(recipe: Recipe) -> dict[str, Any]:
    """Another value of the method's own knob, as changes to the recipe."""
    match recipe.role:
        case "dmmd":
            return {"method.temperature": 0.8}  # of the teacher
        case "sdtt" | "dcd":
            return {"method.divergence": "forward_kl"}
        case "di4c":
            return {"method.data_weight": 0.1}
        case "idlm":
            return {"training.betas": [0.0, 0.99]}  # D-MMD's
        case "dimo":
            return {"method.beta": -0.2}
        case "redi" if recipe.method.perturbed:  # all of the work for the teacher's completions
            return {"method.rounds": 1}
        case "redi":  # better pairs for the same work
            return {f"method.{key}": 2 * getattr(recipe.method, key) for key in ("pool_steps", "uses")}


def tuned(make: Callable[[str], Recipe], scale: str) -> Recipe:
    """A student's recipe with the best of its trials."""
    recipe = make(scale)
    trial = BEST.get((kind_of(recipe.world), recipe.process, recipe.role))
    return recipe.with_changes(trials_of(recipe)[trial]) if trial and scale == "laptop" else recipe
