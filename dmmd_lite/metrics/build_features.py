"""Training of the feature extractor: `python -m dmmd_lite.metrics.build_features` (about 15 seconds)."""

import hashlib
import json

import torch
from safetensors.torch import save
from torch import Tensor
from torch.nn.functional import cross_entropy, pad

from dmmd_lite.metrics.features import EXTRACTORS, Classifier, extractor_files
from dmmd_lite.records import machine, write_json
from dmmd_lite.rng import integers
from dmmd_lite.worlds import get_world
from dmmd_lite.worlds.base import World

RECIPE = {
    "seed": 0,
    "epochs": 60,
    "batch": 50,
    "optimizer": "AdamW",
    "learning_rate": 3e-3,
    "weight_decay": 0.05,
    "schedule": "cosine to 0",
    "shift": 1,
}


def _shift(images: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """The whole batch moved by up to `most` pixels in each direction, blank pixels moving in."""
    dy, dx = integers(2 * most + 1, (2,), generator).tolist()
    height, width = images.shape[-2:]
    return pad(images, (most,) * 4)[..., dy : dy + height, dx : dx + width]


def train_classifier(tokens: Tensor, labels: Tensor, world: World, recipe: dict = RECIPE) -> Classifier:
    """A classifier of tokens [n, L] with labels [n]: cross-entropy, AdamW, small shifts. Deterministic."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe["seed"])
        model = Classifier(world.image_shape, world.vocab_size)
    generator = torch.Generator().manual_seed(recipe["seed"])
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe["learning_rate"], weight_decay=recipe["weight_decay"]
    )
    images = model.images(tokens)
    steps = recipe["epochs"] * -(-len(images) // recipe["batch"])
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(recipe["epochs"]):
        for index in torch.randperm(len(images), generator=generator).split(recipe["batch"]):
            batch = _shift(images[index], recipe["shift"], generator)
            optimizer.zero_grad()
            cross_entropy(model(batch), labels[index]).backward()
            optimizer.step()
            decay.step()
    with torch.no_grad():
        activations = model.activations(images)
        model.mean.copy_(activations.mean(0))
        model.std.copy_(activations.std(0))
    return model.eval()


def build(world_name: str = "digits") -> dict:
    """Train and store the extractor of a world with class labels; returns its provenance."""
    world = get_world(world_name)
    model = train_classifier(world.split("train"), world.labels("train"), world)
    accuracy = {}
    for split in ("train", "valid", "test"):
        correct = model(model.images(world.split(split))).argmax(-1) == world.labels(split)
        accuracy[split] = round(correct.double().mean().item(), 4)
    weights, provenance = extractor_files(EXTRACTORS[world_name])
    content = save(model.state_dict())
    weights.parent.mkdir(parents=True, exist_ok=True)
    weights.write_bytes(content)
    result = {
        "what": f"classifier of the {world_name} world; its {len(model.mean)} hidden units are the features",
        "world": world_name,
        "accuracy": accuracy,
        "recipe": RECIPE,
        "sha256": hashlib.sha256(content).hexdigest(),
        "provenance": machine(),
    }
    write_json(provenance, result)
    return result


if __name__ == "__main__":
    print(json.dumps(build(), indent=1))
