"""Counted costs: a shape of one's own is counted as a recipe's network is."""

import pytest

from dmmd_lite.cost import cost, estimate
from dmmd_lite.recipes import get_recipe


@pytest.mark.parametrize("name", ["docstrings-masked-teacher", "docstrings-masked-dmmd-16"])
def test_an_estimate_is_a_recipes_cost(name):
    """Up to the convolution and the noise projection, which an estimate leaves out."""
    recipe = get_recipe(name)
    network, training = recipe.network, recipe.training
    found = estimate(
        recipe.role,
        width=network["width"],
        depth=network["depth"],
        tokens=128,
        classes=27,
        batch_size=training.batch_size,
        steps=training.steps,
        mlp_ratio=2,
    )
    counted = cost(recipe)
    assert found["parameters"] == pytest.approx(counted["parameters"], rel=0.02)
    assert found["flop"] == pytest.approx(counted["flop"], rel=0.02)
    assert found["hours"] == pytest.approx(counted["hours_at_400_tflops"], rel=0.02)


def test_another_role_is_refused():
    sizes = {"width": 8, "depth": 1, "tokens": 4, "classes": 3, "batch_size": 2, "steps": 1}
    with pytest.raises(ValueError, match="role: 'sdtt' is not allowed"):
        estimate("sdtt", **sizes)
