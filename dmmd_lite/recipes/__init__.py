"""Recipes: what to train, for every world, noise, method and scale."""

from typing import TYPE_CHECKING

from dmmd_lite.utils.lazy import lazy

if TYPE_CHECKING:  # the public names, which `lazy` loads when they are first asked for
    from dmmd_lite.recipes.catalogue import RECIPES, get_recipe
    from dmmd_lite.recipes.recipe import Recipe

__getattr__, __dir__, __all__ = lazy(__name__, __file__)
