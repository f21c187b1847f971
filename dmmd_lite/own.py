"""A model of your own, from tokens or from a network to a student.

    tokens_world ──▶ fit_teacher ──┐
                  a network ──▶ adapt ──▶ distil ──▶ evaluate, save_pretrained

Short ways through what the recipes use: `NetworkDenoiser`, `TeacherTraining`, `DMMD` and the one training
loop. Every call that trains takes a folder, goes on there where it stopped, and refuses the folder of another
one. Where the few arguments here are not enough, call `training.train` itself.
"""

import copy
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from dmmd_lite.denoisers import NetworkDenoiser
from dmmd_lite.methods import METHODS
from dmmd_lite.objectives import Method
from dmmd_lite.objectives.dmmd import Switches
from dmmd_lite.objectives.teacher import TeacherTraining
from dmmd_lite.recipe import Recipe
from dmmd_lite.records import machine
from dmmd_lite.sizes import LAPTOP, NEAR
from dmmd_lite.store import Model, process_of, validate_bound, weights_sha256
from dmmd_lite.training import Options, train
from dmmd_lite.worlds.base import World
from dmmd_lite.worlds.own import tokens_world

__all__ = ["adapt", "distil", "fit_teacher", "tokens_world"]

SCALE = "own"  # in the place of a recipe's scale


def fit_teacher(
    world: World,
    out: str | Path,
    process: str = "masked",
    *,
    network: dict | None = None,
    updates: int = 2000,
    batch_size: int = 128,
    lr: float = 2e-3,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Model:
    """A diffusion model of a world, trained by cross-entropy (equation 5) in the folder `out`.

    process: "masked" or "uniform". network: keyword arguments of `Transformer`, by default a small one.
    updates, batch_size, lr: of the training; the rate falls as a cosine. The averaged weights with the best
    bound on the validation split are kept. Errors: ValueError for what does not fit, and those of `train`.
    """
    options = Options(
        updates,
        batch_size,
        {"denoiser": lr},
        decay="cosine",
        ema={"denoiser": 0.999},
        validate_every=max(1, updates // 10),
    )
    if network is None:
        network = LAPTOP if world.image_shape else {**LAPTOP, **NEAR, "positions": True}
    recipe = Recipe(
        f"{world.name}-{process}-teacher-own",
        SCALE,
        world.name,
        process,
        "teacher",
        network=network,
        validation="bound",
        training=options,
    )
    noise = process_of(recipe, world)
    torch.manual_seed(seed)
    method = TeacherTraining(NetworkDenoiser(recipe.make_network(world), noise), noise)
    validate = partial(validate_bound, recipe, world, noise)
    return _train(method, "denoiser", recipe, world, out, seed, device, validate=validate)


def adapt(
    network: nn.Module, world: World, process: str = "masked", *, output: str = "posterior", name: str = ""
) -> Model:
    """A trained network that is not ours as a teacher; its weights are frozen.

    network: (z [B, L], t [B]) to logits [B, L, V or more] on any device, with MASK = V in z if the noise is
    masked. It was trained to predict clean tokens from noise of the linear schedule, whose time t it may use
    or not. output: the law its logits describe (see `NetworkDenoiser`). ValueError for logits of other shape.
    """
    recipe = Recipe(
        name or f"{world.name}-{process}-adapted", SCALE, world.name, process, "teacher", output=output
    )
    noise = process_of(recipe, world)
    denoiser = NetworkDenoiser(network, noise, output).eval().requires_grad_(False)
    device = next(network.parameters(), torch.empty(0)).device
    z = torch.full((2, world.length), noise.num_symbols - 1, device=device)
    with torch.no_grad():
        found = tuple(network(z, torch.ones(2, device=device)).shape)
    if len(found) != 3 or found[:2] != z.shape or found[2] < world.vocab_size:
        allowed = f"(batch, {world.length}, {world.vocab_size} or more)"
        raise ValueError(f"network: logits of shape {found} are not allowed; they must be {allowed}")
    return _as_model(recipe, denoiser, world, {})


def distil(
    teacher: Model,
    out: str | Path,
    steps: int = 8,
    *,
    updates: int = 1000,
    batch_size: int = 64,
    lr: float = 1e-3,
    switches: Switches | None = None,
    noise: int | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Model:
    """A student of `steps` sampling steps, distilled from a teacher by D-MMD in the folder `out`.

    teacher: of `fit_teacher`, `adapt`, `load_model` or `from_pretrained`; the student learns from the
    teacher's world. lr: the generator's peak rate, the auxiliary's is twice that; both fall linearly. For
    large pretrained networks take 1e-5 or less. switches: other choices within the method. noise: channels of
    the student's input noise, by default 1 for images and 8 for sequences; a network that is not ours takes
    what its own `draw_noise` gives, if it has one. Errors: ValueError for a teacher that is no network or
    works in blocks or is a student; those of `train`.
    """
    world, theirs = teacher.world, teacher.denoiser
    if not isinstance(theirs, NetworkDenoiser) or teacher.recipe.block or teacher.recipe.method is not None:
        raise ValueError(
            f"teacher: {teacher.name!r} is not allowed; it must be a network, neither in blocks nor a student"
        )
    settings, ours = switches or Switches(steps, updates="fused"), teacher.recipe.network
    if settings.steps != steps:
        raise ValueError(f"switches: steps {settings.steps} is not allowed; the student is for {steps}")
    if noise and not ours:
        raise ValueError(
            f"noise: {noise} is not allowed for a network that is not ours; give it `draw_noise`"
        )
    channels = (1 if world.image_shape else 8) if noise is None else noise
    options = Options(
        updates,
        batch_size,
        {"generator": lr, "auxiliary": 2 * lr},
        betas=(0.0, 0.99),
        decay="linear",
        ema={"generator": 0.998},
    )
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
    )

    def fresh(noise: bool = True) -> NetworkDenoiser:
        network = copy.deepcopy(theirs.network)
        if ours:
            network = replace(recipe, network={**ours, "noise": channels * noise}).make_network(world)
            network.load_state_dict({**network.state_dict(), **theirs.network.state_dict()})
        return NetworkDenoiser(network.requires_grad_(True), teacher.process, recipe.output)

    torch.manual_seed(seed)
    kind = METHODS[recipe.role]
    method = kind.make(settings, fresh, theirs.to(device), teacher.process)
    origin = {"teacher": teacher.name, "teacher_sha256": weights_sha256(theirs.network)}
    return _train(method, kind.student, recipe, world, out, seed, device, origin=origin)


def _train(
    method: Method,
    player: str,
    recipe: Recipe,
    world: World,
    out: str | Path,
    seed: int,
    device: torch.device | str,
    *,
    origin: dict | None = None,
    validate: Callable | None = None,
) -> Model:
    """Train a method on a world's data; the averaged `player` as a model. origin: what it rests on."""
    origin = origin or {}
    world.prepare({"train", "valid"} if validate else {"train"})
    what = [recipe.to_dict(), world.provenance, origin, seed]
    identity = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
    made = machine(device)
    result = train(
        method,
        lambda batch, generator: world.sample(batch, generator),
        recipe.training,
        Path(out),
        seed=seed,
        device=device,
        validate=validate,
        identity=identity,
    )
    denoiser = result.averaged[player].eval().requires_grad_(False)
    about = {
        **origin,
        "training_seed": seed,
        "training": {
            "steps": result.steps,
            "seconds": round(result.seconds, 1),
            "best_step": result.best_step,
            "validation": recipe.validation,
            "best_value": result.best_value,
        },
        "provenance": {**made, **world.provenance},
    }
    return _as_model(recipe, denoiser, world, about)


def _as_model(recipe: Recipe, denoiser: NetworkDenoiser, world: World, about: dict) -> Model:
    facts = {
        "parameters": sum(p.numel() for p in denoiser.network.parameters()),
        "sha256": weights_sha256(denoiser.network),
    }
    weights = "ema" if about else "as given"
    return Model(recipe.name, recipe, denoiser, process_of(recipe, world), world, weights, {**about, **facts})
