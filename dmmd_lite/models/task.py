"""A task: what a recipe trains, with its world and its noise process looked up once."""

from dataclasses import dataclass

import torch
from torch import Tensor

from dmmd_lite.objectives import METHODS
from dmmd_lite.processes import get_process
from dmmd_lite.processes.base import Process
from dmmd_lite.processes.block_autoregressive import BlockAutoregressive
from dmmd_lite.processes.holding import Holding
from dmmd_lite.recipes.recipe import AUTOREGRESSIVE, Recipe
from dmmd_lite.worlds import get_world
from dmmd_lite.worlds.base import World
from dmmd_lite.worlds.holds import sample_held


@dataclass(frozen=True, eq=False)
class Task:
    """A recipe, the world it learns from, and the noise process its model undoes.

    Args:
    noise: the recipe's noise process, which a teacher undoes; None for autoregressive models.
    process: the process that the recipe's own model undoes. It differs from `noise` for methods whose
    students have paths of their own (`MethodSpec.process`).
    """

    recipe: Recipe
    world: World
    noise: Process | None
    process: Process | None

    def draw(self, num: int, generator: torch.Generator, split: str) -> Tensor:
        """Draw clean sequences [num, L] of a split, with the positions held that the recipe names."""
        if not self.recipe.holds:
            return self.world.sample(num, generator, split)
        return self.noise.hold(*sample_held(self.world, self.recipe.holds, num, generator, split))

    def identity(self) -> dict:
        """Return what decides a training of the task beside its method and options, as JSON values."""
        recipe = self.recipe.to_dict()
        recipe = {key: value for key, value in recipe.items() if key not in ("method", "training")}
        return {"recipe": recipe, "world": self.world.provenance}


def task_of(recipe: Recipe, world: World | None = None) -> Task:
    """Look up the world and the process of a recipe. world: the recipe's, where the package has none of its
    name. ValueError for a name that nobody knows."""
    world = world or get_world(recipe.world)
    noise = None
    if recipe.process != AUTOREGRESSIVE:
        noise = get_process(recipe.process, world.vocab_size, recipe.schedule)
        noise = BlockAutoregressive(noise, recipe.block) if recipe.block else noise
        noise = Holding(noise) if recipe.holds else noise
    spec = METHODS.get(recipe.role)
    process = spec.process(recipe.method, noise) if spec and recipe.method else noise
    return Task(recipe, world, noise, process)
