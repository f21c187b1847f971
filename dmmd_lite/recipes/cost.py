"""Training costs of recipes, counted and not measured."""

from collections.abc import Iterable

import torch
from torch import nn

from dmmd_lite.networks.stems import ImageStem
from dmmd_lite.networks.transformer import Block, BlockTransformer, Transformer
from dmmd_lite.objectives import METHODS
from dmmd_lite.recipes.recipe import Recipe
from dmmd_lite.utils.checks import check_choice
from dmmd_lite.worlds import get_world

COSTS = ("parameters", "tokens", "flop", "hours_at_400_tflops", "core_hours", "memory_gb")
CORE_RATE = 4e10  # operations a second of one CPU core in training, measured at half a million parameters


def cost(recipe: Recipe) -> dict[str, float]:
    """Count what training takes: parameters of one network, tokens seen, operations, hours and memory.

    A forward pass is counted by `forward_flop`, a backward pass is two of them. A D-MMD step costs 5 forward
    units when players alternate (mean of generator 3+1+1 and auxiliary 1+1+3) and 7 when one sample serves
    both; a teacher step costs 3. Heads count as if evaluated at every position, once for each network: in
    fact large ones skip positions without noise, and the generator's is evaluated once more, after its
    sample is drawn. Validation is left out.

    "hours_at_400_tflops" is at 4e14 operations per second, two fifths of an H200's dense bfloat16 peak, which
    only wide networks reach; other devices are in proportion. "core_hours" is at `CORE_RATE`, which networks
    of two million parameters surpass by a half. "memory_gb" is for one process in float32: four copies of
    every trained network (weights, gradient, two moments), one of every other network kept, and a rough
    estimate of activations (measured on a CPU): 30 values per channel, block and position and 4 per logit for
    each network that keeps a gradient, and for distillation 3 more per logit.
    """
    if recipe.role == "exact":
        return dict.fromkeys(COSTS, 0)
    world = get_world(recipe.world)
    with torch.device("meta"):  # shapes without memory
        network = recipe.make_network()
    parameters = sum(p.numel() for p in network.parameters())
    training = recipe.training
    sequences = training.steps * training.batch_size
    if recipe.block:
        length = (recipe.block + world.length) / 2  # mean length in training, where any block may be the last
        contexts = range(0, world.length, recipe.block)
        forward = sum(forward_flop(network, recipe.block, c) for c in contexts) / len(contexts)
        places = len(network.blocks) * recipe.block + len(network.encoder) * (world.length - recipe.block)
    else:
        length = world.length
        # Symbols per vector: one in a sequence, those of a patch in an image.
        symbols = 1 if world.image_shape is None else world.image_shape[2] * network.stem.patch**2
        places = len(network.blocks) * (length // symbols)
        forward = forward_flop(network, length // symbols)
    spec = METHODS.get(recipe.role)
    flop = int((spec.forwards(recipe.method) if spec else 3) * forward * sequences)
    frozen = bool(recipe.teacher) and not recipe.teacher.endswith("-exact")
    copies = 4 * len(training.lr) + len(training.ema) + frozen + (spec.copies if spec else 0)
    with_gradient = spec.tracked(recipe.method) if spec else 1
    in_blocks = 30 * network.modulation.out_features / 2 * places
    logits = world.length * world.vocab_size
    per_sequence = with_gradient * (in_blocks + 4 * logits) + (3 * logits if spec else 0)
    activations = per_sequence * training.batch_size / training.accumulation
    return {
        "parameters": parameters,
        "tokens": int(sequences * length),
        "flop": flop,
        "hours_at_400_tflops": flop / 4e14 / 3600,
        "core_hours": flop / CORE_RATE / 3600,
        "memory_gb": 4 * (copies * parameters + activations) / 1e9,
    }


def forward_flop(network: Transformer, places: int, context: int = 0) -> int:
    """Count the operations of a forward pass on one sequence.

    Every multiplication of matrix products, convolutions and attention counts as two operations. Look-ups in
    tables and elementwise operations are left out.

    Args:
    places: number of vectors: symbols, or patches of an image.
    context: number of known symbols before them, which the encoder of a `BlockTransformer` reads.
    """

    def once(module: nn.Module) -> int:
        """Count the operations of a module's matrices on one vector."""
        return 2 * sum(p.numel() for p in module.parameters() if p.dim() > 1)

    def stack(blocks: Iterable[Block], changed: int, read: int) -> int:
        """Count the operations of blocks that change some vectors and attend to `read` of them."""
        total = 0
        for block in blocks:
            total += once(block.qkv) * read + (once(block.out) + once(block.mlp)) * changed
            total += once(block.modulation) + 4 * block.qkv.in_features * changed * read
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
    """Count parameters, operations and hours of a run with a network of any shape, as `cost` does.

    Args:
    role: "teacher" or "dmmd" (both players learn from one sample).
    tokens, classes: length and vocabulary of the sequences.
    tflops: 1e12 operations per second that the device sustains.
    Errors: ValueError for another role.
    """
    units = {"teacher": 3, "dmmd": 7}
    check_choice("role", role, units)
    with torch.device("meta"):
        network = Transformer(
            classes + 1, classes, tokens, width=width, depth=depth, heads=1, mlp_ratio=mlp_ratio
        )
    parameters = sum(p.numel() for p in network.parameters())
    flop = units[role] * forward_flop(network, tokens) * batch_size * steps
    return {"parameters": parameters, "flop": flop, "hours": flop / (tflops * 1e12) / 3600}
