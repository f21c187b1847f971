"""A task: what a recipe trains, with its world and its noise process looked up once."""

from collections.abc import Callable
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
    hold: function (x [B, L], generator) -> which positions are held, bool [B, L]; of recipes that say "own".
    """

    recipe: Recipe
    world: World
    noise: Process | None
    process: Process | None
    hold: Callable[[Tensor, torch.Generator], Tensor] | None = None

    def draw(self, num: int, generator: torch.Generator, split: str) -> Tensor:
        """Draw clean sequences [num, L] of a split, with the positions held that the recipe names."""
        if not self.recipe.holds:
            return self.world.sample(num, generator, split)
        if self.hold is not None:
            x = self.world.sample(num, generator, split)
            return self.noise.hold(x, checked_held(self.hold(x, generator), x))
        return self.noise.hold(*sample_held(self.world, self.recipe.holds, num, generator, split))

    def identity(self) -> dict:
        """Return what decides a training of the task beside its method and options, as JSON values."""
        recipe = self.recipe.to_dict()
        recipe = {key: value for key, value in recipe.items() if key not in ("method", "training")}
        return {"recipe": recipe, "world": self.world.provenance}


def checked_held(held, x: Tensor) -> Tensor:
    """Return what a function of the user's holds of x [B, L]; ValueError unless it is bool [B, L]."""
    if not isinstance(held, Tensor) or held.dtype != torch.bool or held.shape != x.shape:
        found = f"{held.dtype} {list(held.shape)}" if isinstance(held, Tensor) else type(held).__name__
        raise ValueError(f"holds: {found} is not allowed; the function must give bool {list(x.shape)}")
    return held.to(x.device)


def task_of(
    recipe: Recipe,
    world: World | None = None,
    hold: Callable[[Tensor, torch.Generator], Tensor] | None = None,
) -> Task:
    """Look up the world and the process of a recipe. world: the recipe's, where the package has none of its
    name. hold: of a recipe with holds "own". ValueError for a name that nobody knows."""
    world = world or get_world(recipe.world)
    noise = None
    if recipe.process != AUTOREGRESSIVE:
        noise = get_process(recipe.process, world.vocab_size, recipe.schedule)
        noise = BlockAutoregressive(noise, recipe.block) if recipe.block else noise
        noise = Holding(noise) if recipe.holds else noise
    spec = METHODS.get(recipe.role)
    process = spec.process(recipe.method, noise) if spec and recipe.method else noise
    return Task(recipe, world, noise, process, hold)
