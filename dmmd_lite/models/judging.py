"""Judges from stored models, and which judge goes with a world and a model."""

from copy import deepcopy

from dmmd_lite.metrics.judges import CHAIN, Judge, check_symbols
from dmmd_lite.models.model import Model
from dmmd_lite.recipes.catalogue import RECIPES, get_recipe, judge_of
from dmmd_lite.recipes.recipe import AUTOREGRESSIVE, Recipe
from dmmd_lite.worlds.base import World


def model_judge(model: Model) -> Judge:
    """Make a judge of a stored autoregressive model, on its device. ValueError for another kind of model."""
    check_autoregressive(model.recipe)
    module = deepcopy(model.denoiser)  # the model itself keeps its parameters frozen
    device = next(module.parameters()).device
    return Judge.of(model.name, module, model.world.vocab_size, device, model.provenance["sha256"])


def default_judge(world: World) -> str:
    """Return the name of a world's own judge: the chain for Markov text, else its autoregressive judge.

    ValueError for a world that has none.
    """
    name = CHAIN if "chain" in world.traits else judge_of(world.name)
    if name != CHAIN and name not in RECIPES:
        raise ValueError(f"judge: None is not allowed for {world.name}, which has none of its own; name one")
    return name


def check_judge(judge: Judge, generator: Model) -> None:
    """Raise ValueError for a judge of other symbols than the generator's, or that is or began the generator.

    The latter goes by weights and by the names of the recipes the generator starts from or is taught by. A
    judge that a generator comes from prefers its text to any other, so its verdict means nothing.
    """
    check_symbols(judge.name, judge.vocab_size, generator.world)
    if judge.name in _origins(generator.recipe) or judge.sha256 == generator.provenance.get("sha256"):
        raise ValueError(
            f"judge: {judge.name!r} is not allowed for {generator.name!r}; it is the generator or its origin"
        )


def check_autoregressive(recipe: Recipe) -> None:
    """Raise ValueError for the recipe of a model that is not autoregressive."""
    if recipe.process != AUTOREGRESSIVE:
        raise ValueError(f"judge: {recipe.name!r} is not allowed; it must be an autoregressive model")


def _origins(recipe: Recipe) -> set[str]:
    """Names of a recipe and of all those it starts from or is taught by."""
    earlier = [get_recipe(name, recipe.scale) for name in (recipe.start, recipe.teacher) if name]
    return {recipe.name}.union(*map(_origins, earlier))
