"""A model of your own, from tokens or from a network to a student.

    tokens_world ──▶ fit_teacher ──┐
                  a network ──▶ adapt ──▶ distil ──▶ evaluate, save_pretrained

These are short ways through what the recipes use: `NetworkDenoiser`, `DenoisingObjective`, `DMMD` and the one
training loop. Every call that trains takes a folder, resumes there where it stopped, refuses the folder of
another training, and leaves the model there, as `save_pretrained` does. Models are named after what they are,
with a digest of what made them. Where the few arguments here are not enough, call `training.train` itself.
"""

import copy
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dmmd_lite.denoisers.base import NetworkDenoiser
from dmmd_lite.denoisers.conditioned import Conditioned
from dmmd_lite.models.model import Model
from dmmd_lite.models.pretrained import save_pretrained
from dmmd_lite.models.store import training_facts
from dmmd_lite.models.task import Task, task_of
from dmmd_lite.models.validation import validate_bound
from dmmd_lite.objectives import METHODS
from dmmd_lite.objectives.denoising import DenoisingObjective
from dmmd_lite.objectives.dmmd import DMMDSettings
from dmmd_lite.recipes.recipe import Recipe
from dmmd_lite.recipes.world_settings import LAPTOP, TEXT_LAYERS
from dmmd_lite.training.loop import train
from dmmd_lite.training.method import Method
from dmmd_lite.training.options import TrainingOptions
from dmmd_lite.training.state import rank_and_size
from dmmd_lite.utils.checks import Count, CountOrZero, PositiveOrZero, Seed, checked
from dmmd_lite.utils.files import sha256_of_json, weights_sha256
from dmmd_lite.utils.provenance import machine
from dmmd_lite.utils.tensors import Device
from dmmd_lite.utils.weights import half_precision, load_weights
from dmmd_lite.worlds.base import World

SCALE = "own"  # stands in the place of a recipe's scale
DIGITS = 8  # of the digest in a model's name


@checked
def fit_teacher(
    world: World,
    out: str | Path,
    process: str = "masked",
    *,
    network: dict[str, Any] | None = None,
    updates: Count = 2000,
    batch_size: Count = 128,
    lr: PositiveOrZero = 2e-3,
    holds: str | Callable = "",
    seed: Seed = 0,
    device: Device = "cpu",
) -> Model:
    """Train a diffusion model of a world by cross-entropy (equation 5) in the folder `out`.

    Args:
    process: "masked" or "uniform".
    network: keyword arguments of `Transformer`; None: a small one.
    updates, batch_size, lr: of the training; the rate falls as a cosine.
    holds: which positions are held, as for `distil`; "" for none.
    The averaged weights with the best bound on the validation split are kept. Errors: ValueError for what
    does not fit, and those of `train`.
    """
    options = TrainingOptions(
        updates,
        batch_size,
        {"denoiser": lr},
        decay="cosine",
        ema={"denoiser": 0.999},
        validate_every=max(1, updates // 10),
    )
    if network is None:
        network = LAPTOP if world.image_shape else {**LAPTOP, **TEXT_LAYERS, "positions": True}
    recipe = Recipe(
        f"{world.name}-{process}-teacher-own",  # `_train` adds a digest, as for a student
        SCALE,
        world.name,
        process,
        "teacher",
        network=network,
        validation="bound",
        training=options,
        holds="own" if callable(holds) else holds,
    )
    task = task_of(recipe, world, holds if callable(holds) else None)
    torch.manual_seed(seed)
    denoiser = NetworkDenoiser(recipe.make_network(world), task.process)
    method, validate = DenoisingObjective(denoiser, task.process), partial(validate_bound, task)
    return _train(method, "denoiser", task, out, seed, device, validate=validate)


@checked
def adapt(
    network: nn.Module, world: World, process: str = "masked", *, output: str = "posterior", name: str = ""
) -> Model:
    """Make a teacher of a trained network that is not one of ours; its weights are frozen.

    Args:
    network: (z [B, L], t [B]) to logits [B, L, V or more] on any device, with MASK = V in z if the noise is
    masked. It was trained to predict clean tokens from noise of the linear schedule, whose time t it may use
    or not.
    output: the distribution its logits describe (see `NetworkDenoiser`).
    name: of the model; by default it carries a digest of the weights.
    Errors: ValueError for logits of another shape.
    """
    name = name or f"{world.name}-{process}-adapted-{weights_sha256(network)[:DIGITS]}"
    recipe = Recipe(name, SCALE, world.name, process, "teacher", output=output)
    task = task_of(recipe, world)
    denoiser = NetworkDenoiser(network, task.process, output).eval().requires_grad_(False)
    device = next(network.parameters(), torch.empty(0)).device
    z = torch.full((2, world.length), task.process.num_symbols - 1, device=device)
    try:
        with torch.no_grad():
            found = tuple(network(z, torch.ones(2, device=device)).shape)
    except Exception as error:  # the network is not ours
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        words = f"network(z {list(z.shape)}, t [2]) ends in {reason}"
        raise ValueError(f"network: a {type(network).__name__} is not allowed; {words}") from error
    if len(found) != 3 or found[:2] != z.shape or found[2] < world.vocab_size:
        allowed = f"(batch, {world.length}, {world.vocab_size} or more)"
        raise ValueError(f"network: logits of shape {found} are not allowed; they must be {allowed}")
    return _as_model(task, denoiser, {})


@checked
def distil(
    teacher: Model,
    out: str | Path,
    steps: Count = 8,
    *,
    updates: Count = 1000,
    batch_size: Count = 64,
    lr: PositiveOrZero = 1e-3,
    settings: DMMDSettings | None = None,
    noise: CountOrZero | None = None,
    holds: str | Callable | None = None,
    seed: Seed = 0,
    device: Device = "cpu",
    switches: DMMDSettings | None = None,
) -> Model:
    """Distil a student of `steps` sampling steps from a teacher by D-MMD, in the folder `out`.

    Args:
    teacher: of `fit_teacher`, `adapt`, `load_model` or `from_pretrained`; the student learns from the
    teacher's world.
    lr: the generator's peak rate, the auxiliary's is twice that; both fall linearly. For large pretrained
    networks take 1e-5 or less.
    settings: other choices within the method.
    noise: channels of the student's input noise, by default 1 for images and 8 for sequences; a network that
    is not ours takes what its own `draw_noise` gives, if it has one.
    holds: which positions of the data are held while the student learns: a key of `worlds.holds.HOLDS`, or a
    function (x [B, L], generator) -> bool [B, L]; None: as for the teacher. The teacher may be unconditional
    under masked noise, where it knows what follows from held tokens.
    switches: the name of `settings` in version 0.1; it goes with the next version.
    The student's weights are float32, whatever those of the teacher are. A warning says if students of masked
    noise have no noise input. Errors: ValueError for a teacher that is no network, works in blocks or is a
    student; those of `train`.
    """
    if switches is not None:
        if settings is not None:
            raise ValueError("switches: not allowed beside settings, its new name; give settings alone")
        warnings.warn("distil: switches is now settings", FutureWarning, stacklevel=3)
        settings = switches
    world, theirs = teacher.world, teacher.denoiser
    if not isinstance(theirs, NetworkDenoiser) or teacher.recipe.block or teacher.recipe.method is not None:
        raise ValueError(
            f"teacher: {teacher.name!r} is not allowed; it must be a network, neither in blocks nor a student"
        )
    settings, ours = settings or DMMDSettings(steps, updates="fused"), teacher.recipe.network
    if settings.steps != steps:
        raise ValueError(f"settings: steps {settings.steps} is not allowed; the student is for {steps}")
    if noise and not ours:
        raise ValueError(
            f"noise: {noise} is not allowed for a network that is not ours; give it `draw_noise`"
        )
    channels = (1 if world.image_shape else 8) if noise is None else noise
    if teacher.process.absorbing and not (channels if ours else hasattr(theirs.network, "draw_noise")):
        words = "without which students of masked noise lose diversity (see the page coins)"
        give = "noise channels" if ours else "a method `draw_noise`"
        warnings.warn(f"distil: the network has no noise input, {words}; give it {give}", stacklevel=3)
    options = TrainingOptions(
        updates,
        batch_size,
        {"generator": lr, "auxiliary": 2 * lr},
        betas=(0.0, 0.99),
        decay="linear",
        ema={"generator": 0.998},
    )
    hold, holds = (holds, "own") if callable(holds) else (None, holds)
    holds = teacher.recipe.holds if holds is None else holds
    recipe = replace(
        teacher.recipe,
        name=f"{world.name}-{teacher.process.name}-dmmd-{steps}-own",
        role="dmmd",
        network={**ours, "noise": channels} if ours else {},
        start="",
        teacher="",
        method=settings,
        validation="",
        training=options,
        holds=holds,
    )
    task = task_of(recipe, world, hold)
    knowing = theirs.to(device)
    if recipe.holds and not teacher.process.holding:
        if not teacher.process.absorbing:
            words = f"{teacher.name!r} was made without held positions; under masked noise alone that will do"
            raise ValueError(f"holds: {recipe.holds!r} is not allowed; {words}")
        knowing = Conditioned(knowing, task.noise)

    def fresh(noise: bool = True) -> NetworkDenoiser:
        network = copy.deepcopy(theirs.network)
        if ours:
            network = replace(recipe, network={**ours, "noise": channels * noise}).make_network(world)
            load_weights(network, {**network.state_dict(), **theirs.network.state_dict()})
        if half_precision(network):
            network = network.float()
        return NetworkDenoiser(network.requires_grad_(True), task.noise, recipe.output)

    torch.manual_seed(seed)
    spec = METHODS[recipe.role]
    method = spec.make(settings, fresh, knowing, task.noise)
    origin = {"teacher": teacher.name, "teacher_sha256": weights_sha256(theirs.network)}
    return _train(method, spec.student, task, out, seed, device, origin=origin)


def _train(
    method: Method,
    player: str,
    task: Task,
    out: str | Path,
    seed: int,
    device: torch.device | str,
    *,
    origin: dict | None = None,
    validate: Callable | None = None,
) -> Model:
    """Train a method on a task's data and return the averaged `player` as a model, which is saved in the
    folder as by `save_pretrained`. origin: of its weights."""
    origin, recipe, world = origin or {}, task.recipe, task.world
    world.prepare({"train", "valid"} if validate else {"train"})
    made = machine(device)
    identity = {**task.identity(), **origin}
    digest = sha256_of_json([recipe.to_dict(), identity, seed])[:DIGITS]
    task = replace(task, recipe=replace(recipe, name=f"{recipe.name}-{digest}"))
    result = train(
        method,
        partial(task.draw, split="train"),
        recipe.training,
        out,
        seed=seed,
        device=device,
        validate=validate,
        identity=identity,
    )
    denoiser = result.averaged[player].eval().requires_grad_(False)
    about = {
        **origin,
        "training_seed": seed,
        "training": training_facts(recipe, result),
        "provenance": {**made, **world.provenance},
    }
    model = _as_model(task, denoiser, about)
    if rank_and_size()[0] == 0:  # under torchrun all processes come here
        save_pretrained(model, Path(out))
    return model


def _as_model(task: Task, denoiser: NetworkDenoiser, about: dict) -> Model:
    facts = {
        "parameters": sum(p.numel() for p in denoiser.network.parameters()),
        "sha256": weights_sha256(denoiser.network),
    }
    name, weights = task.recipe.name, "ema" if about else "as given"
    return Model(name, task.recipe, denoiser, task.process, task.world, weights, {**about, **facts})
