"""Validation: a number to be minimised, from averaged players, on the validation split."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from dmmd_lite.denoisers.base import sequences_at_once
from dmmd_lite.metrics.judges import Judge
from dmmd_lite.metrics.suite import METRICS, evaluate_samples
from dmmd_lite.models.task import Task
from dmmd_lite.objectives import METHODS
from dmmd_lite.objectives.likelihood_bound import likelihood_bound
from dmmd_lite.sampling import sample
from dmmd_lite.utils.rng import generator_for
from dmmd_lite.worlds.base import World

Players = dict[str, nn.Module]
JUDGED = "gradient_moment"  # the validation that needs a judge
SAMPLED = ("frechet", "ngram_divergence", JUDGED, "valid_unique", "solved")  # metrics of samples
SEED = 1_000_003  # of the samples and of the noise on validation data
PUZZLES = 500  # of the validation split, for a student that solves them
SAMPLES, JUDGED_SAMPLES, SMOKE_SAMPLES, SMOKE_JUDGED_SAMPLES = 2000, 500, 128, 64
CORE_TOKENS = 2**19  # the maximum number of sampled tokens at the scales of CPUs, "laptop" and "desk"
IMAGES, IMAGE_TOKENS, SMOKE_IMAGE_TOKENS = 512, 2**20, 2**15  # maxima for the bound on images
SEQUENCES = 256  # validation sequences for the bound, other than images


def validator(task: Task, judge: Judge | None = None) -> Callable[[Players], float]:
    """Build the validation that a task's recipe names, a function of averaged players.

    judge: of the gradient moment. ValueError for a name that is none of `VALIDATIONS`.
    """
    name = task.recipe.validation
    if name not in VALIDATIONS:
        raise ValueError(f"validation: {name!r} is not allowed; choose from {list(VALIDATIONS)}")
    if name in SAMPLED:
        return partial(_validate_samples, task, judge)
    return partial(VALIDATIONS[name], task)


def validate_bound(task: Task, players: Players) -> float:
    """Estimate the likelihood bound of the averaged denoiser on validation data, in nats per token."""
    denoiser, world = players["denoiser"], task.world
    generator = _generator(denoiser)
    x = validation_data(task, generator)
    bounds = [
        likelihood_bound(denoiser, task.process, part, generator, times=8) for part in _batches(x, world)
    ]
    return float(torch.cat(bounds).mean() / world.length)


@torch.no_grad()
def _validate_likelihood(task: Task, players: Players) -> float:
    """Compute the nats per token of an autoregressive model on validation data."""
    model = players["model"]
    x = validation_data(task, _generator(model))
    return float(torch.cat([model.nll(part) for part in _batches(x, task.world)]).mean())


def _validate_samples(task: Task, judge: Judge | None, players: Players) -> float:
    """Measure samples of the averaged student in its own number of steps by the recipe's metric, whose sign
    is changed where more is better."""
    student, world, recipe = players[METHODS[task.recipe.role].student], task.world, task.recipe
    num, device = validation_num(recipe.scale, world, recipe.validation), next(student.parameters()).device
    options = {"generator": _generator(student), "device": device}
    if (condition := world.conditions(num, "valid")) is not None:
        options["held"], options["tokens"] = (part.to(device) for part in condition)
    tokens = sample(student, task.process, num, world.length, recipe.method.steps, **options).tokens
    (record,) = evaluate_samples(tokens, world, [recipe.validation], split="valid", judge=judge)
    return METRICS[recipe.validation].sign * record.value


VALIDATIONS = {
    "bound": validate_bound,
    "negative_log_likelihood": _validate_likelihood,
    **dict.fromkeys(SAMPLED, _validate_samples),
}


def validation_data(task: Task, generator: torch.Generator) -> Tensor:
    """Return validation sequences [n, L] on the generator's device, with the positions held that the recipe
    names.

    Images are the first ones of the split, 512 at most and fewer where they are large; other worlds give 256
    random sequences.
    """
    world = task.world
    if world.image_shape is not None and not task.recipe.holds:
        tokens = SMOKE_IMAGE_TOKENS if task.recipe.scale == "smoke" else IMAGE_TOKENS
        return world.split("valid")[: min(IMAGES, tokens // world.length)].to(generator.device)
    return task.draw(SEQUENCES, generator, "valid")


def validation_num(scale: str, world: World, metric: str = "") -> int:
    """Return how many samples a student is validated on by a metric."""
    if metric == JUDGED:
        return SMOKE_JUDGED_SAMPLES if scale == "smoke" else JUDGED_SAMPLES
    if scale == "smoke":
        return SMOKE_SAMPLES
    if "puzzles" in world.traits:
        return PUZZLES
    return min(SAMPLES, CORE_TOKENS // world.length) if scale in ("laptop", "desk") else SAMPLES


def _batches(x: Tensor, world: World) -> tuple[Tensor, ...]:
    return x.split(sequences_at_once(world.length, world.vocab_size))


def _generator(player: nn.Module) -> torch.Generator:
    return generator_for(next(player.parameters()).device, SEED)
