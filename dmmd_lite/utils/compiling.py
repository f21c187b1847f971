"""Compiling the layers of a network with `torch.compile`."""

from torch import nn


def compile_layers(module: nn.Module, dynamic: bool = False) -> int:
    """Compile the layers of a network that are in a `ModuleList`, and return their number.

    Equal layers share a small graph per kind of shape, which is compiled when the shape is first met.
    dynamic: True for one graph for batches of any size but 1, as in sampling; training has one size.
    """
    layers = [layer for found in module.modules() if isinstance(found, nn.ModuleList) for layer in found]
    for layer in layers:
        layer.compile(dynamic=dynamic)
    return len(layers)
