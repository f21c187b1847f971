"""Models as folders in the hub's style: `config.json`, `model.safetensors` and a model card, `README.md`.

Nothing is fetched or sent. Such a folder can be given to anybody, or sent to the Hugging Face hub with the
tools of the hub (`hf upload OWNER/NAME FOLDER`).
"""

import json
from collections.abc import Iterable
from pathlib import Path

from safetensors.torch import save_model
from torch import nn

import dmmd_lite
from dmmd_lite.denoisers.base import NetworkDenoiser
from dmmd_lite.models.model import Model
from dmmd_lite.models.store import load_file, read_description
from dmmd_lite.models.task import task_of
from dmmd_lite.recipes.recipe import Recipe
from dmmd_lite.utils.checks import Count, checked
from dmmd_lite.utils.files import atomic_files, json_text, sha256_of
from dmmd_lite.utils.markup import literal
from dmmd_lite.utils.records import Record
from dmmd_lite.utils.tensors import Device
from dmmd_lite.worlds import WORLDS, get_world
from dmmd_lite.worlds.base import World
from dmmd_lite.worlds.tokens import TokensWorld

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
ENTRIES = {  # of the configuration, with their types
    "name": str,
    "world": {
        "name": str,
        "vocab_size": Count,
        "length": Count,
        "image_shape": tuple[int, int, int] | None,
        "symbols": str,
    },
    "recipe": dict,
    "weights": str,
    "sha256": str,
    "provenance": dict,
}
MADE_WITH = ("dmmd_lite", "torch", "hardware", "date")  # keys of a model's provenance that its card shows


@checked
def save_pretrained(
    model: Model, folder: str | Path, records: Iterable[Record] = (), license: str = ""
) -> Path:
    """Write a model as a folder of three files, which replace those of an earlier call; return the folder.

    The world's data are not saved.

    Args:
    records: measured numbers (`evaluate`) for the model card.
    license: the name of the license on the hub ("apache-2.0").
    Errors: ValueError for a model without a network.
    """
    if not isinstance(model.denoiser, NetworkDenoiser):
        raise ValueError(f"model: {model.name!r} is not allowed; it must be a network with a noise process")
    world = model.world
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
        "provenance": model.provenance,
    }
    card = model_card(model, list(records), license, folder.name)
    with atomic_files(folder / CONFIG, CONFIG) as part:
        save_model(model.denoiser.network, str(part / WEIGHTS), {"format": "pt"})  # weights may be tied
        config["sha256"] = sha256_of(part / WEIGHTS)
        (part / CONFIG).write_text(json_text(config), encoding="utf-8")
        (part / CARD).write_text(card, encoding="utf-8")
    return folder


@checked
def from_pretrained(
    folder: str | Path,
    network: nn.Module | None = None,
    world: World | None = None,
    device: Device = "cpu",
) -> Model:
    """Load a model from a folder that `save_pretrained` wrote, verified against its SHA-256.

    Args:
    network: a network of the same class that gets the weights, for a model whose network is not ours.
    world: the data to compare the model with (`evaluate`); None: the world of that name in the package, or
    else a world without data, which can show samples.
    Errors: ValueError for a folder without such a model or with a damaged one, for a `network` that is
    missing or not wanted, and for a world of another length or vocabulary.
    """
    if not (folder / CONFIG).is_file():
        words = f"it holds no {CONFIG}, and only local folders are read"
        raise ValueError(f"folder: {str(folder)!r} is not allowed; {words}")
    config = read_description(folder / CONFIG, ENTRIES)
    about, recipe = config["world"], Recipe.from_dict(config["recipe"])
    if world is None:
        known = about["name"].partition("@")[0] in WORLDS
        world = get_world(about["name"]) if known else TokensWorld(parts={}, **about)
    if (world.length, world.vocab_size) != (about["length"], about["vocab_size"]):
        raise ValueError(
            f"world: {world.name!r} is not allowed; its sequences have {world.length} tokens out of"
            f" {world.vocab_size}, the model's {about['length']} out of {about['vocab_size']}"
        )
    if bool(recipe.network) == (network is not None):
        given = None if network is None else type(network).__name__
        words = "it is made of its configuration" if recipe.network else "give the network that was distilled"
        raise ValueError(f"network: {given!r} is not allowed; {words}")
    network = recipe.make_network(world) if network is None else network
    file = folder / WEIGHTS
    if not file.is_file() or sha256_of(file) != config["sha256"]:
        words = "is missing, truncated or altered; its sha256 is not the recorded one"
        raise ValueError(f"model: {file} {words}")
    load_file(network, file)
    process = task_of(recipe, world).process
    denoiser = NetworkDenoiser(network, process, recipe.output).to(device).eval().requires_grad_(False)
    name, weights = config["name"], config["weights"]
    return Model(name, recipe, denoiser, process, world, weights, config["provenance"])


def model_card(model: Model, records: list[Record] = (), license: str = "", folder: str = "FOLDER") -> str:
    """Return Markdown with the metadata that the hub reads: what the model is, how to use it, its records."""
    world, recipe, about, steps = model.world, model.recipe, model.provenance, model.default_steps
    trained, made = about.get("training", {}), about.get("provenance", {})
    facts = {
        "noise": f"{recipe.process}, {recipe.schedule} schedule",
        "data": f"{world.name}: {world.length} tokens out of {world.vocab_size}",
        "teacher": about.get("teacher") or recipe.teacher,
        "network": json.dumps(recipe.network) if recipe.network else "not one of dmmd_lite's",
        "parameters": f"{about['parameters']:,}",
        "weights": model.weights,
        "training": f"{trained['steps']} updates, {trained['seconds']:.0f} s" if trained else "",
        "made with": ", ".join(f"{key} {made[key]}" for key in MADE_WITH if key in made),
    }
    tags, what = ["discrete-diffusion"], f"of many steps (up to {steps})"
    if recipe.method is not None:
        tags += ["distillation", "d-mmd"]
        what = f"that samples in {steps} steps, distilled with D-MMD"
    measured = ["Nothing was measured."]
    if records:
        columns = ["model", "metric", "steps", "value", "95 % interval", "samples", "against"]
        measured = [_row(columns), "|---" * len(columns) + "|"]
    for r in records:
        interval = "exact" if r.low is None else f"{r.low:.4g} … {r.high:.4g}{r.level_text}"
        measured.append(_row([r.model, r.name, r.steps, f"{r.value:.4g}", interval, r.n, r.reference]))
    lines = [
        "---",
        "library_name: dmmd_lite",
        *[f"license: {json.dumps(license)}"] * bool(license),
        "tags:",
        *(f"- {tag}" for tag in tags),
        "---",
        "",
        f"# {literal(model.name)}",
        "",
        f"A discrete diffusion model {what} ([arXiv 2603.20155](https://arxiv.org/abs/2603.20155)).",
        "",
        "| | |",
        "|---|---|",
        *(_row(fact) for fact in facts.items() if fact[1]),
        "",
        "```python",
        "from dmmd_lite import from_pretrained",
        "",
        f'model = from_pretrained("{folder}"{", network=NETWORK" * (not recipe.network)})',
        f"tokens = model.sample(16, steps={steps}).tokens       # [16, {world.length}]",
        "print(model.world.show(tokens))",
        "```",
        "",
        "## Measured",
        "",
        *measured,
        "",
    ]
    return "\n".join(lines)


def _row(cells: Iterable) -> str:
    """Return the row of a Markdown table."""
    return f"| {' | '.join(literal(str(cell)) for cell in cells)} |"
