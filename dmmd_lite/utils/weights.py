"""Weights of networks: loaded by name, and checked for their precision."""

import torch
from torch import Tensor, nn

COMPILED = "_orig_mod."  # what `torch.compile` puts before the names of a module's weights
OPTIONAL = "num_batches_tracked"  # a counter of batch norms that old files lack and no result depends on
SHOWN = 3  # weights that an error names


def load_weights(module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Load tensors into a module by their names, whether or not it or they come from `torch.compile`.

    Of tied weights one name suffices. Errors: ValueError, before anything is loaded, naming the first tensors
    that are missing, left over or of another shape.
    """
    state = module.state_dict()
    names = {key.replace(COMPILED, ""): key for key in state}
    tensors = {key.replace(COMPILED, ""): value for key, value in tensors.items()}
    tied = {state[names[key]].data_ptr() for key in tensors.keys() & names.keys()}
    missing = [key for key in names if key not in tensors and state[names[key]].data_ptr() not in tied]
    missing = [key for key in missing if not key.endswith(OPTIONAL)]
    wrong = [f"{key} is missing" for key in missing]
    wrong += [f"{key} is left over" for key in tensors if key not in names]
    for key in [key for key in tensors if key in names]:
        given, needed = tuple(tensors[key].shape), tuple(state[names[key]].shape)
        if given != needed:
            wrong.append(f"{key} has the shape {given}, not {needed}")
    if wrong:
        more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise ValueError(", ".join(wrong[:SHOWN]) + more)
    module.load_state_dict({names[key]: value for key, value in tensors.items()}, strict=False)


def half_precision(module: nn.Module) -> str | None:
    """Return the name of a module's first parameter of less than 32 bits, with its type; None without one."""
    for key, value in module.named_parameters():
        if value.is_floating_point() and torch.finfo(value.dtype).bits < 32:
            return f"{key} ({str(value.dtype).removeprefix('torch.')})"
    return None
