"""Compiling the layers of a network with `torch.compile`."""

from torch import nn


def compile_layers(module: nn.Module, dynamic: bool = False) -> int:
    """Let `torch.compile` have the layers of a network, those in a `ModuleList`, and say how many there are.
    Layers alike share a small graph for each kind of shape they meet, made when they meet it. dynamic: one
    for batches of any size but 1, as sampling has them; training has one size."""
    layers = [layer for found in module.modules() if isinstance(found, nn.ModuleList) for layer in found]
    for layer in layers:
        layer.compile(dynamic=dynamic)
    return len(layers)
