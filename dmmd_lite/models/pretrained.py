"""Models as folders in the hub's style: `config.json`, `model.safetensors` and a model card, `README.md`.

Everything is local: nothing is fetched or sent. Such a folder can be given to anybody, or sent to the
Hugging Face hub with the hub's own tools (`hf upload OWNER/NAME FOLDER`).
"""

import json
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_model as load_weights
from safetensors.torch import save_model
from torch import nn

import dmmd_lite
from dmmd_lite.denoisers.base import NetworkDenoiser
from dmmd_lite.models.model import Model
from dmmd_lite.models.task import task_of
from dmmd_lite.recipes.recipe import Recipe
from dmmd_lite.utils.files import sha256_of, write_json
from dmmd_lite.utils.records import Record
from dmmd_lite.worlds import WORLDS, get_world
from dmmd_lite.worlds.base import World
from dmmd_lite.worlds.tokens import TokensWorld

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"


def save_pretrained(
    model: Model, folder: str | Path, records: Iterable[Record] = (), license: str = ""
) -> Path:
    """Write a model as a folder of three files, over those of an earlier call. Returns the folder.

    records: measured numbers (`evaluate`) for the model card. license: its name on the hub ("apache-2.0").
    The data are not saved. Raises ValueError for a model that has no network.
    """
    if not isinstance(model.denoiser, NetworkDenoiser):
        raise ValueError(f"model: {model.name!r} is not allowed; it must be a network with a noise process")
    folder, world = Path(folder), model.world
    folder.mkdir(parents=True, exist_ok=True)
    save_model(model.denoiser.network, str(folder / WEIGHTS), {"format": "pt"})  # weights may be tied
    config = {
        "library": f"dmmd_lite {dmmd_lite.__version__}",
        "name": model.name,
        "world": {
            "name": world.name,
            "vocab_size": world.vocab_size,
            "length": world.length,
            "image_shape": world.image_shape,
            "symbols": world.symbols,
        },
        "recipe": model.recipe.to_dict(),
        "weights": model.weights,
        "sha256": sha256_of(folder / WEIGHTS),
        "provenance": model.provenance,
    }
    write_json(folder / CONFIG, config)
    (folder / CARD).write_text(model_card(model, list(records), license, folder.name))
    return folder


def from_pretrained(
    folder: str | Path,
    network: nn.Module | None = None,
    world: World | None = None,
    device: torch.device | str = "cpu",
) -> Model:
    """The model in a folder that `save_pretrained` wrote, verified against its sha256.

    network: for a model whose network is not ours, one of the same kind, which gets the weights. world: what
    it is compared with (`evaluate`); by default the package's own world of that name, or else one without
    data, which can show samples. Errors: ValueError for a folder that holds no such model or a damaged one,
    where `network` is missing or not wanted, and for a world of other sequences.
    """
    path = Path(folder)
    try:
        config = json.loads((path / CONFIG).read_text())
        about, recipe = config["world"], Recipe.from_dict(config["recipe"])
        shape = {key: about[key] for key in ("vocab_size", "length", "image_shape", "symbols")}
        name, digest, weights, provenance = (config[k] for k in ("name", "sha256", "weights", "provenance"))
    except OSError:
        raise ValueError(
            f"folder: {str(path)!r} is not allowed; it holds no {CONFIG}, and only local folders are read"
        ) from None
    except (json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(
            f"model: {path / CONFIG} is not a model description ({type(error).__name__})"
        ) from None
    if world is None:
        own = about["name"].partition("@")[0] not in WORLDS
        world = TokensWorld(about["name"], {}, **shape) if own else get_world(about["name"])
    if (world.length, world.vocab_size) != (shape["length"], shape["vocab_size"]):
        raise ValueError(
            f"world: {world.name!r} is not allowed; its sequences have {world.length} tokens out of"
            f" {world.vocab_size}, the model's {shape['length']} out of {shape['vocab_size']}"
        )
    if bool(recipe.network) == (network is not None):
        given = None if network is None else type(network).__name__
        words = "it is made of its configuration" if recipe.network else "give the network that was distilled"
        raise ValueError(f"network: {given!r} is not allowed; {words}")
    network = recipe.make_network(world) if network is None else network
    file = path / WEIGHTS
    if not file.is_file() or sha256_of(file) != digest:
        raise ValueError(
            f"model: {file} is missing, truncated or altered; its sha256 is not the recorded one"
        )
    try:
        load_weights(network, file)
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(f"model: {file} does not fit the network ({str(error).splitlines()[0]})") from None
    process = task_of(recipe, world).process
    denoiser = NetworkDenoiser(network, process, recipe.output).to(device).eval().requires_grad_(False)
    return Model(name, recipe, denoiser, process, world, weights, provenance)


def model_card(model: Model, records: list[Record] = (), license: str = "", folder: str = "FOLDER") -> str:
    """Markdown with the metadata the hub reads: what the model is, how to use it, what was measured."""
    world, recipe, about = model.world, model.recipe, model.provenance
    student = recipe.method is not None
    trained, made = about.get("training", {}), about.get("provenance", {})
    facts = {
        "noise": f"{recipe.process}, {recipe.schedule} schedule",
        "data": f"{world.name}: {world.length} tokens out of {world.vocab_size}",
        "teacher": about.get("teacher") or recipe.teacher,
        "network": f"`{json.dumps(recipe.network)}`" if recipe.network else "not one of dmmd_lite's",
        "parameters": f"{about['parameters']:,}",
        "weights": model.weights,
        "training": f"{trained['steps']} updates, {trained['seconds']:.0f} s" if trained else "",
        "made with": ", ".join(
            f"{key} {made[key]}" for key in ("dmmd_lite", "torch", "hardware", "date") if key in made
        ),
    }
    steps = model.default_steps
    what = (
        f"A discrete diffusion model that samples in {steps} steps, distilled with D-MMD"
        if student
        else f"A discrete diffusion model of many steps (up to {steps})"
    )
    rows = [f"| {name} | {value} |" for name, value in facts.items() if value]
    given = ", network=NETWORK" * (not recipe.network)
    lines = [
        "---",
        "library_name: dmmd_lite",
        *[f"license: {license}"] * bool(license),
        "tags:",
        *[f"- {tag}" for tag in ["discrete-diffusion", *["distillation", "d-mmd"] * student]],
        "---",
        "",
        f"# {model.name}",
        "",
        f"{what} ([arXiv 2603.20155](https://arxiv.org/abs/2603.20155)).",
        "",
        "| | |",
        "|---|---|",
        *rows,
        "",
        "```python",
        "from dmmd_lite import from_pretrained",
        "",
        f'model = from_pretrained("{folder}"{given})',
        f"tokens = model.sample(16, steps={steps}).tokens       # [16, {world.length}]",
        "print(model.world.show(tokens))",
        "```",
        "",
        "## Measured",
        "",
    ]
    if not records:
        return "\n".join([*lines, "Nothing was measured.", ""])
    lines += [
        "| model | metric | steps | value | 95 % interval | samples | against |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in records:
        spread = "exact" if r.low is None else f"{r.low:.4g} … {r.high:.4g}"
        lines.append(
            f"| {r.model} | {r.name} | {r.steps} | {r.value:.4g} | {spread} | {r.n} | {r.reference} |"
        )
    return "\n".join([*lines, ""])
