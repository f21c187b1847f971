"""Counted costs agree with PyTorch's counter, and estimates for any shape with the costs of recipes."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from dmmd_lite.networks.transformer import BlockTransformer, Transformer
from dmmd_lite.recipes.catalogue import get_recipe
from dmmd_lite.recipes.cost import cost, estimate, forward_flop
from dmmd_lite.report import costs
from dmmd_lite.utils.files import write_json
from dmmd_lite.utils.records import Record


def counted(network, length):
    """Return what torch counts in a forward pass on a sequence; attention counts on the meta device only."""
    noise = network.draw_noise(1, torch.Generator())
    inputs = [torch.zeros(1, length, dtype=torch.long), torch.zeros(1), *([] if noise is None else [noise])]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.to("meta")(*(v.to("meta") for v in inputs))
    return counter.get_total_flops()


@pytest.mark.parametrize(
    "sizes",
    [
        {"width": 32, "depth": 3, "heads": 4, "mlp_ratio": 3},
        {"local": 3, "noise": 4, "positions": True},
        {"mixture": 5, "causal": True, "local": 5, "depth": 1},
    ],
)
def test_operations_of_sequences_are_those_torch_counts(sizes):
    network = Transformer(28, 27, 48, **sizes)
    assert forward_flop(network, 48) == counted(network, 48) > 0


@pytest.mark.parametrize("patch, noise", [(1, 0), (2, 3)])
def test_operations_of_images_are_those_torch_counts(patch, noise):
    network = Transformer(17, 16, 192, image_shape=(8, 8, 3), patch=patch, noise=noise, width=32)
    assert forward_flop(network, 64 // patch**2) == counted(network, 192)


@pytest.mark.parametrize("context", [0, 16, 48])
def test_operations_of_blocks_are_those_torch_counts(context):
    network = BlockTransformer(28, 27, 16, encoder_depth=2, width=32, depth=3, local=3, noise=2)
    assert forward_flop(network, 16, context) == counted(network, 16 + context)


def test_ratios_are_read_from_the_records_there_are(tmp_path, monkeypatch):
    monkeypatch.setattr(costs, "data_dir", lambda: tmp_path)
    assert costs.measured_ratios().empty
    details = {"ratio": "a / b", "process": "masked", "classes": 27, "medians": {"a": 2.0, "b": 1.0}}
    made = {"measured": {"hardware": "x"}}
    record = Record("one over two", 2.0, 1.5, 2.5, 5, "b", details, provenance=made)
    write_json(tmp_path / "results/bench_loop.json", {"page": "bench_loop", "records": [record.to_dict()]})
    (row,) = costs.measured_ratios().reset_index().to_dict("records")
    assert row["ratio"] == "2.00 [1.50, 2.50]" and row["rounds"] == 5 and row["machine"] == "x"
    assert row["measured"] == "one over two" and row["at"] == "process masked, classes 27"


@pytest.mark.parametrize("name", ["docstrings-masked-teacher", "docstrings-masked-dmmd-16"])
def test_an_estimate_is_a_recipes_cost(name):
    """The tolerance allows for the convolution and the noise projection, which an estimate leaves out."""
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
