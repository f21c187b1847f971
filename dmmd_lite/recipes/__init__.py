"""Recipes: what to train, for every world, noise, method and scale."""

from dmmd_lite.utils.lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "recipe": "Recipe",
        "catalogue": "RECIPES get_recipe",
    },
)
