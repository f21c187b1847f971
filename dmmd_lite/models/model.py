"""A model: a denoiser with its world and its noise process, and the two files it is stored in.

`NAME.safetensors` holds the weights in half precision; `NAME.json` the recipe they were trained by, the seed,
the numbers of the training, hardware, versions and the SHA-256 of the weights.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from dmmd_lite.denoisers.autoregressive import Autoregressive
from dmmd_lite.denoisers.base import Denoiser
from dmmd_lite.models.building import build_denoiser
from dmmd_lite.models.task import Task, task_of
from dmmd_lite.processes.base import Process
from dmmd_lite.recipes.recipe import Recipe
from dmmd_lite.sampling import Samples, sample
from dmmd_lite.training.state import TrainingResult
from dmmd_lite.utils.files import atomic_write, sha256_of, write_json
from dmmd_lite.utils.rng import generator_for
from dmmd_lite.worlds.base import World

MODEL = "model"  # file name of the model that a training leaves in its folder
PROVENANCE = ("sha256", "training", "provenance", "parameters")  # what records say of a model


@dataclass
class Model:
    """A denoiser with its world and process, ready to sample or to distil.

    Args:
    denoiser: a denoiser, or an autoregressive model, which has no process.
    weights: "ema", "raw", "exact" or "as given".
    provenance: how it was trained, and the SHA-256 of its weights.
    """

    name: str
    recipe: Recipe
    denoiser: Denoiser | Autoregressive
    process: Process | None
    world: World
    weights: str
    provenance: dict

    @property
    def default_steps(self) -> int:
        """The steps a student is made for; else the number of positions that carry noise at a time."""
        if self.recipe.method:
            return self.recipe.method.steps
        return self.process.num_noised(self.world.length) if self.process else self.world.length

    def sample(
        self,
        num: int,
        steps: int | None = None,
        *,
        seed: int = 0,
        temperature: float = 1.0,
        top_p: float = 1.0,
        device: torch.device | str = "cpu",
        **options,
    ) -> Samples:
        """Draw `num` sequences in `steps` denoising steps (None: `default_steps`).

        An autoregressive model takes one step a token, whatever `steps` says. Further options are those of
        `sampling.sample`. Errors: ValueError as there, and for a greedy tail of an autoregressive model.
        """
        options |= {"generator": generator_for(device, seed), "temperature": temperature, "top_p": top_p}
        options["device"] = device
        length, steps = self.world.length, self.default_steps if steps is None else steps
        if isinstance(self.denoiser, Autoregressive):
            if options.pop("greedy_tail", False):
                raise ValueError("greedy_tail: True is not allowed for an autoregressive model; only False")
            return Samples(self.denoiser.sample(num, length, **options), length, length)
        return sample(self.denoiser, self.process, num, length, steps, **options)


def training_facts(recipe: Recipe, result: TrainingResult) -> dict:
    """Return the numbers of a training that a model's provenance holds."""
    return {
        "steps": result.steps,
        "seconds": round(result.seconds, 1),
        "best_step": result.best_step,
        "validation": recipe.validation,
        "best_value": result.best_value,
    }


def save_model(path: Path, task: Task, result: TrainingResult, player: str, seed: int, made: dict) -> None:
    """Write the averaged weights of a player in half precision, and where they come from.

    Args:
    path: without ending.
    made: what `machine` returned when the training began.
    """
    recipe, state = task.recipe, result.averaged[player].network.state_dict()
    weights = {key: value.half().cpu().contiguous() for key, value in state.items()}
    with atomic_write(path.with_suffix(".safetensors")) as part:
        save_file(weights, part)
        digest = sha256_of(part)
    facts = {
        "name": recipe.name,
        "recipe": recipe.to_dict(),
        "seed": seed,
        "weights": "ema" if recipe.training.ema.get(player) else "raw",
        "sha256": digest,
        "parameters": sum(value.numel() for value in weights.values()),
        "training": training_facts(recipe, result),
        "provenance": {**made, **task.world.provenance},
    }
    write_json(path.with_suffix(".json"), facts)


def read_model(path: Path, device: torch.device | str = "cpu") -> Model:
    """Read the model stored at `path` (without ending). ValueError for files that are missing, damaged or do
    not fit each other."""
    facts, file = read_facts(path), path.with_suffix(".safetensors")
    if not file.is_file():
        raise ValueError(f"model: {file} is missing")
    if sha256_of(file) != facts["sha256"]:
        raise ValueError(f"model: {file} is truncated or altered; its sha256 is not the recorded one")
    task = task_of(Recipe.from_dict(facts["recipe"]))
    network = task.recipe.make_network(task.world)
    try:
        network.load_state_dict({key: value.float() for key, value in load_file(file).items()})
    except (SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"model: {file} does not fit its recipe ({reason})") from None
    denoiser = build_denoiser(task, network).to(device).eval().requires_grad_(False)
    provenance = {**{key: facts[key] for key in PROVENANCE}, "training_seed": facts["seed"]}
    name, weights = task.recipe.name, facts["weights"]
    return Model(name, task.recipe, denoiser, task.process, task.world, weights, provenance)


def read_facts(path: Path) -> dict:
    """Read the description of the model at `path` (without ending). ValueError if it is none."""
    file = path.with_suffix(".json")
    try:
        facts = json.loads(file.read_text())
        facts["recipe"].keys(), [facts[key] for key in ("seed", "weights", *PROVENANCE)]
    except (OSError, json.JSONDecodeError, KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise ValueError(f"model: {file} is not a model description ({type(error).__name__})") from None
    return facts
