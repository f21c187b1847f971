"""From a name to a trained model: found among the released ones or in the cache, else trained now.

Released models of seed 0 lie in `data/models/`. Others are looked up in the cache folder and trained there if
they are missing, by one process at a time.
"""

import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from dmmd_lite.denoisers.base import Denoiser
from dmmd_lite.denoisers.exact import ExactDenoiser
from dmmd_lite.metrics.features import load_features
from dmmd_lite.metrics.judges import (
    CHAIN,
    HUGGING_FACE,
    Judge,
    chain_judge,
    check_symbols,
    transformers_judge,
)
from dmmd_lite.models.building import build_method, training_data
from dmmd_lite.models.judging import check_autoregressive, default_judge, model_judge
from dmmd_lite.models.model import Model
from dmmd_lite.models.pretrained import CONFIG, from_pretrained
from dmmd_lite.models.public import from_public
from dmmd_lite.models.store import MODEL, read_facts, read_model, save_model
from dmmd_lite.models.task import Task, task_of
from dmmd_lite.models.validation import JUDGED, validator
from dmmd_lite.recipes.catalogue import get_recipe, judge_of
from dmmd_lite.recipes.recipe import Recipe
from dmmd_lite.training.loop import train
from dmmd_lite.training.method import Method
from dmmd_lite.training.state import check_checkpoint, rank_and_size
from dmmd_lite.utils.checks import Seed, check, checked
from dmmd_lite.utils.files import check_folder, folder_lock, read_json, sha256_of_json
from dmmd_lite.utils.paths import cache_dir, data_dir
from dmmd_lite.utils.provenance import machine
from dmmd_lite.utils.tensors import Device
from dmmd_lite.worlds import get_world
from dmmd_lite.worlds.base import World


@checked
def load_model(name: str, scale: str | None = None, seed: Seed = 0, device: Device = "cpu") -> Model:
    """Load the model of a recipe's name, or of a folder: of `train`, of `distil` or `fit_teacher`, of
    `save_pretrained`, or of a published checkpoint (`from_public`).

    A recipe's model comes from `data/models/` (seed 0), else from the cache, else it is trained into the
    cache now. scale: of a recipe's name; None: that of the models that ship. ValueError for an unknown name
    or a damaged file.
    """
    folder = _folder_of(name)
    return _read_folder(name, folder, device) if folder else model_of(recipe_of(name, scale), seed, device)


@checked
def model_of(recipe: Recipe, seed: Seed = 0, device: Device = "cpu") -> Model:
    """Load the model of a recipe, which may have been changed; found or trained as by `load_model`."""
    if recipe.role == "exact":
        task = task_of(recipe)
        exact = ExactDenoiser(task.world, task.process, recipe.floor)
        return Model(recipe.name, recipe, exact, task.process, task.world, "exact", {})
    path = released_path(recipe, seed)
    if path is None:
        folder = cached_folder(recipe, seed)
        rank, size = rank_and_size()  # under torchrun, one process holds the lock and all of them train
        lock = folder_lock(folder.parent, f"{folder.name}.lock", wait=True)
        with lock if rank == 0 else nullcontext():
            missing = torch.tensor(int(not (folder / f"{MODEL}.json").is_file()), device=device)
            if size > 1:
                dist.broadcast(missing, 0)
            if missing:
                train_recipe(recipe, folder, seed=seed, device=device)
        path = folder / MODEL
    return read_model(path, device)


@checked
def recipe_of(name: str, scale: str | None = None) -> Recipe:
    """Return the recipe of what `load_model` would load, without loading or training anything."""
    folder = _folder_of(name)
    if folder is None:
        return get_recipe(name, scale)
    path = folder / MODEL
    if path.with_suffix(".json").is_file():
        return read_facts(path)["recipe"]
    return _read_folder(name, folder, "cpu").recipe


@checked
def load_judge(name: str | None, world: World, scale: str = "laptop", device: Device = "cpu") -> Judge:
    """Load the judge called `name` (None: the world's own) for samples of `world`.

    name: "chain"; a recipe or a folder of an autoregressive model, as for `load_model`; or "hf:" and a
    `transformers` model. ValueError for another model, or one that reads other symbols than the world's.
    """
    name = default_judge(world) if name is None else name
    if name == CHAIN:
        judge = chain_judge(world if "chain" in world.traits else get_world("markov"), device)
    elif name.startswith(HUGGING_FACE):
        judge = transformers_judge(name.removeprefix(HUGGING_FACE), device)
    else:
        recipe = recipe_of(name, scale)
        check_autoregressive(recipe)
        check_symbols(name, get_world(recipe.world).vocab_size, world)
        judge = model_judge(load_model(name, scale, device=device))
    check_symbols(judge.name, judge.vocab_size, world)
    return judge


def released_path(recipe: Recipe, seed: int) -> Path | None:
    """Return the path (without ending) of the released model of this recipe and seed, compiled or not; None
    where there is none."""
    path = data_dir() / "models" / recipe.name
    if seed != 0 or recipe.training is None or not path.with_suffix(".json").is_file():
        return None
    released = read_facts(path)["recipe"]
    compiled = replace(recipe.training, compile=released.training.compile)
    return path if released == replace(recipe, training=compiled) else None


def cached_folder(recipe: Recipe, seed: int) -> Path:
    """Return where the cache keeps a training; the name carries a hash of all recipes it rests on."""
    return cache_dir() / "models" / f"{recipe.name}-{recipe.scale}-seed{seed}-{fingerprint(recipe)[:12]}"


def fingerprint(recipe: Recipe) -> str:
    """Compute the SHA-256 of what a recipe says beyond the defaults, and of the recipes it rests on."""
    values = recipe.to_dict()
    given = {f.name: values[f.name] for f in fields(Recipe) if values[f.name] not in (f.default, {})}
    for part in given.keys() & {"method", "training"}:
        given[part] = {key: value for key, value in given[part].items() if value is not None}
    others = [recipe.start, recipe.teacher]
    if recipe.validation == JUDGED:
        others.append(judge_of(recipe.world))
    return sha256_of_json([given, *(fingerprint(get_recipe(name, recipe.scale)) for name in others if name)])


def method_of(task: Task, seed: int = 0, device: torch.device | str = "cpu") -> tuple[Method, str]:
    """Build the method of a task with its start and teacher loaded, and name the player that becomes the
    model. Fresh weights are seeded after loading, which may train and so consume random numbers."""
    recipe = task.recipe
    loaded = (
        load_model(name, recipe.scale, device=device).denoiser if name else None
        for name in (recipe.start, recipe.teacher)
    )
    return build_method(task, *loaded, seed, device)


def validator_of(task: Task, device: torch.device | str = "cpu") -> Callable | None:
    """Build the validation of a task's recipe, with its judge or features loaded, so that what is missing is
    reported before any work; None where the recipe has no validation."""
    recipe, judge = task.recipe, None
    if not recipe.validation:
        return None
    if recipe.validation == JUDGED:
        judge = load_judge(judge_of(recipe.world), task.world, recipe.scale, device)
    elif recipe.validation == "frechet":
        load_features(task.world)
    return validator(task, judge)


@checked
def train_recipe(
    recipe: Recipe,
    out: str | Path,
    *,
    seed: Seed = 0,
    device: Device = "cpu",
    validate: Callable[[dict[str, nn.Module]], float] | None = None,
) -> Path:
    """Train a recipe in the folder `out`, resuming where an earlier call stopped, and save the model there.

    Start and teacher models are loaded first, with seed 0. validate(averaged players) replaces the recipe's
    own validation. Returns the model's path without ending. Errors: ValueError for a recipe that has nothing
    to train or names an unknown validation, and those of `train`.
    """
    if recipe.role == "exact" or recipe.training is None:
        raise ValueError(f"recipe: {recipe.name!r} is not allowed; it has nothing to train")
    task = task_of(recipe)
    if recipe.validation:
        validator(task)  # an unknown name is refused before any data are read
    rank, processes = rank_and_size()
    judge = get_recipe(judge_of(recipe.world), recipe.scale) if recipe.validation == JUDGED else None
    check_folder("out", out)
    with torch.device("meta"):  # settings that do not fit are refused before a teacher is trained
        build_method(task, None, Denoiser(), device="meta")
    task.world.prepare({recipe.split, "valid"} if recipe.validation else {recipe.split})
    with folder_lock(out) if rank == 0 else nullcontext():
        identity = {**task.identity(), "judge": judge and fingerprint(judge)}
        # A folder of another training is refused before a missing start or teacher is trained.
        check_checkpoint(out, recipe.training, {**identity, "seed": seed})
        validate = validate or validator_of(task, device)
        method, player = method_of(task, seed, device)
        made = machine(device)
        data, options = partial(training_data, task), {"seed": seed, "device": device, "validate": validate}
        result = train(method, data, recipe.training, out, identity=identity, **options)
        if rank == 0:
            save_model(out / MODEL, task, result, player, seed, made)
    if processes > 1:
        dist.barrier()
    return out / MODEL


def _read_folder(name: str, folder: Path, device: torch.device | str) -> Model:
    """Load the model of a folder, whoever wrote it. ValueError, with its `name`, for one without a model."""
    if (folder / f"{MODEL}.json").is_file():
        return read_model(folder / MODEL, device)
    if not (folder / CONFIG).is_file():
        words = f"the folder holds neither {MODEL}.json nor {CONFIG}"
        raise ValueError(f"model: {str(name)!r} is not allowed; {words}")
    config = read_json(folder / CONFIG)
    if isinstance(config, dict) and "library" in config:
        return from_pretrained(folder, device=device)
    model = from_public(folder)
    return replace(model, denoiser=model.denoiser.to(device))


def is_folder(name: str) -> bool:
    """Return whether a model's name stands for a folder, which nothing is trained for."""
    return _folder_of(name) is not None


def _folder_of(name: str) -> Path | None:
    """Return the folder that a model's name stands for; None for the name of a recipe."""
    path = check("model", name, str | Path)
    return path if os.sep in name or path.is_dir() else None
