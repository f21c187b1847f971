"""What training a recipe takes, counted and not measured."""

import torch

from dmmd_lite.methods import METHODS
from dmmd_lite.networks import Transformer
from dmmd_lite.recipe import Recipe
from dmmd_lite.worlds import get_world


def cost(recipe: Recipe) -> dict[str, float]:
    """What training a recipe takes: parameters of one network, tokens seen, operations, hours and memory.

    A forward pass is 2 operations a parameter and position, a backward pass twice that. A D-MMD step
    costs 5 forward units when players alternate (mean of generator 3+1+1 and auxiliary 1+1+3) and 7 when
    one draw serves both; a teacher step 3. Attention itself and validation are left out.

    hours_at_400_tflops: at 4e14 operations a second, two fifths of an H200's dense bfloat16 peak, which only
    wide networks reach; other devices in proportion. memory_gb: in float32, four copies of every trained
    network (weights, gradient, two moments), one of every other one kept, and a rough estimate of
    activations, for one process: 30 values a channel, block and position and 4 a logit for each network
    that keeps a gradient, and in D-MMD 3 more a logit (measured on a CPU).
    """
    if recipe.role == "exact":
        return dict.fromkeys(("parameters", "tokens", "flop", "hours_at_400_tflops", "memory_gb"), 0)
    world = get_world(recipe.world)
    with torch.device("meta"):  # shapes without memory
        network = recipe.make_network()
    parameters = sum(p.numel() for p in network.parameters())
    training = recipe.training
    sequences = training.steps * training.batch_size
    if recipe.block:
        length = (recipe.block + world.length) / 2  # of a sequence in training, averaged over its last blocks
        encoder = sum(p.numel() for p in network.encoder.parameters())
        work = (parameters - encoder) * recipe.block + encoder * (length - recipe.block)
        places = len(network.blocks) * recipe.block + len(network.encoder) * (world.length - recipe.block)
    else:
        length = world.length
        symbols = 1 if world.image_shape is None else world.image_shape[2] * network.stem.patch**2  # a vector
        work = parameters * (length // symbols)
        places = len(network.blocks) * (length // symbols)
    kind = METHODS.get(recipe.role)
    units = kind.forwards(recipe.method) if kind else 3
    flop = int(units * 2 * work * sequences)
    frozen = bool(recipe.teacher) and not recipe.teacher.endswith("-exact")
    copies = 4 * len(training.lr) + len(training.ema) + frozen + (kind.copies if kind else 0)
    with_gradient = kind.tracked(recipe.method) if kind else 1
    in_blocks = 30 * network.modulation.out_features / 2 * places
    logits = world.length * world.vocab_size
    a_sequence = with_gradient * (in_blocks + 4 * logits) + (3 * logits if kind else 0)
    activations = a_sequence * training.batch_size / training.accumulation
    return {
        "parameters": parameters,
        "tokens": int(sequences * length),
        "flop": flop,
        "hours_at_400_tflops": flop / 4e14 / 3600,
        "memory_gb": 4 * (copies * parameters + activations) / 1e9,
    }


def estimate(
    role: str,
    *,
    width: int,
    depth: int,
    tokens: int,
    classes: int,
    batch_size: int,
    steps: int,
    mlp_ratio: int = 4,
    tflops: float = 400,
) -> dict[str, float]:
    """Parameters, operations and hours of a run with a network of your own shape, counted as by `cost`.

    role: "teacher" or "dmmd" (both players from one draw). tflops: 1e12 operations a second that the device
    keeps up. ValueError for another role.
    """
    units = {"teacher": 3, "dmmd": 7}
    if role not in units:
        raise ValueError(f"role: {role!r} is not allowed; choose one of {tuple(units)}")
    with torch.device("meta"):
        network = Transformer(
            classes + 1, classes, tokens, width=width, depth=depth, heads=1, mlp_ratio=mlp_ratio
        )
    parameters = sum(p.numel() for p in network.parameters())
    flop = units[role] * 2 * parameters * tokens * batch_size * steps
    return {"parameters": parameters, "flop": flop, "hours": flop / (tflops * 1e12) / 3600}
