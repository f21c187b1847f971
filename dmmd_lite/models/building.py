"""Building what trains: a task's denoiser, and the method that trains it."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from dmmd_lite.denoisers.autoregressive import Autoregressive
from dmmd_lite.denoisers.base import Denoiser, NetworkDenoiser
from dmmd_lite.denoisers.exact import ExactDenoiser
from dmmd_lite.models.task import Task
from dmmd_lite.objectives import METHODS
from dmmd_lite.objectives.autoregressive import AutoregressiveObjective
from dmmd_lite.objectives.denoising import DenoisingObjective
from dmmd_lite.training.method import Method
from dmmd_lite.utils.weights import load_weights

NEW_INPUTS = ("noise_projection", "mixture_embedding")  # parts of a student's network that no start has


def build_denoiser(task: Task, network: nn.Module) -> Denoiser | Autoregressive:
    """Wrap a network as what the task trains: a denoiser, or an autoregressive model."""
    if task.process is None:
        return Autoregressive(network, task.world.vocab_size)
    return NetworkDenoiser(network, task.process, task.recipe.output)


def training_data(task: Task, batch: int, generator: torch.Generator) -> Tensor:
    """Draw clean tokens [batch, L] of the recipe's split; with blocks, up to the end of a random block."""
    x = task.draw(batch, generator, task.recipe.split)
    return task.process.cut(x, generator) if task.recipe.block else x


def build_method(
    task: Task,
    start: nn.Module | None,
    teacher: Denoiser | None,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> tuple[Method, str]:
    """Build the method of a task and name the player that becomes the model.

    Args:
    start: the denoiser whose weights the players begin with; None for fresh ones.
    teacher: the frozen teacher of a distillation. An exact one gets the probability floor of this recipe.
    seed: of the fresh weights.
    Errors: ValueError for a start of another network, and for a role that no method has.
    """
    recipe = task.recipe
    torch.manual_seed(seed)

    def fresh(noise: bool = True) -> Denoiser | Autoregressive:
        """A new denoiser, with the weights of `start` where it has them."""
        sizes = recipe if noise else replace(recipe, network={**recipe.network, "noise": 0})
        denoiser = build_denoiser(task, sizes.make_network(task.world)).to(device)
        if start is not None:
            weights = denoiser.state_dict().items()
            new = {key: value for key, value in weights if any(name in key for name in NEW_INPUTS)}
            try:
                load_weights(denoiser, {**new, **start.state_dict()})
            except ValueError as error:
                words = f"it must match that of {recipe.start!r} ({error})"
                raise ValueError(f"network: {recipe.network} is not allowed; {words}") from None
        return denoiser

    if task.process is None:
        return AutoregressiveObjective(fresh()), "model"
    if recipe.role == "teacher":
        exact = ExactDenoiser(task.world, task.process, recipe.floor) if recipe.fit_exact else None
        return DenoisingObjective(fresh(), task.process, recipe.loss, exact), "denoiser"
    spec = METHODS.get(recipe.role)
    if spec is None or teacher is None or recipe.method is None:
        raise ValueError(
            f"role: {recipe.role!r} is not allowed here; only {list(METHODS)} with a teacher and a method"
        )
    if isinstance(teacher, ExactDenoiser):
        teacher = ExactDenoiser(task.world, task.noise, recipe.floor)
    return spec.make(recipe.method, fresh, teacher, task.noise), spec.student
