"""The two files that a model is stored in, written and read.

`NAME.safetensors` holds the weights in half precision; `NAME.json` the recipe they were trained by, the seed,
the numbers of the training, hardware, versions and the SHA-256 of the weights.
"""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from dmmd_lite.metrics.suite import METRICS
from dmmd_lite.models.building import build_denoiser
from dmmd_lite.models.model import Model
from dmmd_lite.models.task import Task, task_of
from dmmd_lite.recipes.recipe import Recipe
from dmmd_lite.training.state import TrainingResult
from dmmd_lite.utils.checks import check
from dmmd_lite.utils.files import atomic_files, json_text, read_json, read_tensors, sha256_of
from dmmd_lite.utils.weights import load_weights

MODEL = "model"  # file name of the model that a training leaves in its folder
FACTS = {  # the entries of a description and their types
    "recipe": dict,
    "seed": int,
    "weights": str,
    "sha256": str,
    "parameters": int,
    "training": dict,
    "provenance": dict,
}
PROVENANCE = ("sha256", "training", "provenance", "parameters")  # what records say of a model


def training_facts(recipe: Recipe, result: TrainingResult) -> dict:
    """Return the numbers of a training that a model's provenance holds."""
    best = result.best_value
    if best is not None and recipe.validation in METRICS:
        best *= METRICS[recipe.validation].sign  # training minimises
    return {
        "steps": result.steps,
        "seconds": round(result.seconds, 1),
        "best_step": result.best_step,
        "validation": recipe.validation,
        "best_value": best,
    }


def save_model(path: Path, task: Task, result: TrainingResult, player: str, seed: int, made: dict) -> None:
    """Write the averaged weights of a player in half precision, and where they come from.

    Args:
    path: without ending.
    made: what `machine` returned when the training began.
    """
    recipe, state = task.recipe, result.averaged[player].network.state_dict()
    weights = {key: value.half().cpu().contiguous() for key, value in state.items()}
    weights_file, facts_file = path.with_suffix(".safetensors"), path.with_suffix(".json")
    facts = {
        "name": recipe.name,
        "recipe": recipe.to_dict(),
        "seed": seed,
        "weights": "ema" if recipe.training.ema.get(player) else "raw",
        "parameters": sum(value.numel() for value in weights.values()),
        "training": training_facts(recipe, result),
        "provenance": {**made, **task.world.provenance},
    }
    with atomic_files(path, facts_file.name) as folder:
        save_file(weights, folder / weights_file.name)
        facts["sha256"] = sha256_of(folder / weights_file.name)
        (folder / facts_file.name).write_text(json_text(facts), encoding="utf-8")


def read_model(path: Path, device: torch.device | str = "cpu") -> Model:
    """Read the model stored at `path` (without ending). ValueError for files that are missing, damaged or do
    not fit each other."""
    facts, file = read_facts(path), path.with_suffix(".safetensors")
    if not file.is_file():
        raise ValueError(f"model: {file} is missing")
    if sha256_of(file) != facts["sha256"]:
        raise ValueError(f"model: {file} is truncated or altered; its sha256 is not the recorded one")
    task = task_of(facts["recipe"])
    network = task.recipe.make_network(task.world)
    load_file(network, file)
    denoiser = build_denoiser(task, network).to(device).eval().requires_grad_(False)
    provenance = {**{key: facts[key] for key in PROVENANCE}, "training_seed": facts["seed"]}
    name, weights = task.recipe.name, facts["weights"]
    return Model(name, task.recipe, denoiser, task.process, task.world, weights, provenance)


def load_file(network: nn.Module, file: Path) -> None:
    """Load the weights of a safetensors file. ValueError for a file that does not fit the network."""
    try:
        load_weights(network, read_tensors(file)[0])
    except ValueError as error:
        raise ValueError(f"model: {file} does not fit its network ({error})") from None


def read_facts(path: Path) -> dict:
    """Read the description of the model at `path` (without ending), its recipe made one. ValueError if it is
    none."""
    facts = read_description(path.with_suffix(".json"), FACTS)
    return {**facts, "recipe": Recipe.from_dict(facts["recipe"])}


def read_description(file: Path, kinds: dict) -> dict:
    """Read the entries of a JSON file that `kinds` names, with their types. ValueError for another file."""

    def entry(where: str, value, kind):
        if not isinstance(kind, dict):
            return check(where, value, kind)
        if missing := [key for key in kind if not isinstance(value, dict) or key not in value]:
            raise ValueError(f"{where}.{missing[0]}".lstrip(".") + " is missing")
        return {key: entry(f"{where}.{key}".lstrip("."), value[key], part) for key, part in kind.items()}

    try:
        return entry("", read_json(file), kinds)
    except ValueError as error:
        raise ValueError(f"model: {file} is not a model description ({error})") from None
