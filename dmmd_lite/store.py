"""From a recipe to a trained model on disk and back: train, save, load, verify, train on demand.

A model is two files: `NAME.safetensors` with the weights in half precision and `NAME.json` with the recipe
it was made from, the seed, the numbers of its training, hardware, versions and the weights' sha256. Released
models of seed 0 lie in `data/models/`; others are looked up in the cache folder and trained there if they
are missing, by one process at a time.
"""

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dmmd_lite.autoregressive import Autoregressive
from dmmd_lite.blocks import Blocked
from dmmd_lite.denoisers import Denoiser, ExactDenoiser, NetworkDenoiser, sequences_at_once
from dmmd_lite.methods import METHODS
from dmmd_lite.objectives.autoregressive import AutoregressiveTraining
from dmmd_lite.objectives.teacher import TeacherTraining, bound
from dmmd_lite.paths import cache_dir, data_dir
from dmmd_lite.processes import Process, get_process
from dmmd_lite.recipe import AUTOREGRESSIVE, Recipe
from dmmd_lite.recipes import get_recipe, judge_of
from dmmd_lite.records import machine, write_json
from dmmd_lite.rng import generator_for
from dmmd_lite.sampling import sample
from dmmd_lite.training import Result, rank_and_world, train
from dmmd_lite.worlds import get_world
from dmmd_lite.worlds.base import World

MODEL = "model"  # file name of the model a run leaves in its folder
PROVENANCE = ("sha256", "training", "provenance", "parameters")  # what records say of a model
JUDGED = "gradient_moment"  # the validation that needs a judge


@dataclass
class Model:
    """A denoiser with its world and process, ready to sample or to distil.

    An autoregressive model stands in the denoiser's place and has no process.
    """

    name: str
    recipe: Recipe
    denoiser: Denoiser | Autoregressive
    process: Process | None
    world: World
    weights: str
    provenance: dict


def load_model(name: str, scale: str = "laptop", seed: int = 0, device: torch.device | str = "cpu") -> Model:
    """The model of a recipe's name, or of a folder that `train_recipe` wrote.

    A recipe's model comes from `data/models/` (laptop scale, seed 0), else from the cache, else it is
    trained into the cache now. ValueError for an unknown name or a damaged file.
    """
    recipe = recipe_of(name, scale)
    return read_model(Path(name) / MODEL, device) if _is_folder(name) else model_of(recipe, seed, device)


def model_of(recipe: Recipe, seed: int = 0, device: torch.device | str = "cpu") -> Model:
    """The model of a recipe, which may have been changed; found or trained as by `load_model`."""
    if recipe.role == "exact":
        world, process = get_world(recipe.world), process_of(recipe)
        return Model(
            recipe.name, recipe, ExactDenoiser(world, process, recipe.floor), process, world, "exact", {}
        )
    path = released_path(recipe, seed)
    if path is None:
        folder = cached_folder(recipe, seed)
        rank, world = rank_and_world()  # under torchrun, one process holds the lock and all of them train
        with _lock(folder) if rank == 0 else nullcontext():
            missing = torch.tensor(int(not (folder / f"{MODEL}.json").is_file()), device=device)
            if world > 1:
                dist.broadcast(missing, 0)
            if missing:
                train_recipe(recipe, folder, seed=seed, device=device)
        path = folder / MODEL
    return read_model(path, device)


def recipe_of(name: str, scale: str = "laptop") -> Recipe:
    """The recipe of what `load_model` would load, without loading or training anything."""
    if not _is_folder(name):
        return get_recipe(name, scale)
    path = Path(name) / MODEL
    if not path.with_suffix(".json").is_file():
        raise ValueError(f"model: {name!r} is not allowed; the folder holds no {MODEL}.json")
    return Recipe.from_dict(_read_facts(path)["recipe"])


def _is_folder(name: str) -> bool:
    return os.sep in name or Path(name).is_dir()


def released_path(recipe: Recipe, seed: int) -> Path | None:
    """Path (without ending) of the released model of exactly this recipe and seed; None if there is none."""
    path = data_dir() / "models" / recipe.name
    if seed != 0 or not path.with_suffix(".json").is_file():
        return None
    return path if Recipe.from_dict(_read_facts(path)["recipe"]) == recipe else None


def cached_folder(recipe: Recipe, seed: int) -> Path:
    """Where the cache keeps a recipe's run; the name carries a hash of all recipes it rests on."""
    return cache_dir() / "models" / f"{recipe.name}-{recipe.scale}-seed{seed}-{fingerprint(recipe)[:12]}"


def fingerprint(recipe: Recipe) -> str:
    """sha256 of what a recipe says beyond the defaults, and of the recipes it rests on."""
    defaults = Recipe("", "", "", "", "").to_dict()
    said = {key: value for key, value in recipe.to_dict().items() if value != defaults[key]}
    for part in said.keys() & {"method", "training"}:
        said[part] = {key: value for key, value in said[part].items() if value is not None}
    chain = [said]
    others = [recipe.start, recipe.teacher]
    if recipe.validation == JUDGED:
        others.append(judge_of(recipe.world))
    chain += [fingerprint(get_recipe(name, recipe.scale)) for name in others if name]
    return hashlib.sha256(json.dumps(chain, sort_keys=True).encode()).hexdigest()


def train_recipe(
    recipe: Recipe,
    out: Path,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    validate: Callable[[dict[str, nn.Module]], float] | None = None,
) -> Path:
    """Train a recipe in the folder `out` (going on where an earlier call stopped) and save the model there.

    Start and teacher models are loaded first, with seed 0. validate(averaged players) replaces the recipe's
    own validation. Returns the model's path without ending.
    """
    from dmmd_lite.metrics.features import load_features

    if recipe.role == "exact" or recipe.training is None:
        raise ValueError(f"recipe: {recipe.name!r} is not allowed; it has nothing to train")
    if recipe.validation and recipe.validation not in _VALIDATIONS:
        raise ValueError(
            f"validation: {recipe.validation!r} is not allowed; choose from {list(_VALIDATIONS)}"
        )
    world, process = get_world(recipe.world), process_of(recipe)
    world.prepare({recipe.split, "valid"} if recipe.validation else {recipe.split})
    if validate is None and recipe.validation == JUDGED:
        load_model(judge_of(recipe.world), recipe.scale, device=device)  # trained now if it is missing
    if validate is None and recipe.validation == "frechet":
        load_features(recipe.world)  # so that what is missing is said before any work
    method, main = _method(recipe, world, process, seed, device)
    identity = f"{fingerprint(recipe)} seed {seed}"
    if validate is None and recipe.validation:
        validate = validator(recipe)
    made = machine(device)
    result = train(
        method,
        partial(_training_data, recipe, world, process),
        recipe.training,
        out,
        seed=seed,
        device=device,
        validate=validate,
        identity=identity,
    )
    path, (rank, processes) = Path(out) / MODEL, rank_and_world()
    if rank == 0:
        save_model(path, recipe, result, main, seed, made)
    if processes > 1:
        dist.barrier()
    return path


def save_model(path: Path, recipe: Recipe, result: Result, main: str, seed: int, made: dict) -> None:
    """Write the averaged weights of player `main` in half precision, and where they come from.

    made: what `machine` said when training began.
    """
    weights = {
        key: value.half().cpu().contiguous()
        for key, value in result.averaged[main].network.state_dict().items()
    }
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    save_file(weights, part)
    digest = hashlib.sha256(part.read_bytes()).hexdigest()
    os.replace(part, path.with_suffix(".safetensors"))
    facts = {
        "name": recipe.name,
        "recipe": recipe.to_dict(),
        "seed": seed,
        "weights": "ema" if recipe.training.ema.get(main) else "raw",
        "sha256": digest,
        "parameters": sum(value.numel() for value in weights.values()),
        "training": {
            "steps": result.steps,
            "seconds": round(result.seconds, 1),
            "best_step": result.best_step,
            "validation": recipe.validation,
            "best_value": result.best_value,
        },
        "provenance": {**made, **get_world(recipe.world).provenance},
    }
    write_json(path.with_suffix(".json"), facts)


def read_model(path: Path, device: torch.device | str = "cpu") -> Model:
    """The model stored at `path` (without ending), verified against its sha256."""
    facts, weights_file = _read_facts(path), path.with_suffix(".safetensors")
    if not weights_file.is_file():
        raise ValueError(f"model: {weights_file} is missing")
    if hashlib.sha256(weights_file.read_bytes()).hexdigest() != facts["sha256"]:
        raise ValueError(f"model: {weights_file} is truncated or altered; its sha256 is not the recorded one")
    recipe = Recipe.from_dict(facts["recipe"])
    network = recipe.make_network()
    try:
        network.load_state_dict({key: value.float() for key, value in load_file(weights_file).items()})
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(
            f"model: {weights_file} does not fit its recipe ({str(error).splitlines()[0]})"
        ) from None
    process, world = process_of(recipe), get_world(recipe.world)
    denoiser = _as_model(recipe, network, process).to(device).eval().requires_grad_(False)
    provenance = {**{key: facts[key] for key in PROVENANCE}, "training_seed": facts["seed"]}
    return Model(recipe.name, recipe, denoiser, process, world, facts["weights"], provenance)


def _noise(recipe: Recipe, world: World | None = None) -> Process | None:
    """The recipe's noise; None for autoregressive models."""
    if recipe.process == AUTOREGRESSIVE:
        return None
    world = world or get_world(recipe.world)
    process = get_process(recipe.process, world.vocab_size, recipe.schedule)
    return Blocked(process, recipe.block) if recipe.block else process


def process_of(recipe: Recipe, world: World | None = None) -> Process | None:
    """What a recipe's model undoes: its noise, or what its method makes of that; None for autoregressive
    models. world: the recipe's, where it is none of the package's."""
    kind, noise = METHODS.get(recipe.role), _noise(recipe, world)
    return kind.process(recipe.method, noise) if kind and recipe.method else noise


def weights_sha256(module: nn.Module) -> str:
    """sha256 of a module's weights and their names."""
    digest = hashlib.sha256()
    for key, value in sorted(module.state_dict().items()):
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _as_model(recipe: Recipe, network: nn.Module, process: Process | None) -> Denoiser | Autoregressive:
    if process is None:
        return Autoregressive(network, get_world(recipe.world).vocab_size)
    return NetworkDenoiser(network, process, recipe.output)


def _training_data(
    recipe: Recipe, world: World, process: Process | None, batch: int, generator: torch.Generator
) -> Tensor:
    """Clean tokens of the recipe's split, with blocks up to the end of one of them."""
    x = world.sample(batch, generator, recipe.split)
    return process.cut(x, generator) if recipe.block else x


def _read_facts(path: Path) -> dict:
    file = path.with_suffix(".json")
    try:
        facts = json.loads(file.read_text())
        facts["recipe"].keys(), [facts[key] for key in ("seed", "weights", *PROVENANCE)]
    except (OSError, json.JSONDecodeError, KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise ValueError(f"model: {file} is not a model description ({type(error).__name__})") from None
    return facts


def _lock(folder: Path):
    from filelock import FileLock

    folder.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(folder.with_name(folder.name + ".lock"))


def _method(recipe: Recipe, world: World, process: Process | None, seed: int, device):
    """The recipe's method and the name of the player that becomes the model."""
    start = load_model(recipe.start, recipe.scale, device=device).denoiser if recipe.start else None
    teacher = load_model(recipe.teacher, recipe.scale, device=device).denoiser if recipe.teacher else None
    torch.manual_seed(seed)  # only now, because to load a model may be to train it

    def fresh(noise: bool = True) -> Denoiser | Autoregressive:
        """A new model, with the weights of `start` where it has them."""
        own = recipe if noise else replace(recipe, network={**recipe.network, "noise": 0})
        denoiser = _as_model(own, own.make_network(), process).to(device)
        if start is not None:
            inputs = ("noise_projection", "mixture_embedding")  # no start has them
            new = {k: v for k, v in denoiser.state_dict().items() if any(name in k for name in inputs)}
            try:
                denoiser.load_state_dict({**new, **start.state_dict()})
            except RuntimeError:
                raise ValueError(
                    f"network: {recipe.network} is not allowed; it must match that of {recipe.start!r}"
                ) from None
        return denoiser

    if process is None:
        return AutoregressiveTraining(fresh()), "model"
    if recipe.role == "teacher":
        exact = ExactDenoiser(world, process, recipe.floor) if recipe.fit_exact else None
        return TeacherTraining(fresh(), process, recipe.loss, exact), "denoiser"
    kind = METHODS.get(recipe.role)
    if kind is None or teacher is None or recipe.method is None:
        raise ValueError(
            f"role: {recipe.role!r} is not allowed here; only {list(METHODS)} with a teacher and a method"
        )
    noise = _noise(recipe)
    if isinstance(teacher, ExactDenoiser):  # the student's recipe says how bold the truth may be
        teacher = ExactDenoiser(world, noise, recipe.floor)
    return kind.make(recipe.method, fresh, teacher, noise), kind.student


# --- validation: a number to be minimised, from averaged players, on the validation split ------------------

VALIDATION_SEED, VALIDATION_SAMPLES, JUDGED_SAMPLES = 1_000_003, 2000, 500
SMOKE_SAMPLES, LAPTOP_TOKENS = 128, 2**19  # samples at scale "smoke"; most of their tokens at "laptop"
VALIDATION_IMAGES, VALIDATION_TOKENS = 512, 2**20  # most images, and most of their tokens, for the bound


def validate_bound(recipe: Recipe, world: World, process: Process, players: dict[str, nn.Module]) -> float:
    """Nats per token of the bound on validation data."""
    denoiser, generator = players["denoiser"], _generator(players["denoiser"])
    x = _validation_data(world, generator, recipe.scale)
    bounds = [bound(denoiser, process, part, generator, times=8) for part in _parts(x, world)]
    return float(torch.cat(bounds).mean() / world.length)


def _validate_likelihood(recipe: Recipe, world: World, process: None, players: dict[str, nn.Module]) -> float:
    """Nats per token of an autoregressive model on validation data."""
    model = players["model"]
    with torch.no_grad():
        x = _validation_data(world, _generator(model), recipe.scale)
        return float(torch.cat([model.nll(part) for part in _parts(x, world)]).mean())


def _parts(x: Tensor, world: World) -> tuple[Tensor, ...]:
    return x.split(sequences_at_once(world.length, world.vocab_size))


def _validation_data(world: World, generator: torch.Generator, scale: str) -> Tensor:
    """Of images the first of the validation split, 512 at most and fewer where they are large; else 256
    random sequences of it."""
    if world.image_shape is not None:
        tokens = 2**15 if scale == "smoke" else VALIDATION_TOKENS
        return world.split("valid")[: min(VALIDATION_IMAGES, tokens // world.length)].to(generator.device)
    return world.sample(256, generator, "valid")


def _student_samples(
    recipe: Recipe,
    world: World,
    process: Process,
    players: dict[str, nn.Module],
    num: int,
) -> Tensor:
    student = players[METHODS[recipe.role].student]
    return sample(
        student,
        process,
        num,
        world.length,
        recipe.method.steps,
        generator=_generator(student),
        device=next(student.parameters()).device,
    ).tokens


def _validate_samples(
    metric: str, recipe: Recipe, world: World, process: Process, players: dict[str, nn.Module]
) -> float:
    """A sample metric of the averaged student at its own number of steps."""
    from dmmd_lite.metrics import evaluate_samples

    tokens = _student_samples(recipe, world, process, players, validation_num(recipe.scale, world))
    return evaluate_samples(tokens, world, [metric], split="valid")[0].value


def validation_num(scale: str, world: World) -> int:
    """How many samples a student is validated on."""
    if scale == "smoke":
        return SMOKE_SAMPLES
    return min(VALIDATION_SAMPLES, LAPTOP_TOKENS // world.length) if scale == "laptop" else VALIDATION_SAMPLES


def _validate_judged(recipe: Recipe, world: World, process: Process, players: dict[str, nn.Module]) -> float:
    """The gradient moment of the averaged student under the world's judge of the recipe's scale."""
    from dmmd_lite.metrics import evaluate_samples, load_judge

    num = 64 if recipe.scale == "smoke" else JUDGED_SAMPLES
    tokens = _student_samples(recipe, world, process, players, num)
    judge = load_judge(None, world, recipe.scale, tokens.device)
    return evaluate_samples(tokens, world, [JUDGED], split="valid", judge=judge)[0].value


def _generator(player: nn.Module) -> torch.Generator:
    return generator_for(next(player.parameters()).device, VALIDATION_SEED)


def validator(recipe: Recipe) -> Callable[[dict[str, nn.Module]], float]:
    """The recipe's own validation, a function of averaged players."""
    return partial(_VALIDATIONS[recipe.validation], recipe, get_world(recipe.world), process_of(recipe))


_VALIDATIONS = {
    "bound": validate_bound,
    "negative_log_likelihood": _validate_likelihood,
    "frechet": partial(_validate_samples, "frechet"),
    "ngram_divergence": partial(_validate_samples, "ngram_divergence"),
    JUDGED: _validate_judged,
}
