"""What training a recipe takes, counted and not measured."""

from collections.abc import Iterable

import torch
from torch import nn

from dmmd_lite.networks.stems import ImageStem
from dmmd_lite.networks.transformer import Block, BlockTransformer, Transformer
from dmmd_lite.objectives import METHODS
from dmmd_lite.recipes.recipe import Recipe
from dmmd_lite.worlds import get_world


def cost(recipe: Recipe) -> dict[str, float]:
    """What training a recipe takes: parameters of one network, tokens seen, operations, hours and memory.

    A forward pass is counted by `forward_flop`, a backward pass is two of them. A D-MMD step costs 5 forward
    units when players alternate (mean of generator 3+1+1 and auxiliary 1+1+3) and 7 when one draw serves
    both; a teacher step 3. Heads count as if evaluated at every position, once for each network: large ones
    are left out where nothing is noise, and the generator's is asked once more, after its draw. Validation is
    left out.

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
        contexts = range(0, world.length, recipe.block)
        forward = sum(forward_flop(network, recipe.block, c) for c in contexts) / len(contexts)
        places = len(network.blocks) * recipe.block + len(network.encoder) * (world.length - recipe.block)
    else:
        length = world.length
        symbols = 1 if world.image_shape is None else world.image_shape[2] * network.stem.patch**2  # a vector
        places = len(network.blocks) * (length // symbols)
        forward = forward_flop(network, length // symbols)
    kind = METHODS.get(recipe.role)
    units = kind.forwards(recipe.method) if kind else 3
    flop = int(units * forward * sequences)
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


def forward_flop(network: Transformer, places: int, context: int = 0) -> int:
    """Operations of a forward pass on one sequence of so many vectors (symbols, or patches of an image), for
    a network with an encoder behind `context` known symbols: two for every multiplication of matrix products,
    convolutions and attention. Look-ups in tables, and what is done number by number, are left out."""

    def once(module: nn.Module) -> int:
        return 2 * sum(p.numel() for p in module.parameters() if p.dim() > 1)

    def stack(blocks: Iterable[Block], own: int, read: int) -> int:
        """Of blocks that change `own` vectors and attend to `read`."""
        total = 0
        for block in blocks:
            total += once(block.qkv) * read + (once(block.out) + once(block.mlp)) * own
            total += once(block.modulation) + 4 * block.qkv.in_features * own * read
            total += once(block.mix) * (read + block.causal) if block.local else 0
        return total

    stem = network.stem
    total = stack(network.blocks, places, places + context) + once(network.time) + once(network.modulation)
    total += once(stem.head) * places + (once(stem.merge) * places if isinstance(stem, ImageStem) else 0)
    if network.mixture:
        total += once(network.mixture_embedding) + once(network.noise_projection)
    elif network.noise:
        total += once(network.noise_projection) * places
    if isinstance(network, BlockTransformer):
        total += stack(network.encoder, context, context) + once(network.time)
    return total


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
    flop = units[role] * forward_flop(network, tokens) * batch_size * steps
    return {"parameters": parameters, "flop": flop, "hours": flop / (tflops * 1e12) / 3600}
