"""Students of ReDi."""

from typing import Any

from dmmd_lite.recipes.recipe import Recipe
from dmmd_lite.recipes.students.base import StudentPlan, in_rounds, one_for_all
from dmmd_lite.recipes.world_settings import WorldSettings, settings_of


def make(world: str, process: str, steps: int, scale: str) -> Recipe:
    """Make a recipe of two rounds of equal length, after one on data for masked noise.

    One-step students are distilled in the last round. Tiny worlds show every step a sampler leaves out, so
    their pairs take more. The published 100 uses of a pair go with 50,000 pairs; where the budget allows far
    fewer, a pair is used 8 times. Text takes perturbed rectification, as published, from starts drawn from
    the noise itself.
    """
    from dmmd_lite.objectives.redi import ReDiSettings

    kind = settings_of(world).kind
    tiny, perturbed = kind == "tiny", kind == "text"
    settings = ReDiSettings(
        steps,
        pool_steps=64 if tiny else 16 if perturbed else 32,
        uses=100 if tiny else 8,
        masked=0.3 if process == "masked" and not perturbed else 1.0,
        perturbed=perturbed,
        distill=steps == 1,
    )
    rounds = settings.rounds + (settings.masked < 1)
    return in_rounds("redi", settings, rounds, world, process, scale, floor=1e-6)


def knob(recipe: Recipe) -> dict[str, Any]:
    """Return the changes of the fourth trial: better pairs for the same work or, where rectification is
    perturbed, all of the work for the teacher's completions."""
    if recipe.method.perturbed:
        return {"method.rounds": 1}
    return {f"method.{key}": 2 * getattr(recipe.method, key) for key in ("pool_steps", "uses")}


def steps_of(world: WorldSettings) -> tuple[int, ...]:
    """Return the steps students are trained for: one serves any number, and a one-step student is distilled
    besides, though not on text, where paths begin anywhere."""
    (steps,) = one_for_all(world)
    return (steps,) if world.kind == "text" else (1, max(2, steps))


PLAN = StudentPlan(
    "redi",
    "ReDi",
    make,
    recommended=(4, "1 to 16"),
    knob=knob,
    any_steps=True,
    steps=steps_of,
    best={("digits", "uniform"): "pool_steps 64, uses 16"},
)
