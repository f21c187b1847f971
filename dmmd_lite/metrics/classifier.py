"""Classifiers of image worlds. Their hidden units are the features that images are compared by.

`python -m dmmd_lite.metrics.classifier [WORLD]` trains one, in a minute or less. Those of the digits, the
glyphs and Fashion-MNIST are released; others are trained into the cache folder.
"""

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_max_pool2d, cross_entropy, max_pool2d, pad, relu, silu

from dmmd_lite.utils.files import made_once, sha256_of, sha256_of_json, write_json, write_tensors
from dmmd_lite.utils.paths import cache_dir, data_dir
from dmmd_lite.utils.progress import progress_bar
from dmmd_lite.utils.provenance import machine
from dmmd_lite.utils.rng import generator_for, integers
from dmmd_lite.worlds import get_world
from dmmd_lite.worlds.images import ImageWorld

RECIPE = {  # of the digits' classifier; images: the maximum number of training images
    "seed": 0,
    "images": 1000,
    "features": 32,
    "epochs": 60,
    "batch": 50,
    "optimizer": "AdamW",
    "learning_rate": 3e-3,
    "weight_decay": 0.05,
    "schedule": "cosine to 0",
    "shift": 1,
}
LARGER = RECIPE | {
    "images": 30_000,
    "features": 64,
    "epochs": 2,
    "batch": 100,
    "least_spread": 0.1,  # relative to the median unit's; a unit that hardly varies would make outliers
}
CLASSIFIERS = {  # world: the recipe of its classifier; other worlds get `LARGER`
    "digits": RECIPE,
    "glyphs": LARGER | {"images": 50_000},
    "fashion_mnist": LARGER,
    "mnist": LARGER,
    "cifar10": LARGER | {"images": 50_000, "epochs": 4, "shift": 2},
}


def unit_images(tokens: Tensor, world: ImageWorld) -> Tensor:
    """Turn tokens [n, L] into images [n, channels, height, width] with values in [0, 1]."""
    images = tokens.reshape(-1, *world.image_shape).permute(0, 3, 1, 2)
    return images.float() / (world.vocab_size - 1)


class Classifier(nn.Module):
    """A network of two convolutions, a hidden layer of `dim` features, and class logits.

    Features are standardised with the mean and standard deviation of the training images, kept as buffers;
    the deviation of a unit that hardly varies is raised (`train_classifier`). Units are smooth, so that few
    of them are dead, and few, so that the covariance of a reference set can be estimated.
    """

    def __init__(self, image_shape: tuple[int, int, int], num_classes: int, dim: int):
        super().__init__()
        self.image_shape, self.num_classes, self.dim = image_shape, num_classes, dim
        self.conv1 = nn.Conv2d(image_shape[2], 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 48, 3, padding=1)
        self.hidden = nn.Linear(48 * 4 * 4, dim)
        self.out = nn.Linear(dim, num_classes)
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("std", torch.ones(dim))

    def activations(self, images: Tensor) -> Tensor:
        """Compute the hidden layer before standardisation, [n, dim], of images with values in [0, 1]."""
        h = relu(self.conv1(images))
        if self.image_shape[0] > 8:
            h = max_pool2d(h, 2)
        h = adaptive_max_pool2d(relu(self.conv2(h)), 4)
        return silu(self.hidden(h.flatten(1)))

    def features(self, images: Tensor) -> Tensor:
        """Compute standardised features [n, dim]."""
        return (self.activations(images) - self.mean) / self.std

    def forward(self, images: Tensor) -> Tensor:
        """Compute class logits [n, classes]."""
        return self.out(self.activations(images))


def extractor_files(name: str) -> tuple[Path, Path]:
    """Return the paths of weights and provenance of a released classifier."""
    folder = data_dir() / "models"
    return folder / f"{name}.safetensors", folder / f"{name}.json"


def _shift(images: Tensor, pixels: int, generator: torch.Generator) -> Tensor:
    """Move the whole batch by up to `pixels` pixels in each direction, with blank pixels moving in."""
    dy, dx = integers(2 * pixels + 1, (2,), generator).tolist()
    height, width = images.shape[-2:]
    return pad(images, (pixels,) * 4)[..., dy : dy + height, dx : dx + width]


def train_classifier(tokens: Tensor, labels: Tensor, world: ImageWorld, recipe: dict = RECIPE) -> Classifier:
    """Train a classifier of tokens [n, L] with labels [n]: cross-entropy, AdamW, small shifts. It is
    deterministic."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe["seed"])
        model = Classifier(world.image_shape, world.num_classes, recipe["features"])
    generator = torch.Generator().manual_seed(recipe["seed"])
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe["learning_rate"], weight_decay=recipe["weight_decay"]
    )
    steps, done = recipe["epochs"] * -(-len(tokens) // recipe["batch"]), 0
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    with progress_bar(steps, 0, f"{world.name}-classifier") as bar:
        for _ in range(recipe["epochs"]):
            for index in torch.randperm(len(tokens), generator=generator).split(recipe["batch"]):
                batch = _shift(unit_images(tokens[index], world), recipe["shift"], generator)
                optimizer.zero_grad()
                loss = cross_entropy(model(batch), labels[index])
                loss.backward()
                optimizer.step()
                decay.step()
                done += 1
                bar.set(done, {"loss": float(loss.detach())})
    with torch.no_grad():
        activations = torch.cat([model.activations(unit_images(x, world)) for x in tokens.split(1000)])
        model.mean.copy_(activations.mean(0))
        spread = activations.std(0)
        model.std.copy_(spread.clamp(min=recipe.get("least_spread", 0) * spread.median()))
    return model.eval()


def build(world_name: str, weights: Path, provenance: Path) -> dict:
    """Train the classifier of a world with labels and store it in half precision; return its provenance.

    Errors: the world's, where its images are missing."""
    world, recipe = get_world(world_name), CLASSIFIERS.get(world_name, LARGER)
    tokens, labels = _training_set(world, recipe)
    model = train_classifier(tokens, labels, world, recipe)
    state = {key: value.half() for key, value in model.state_dict().items()}
    model.load_state_dict({key: value.float() for key, value in state.items()})
    sets = {split: (world.stored(split), world.labels(split)) for split in ("valid", "test")}
    write_tensors(weights, state)
    result = {
        "what": f"classifier of the {world_name} world; its {model.dim} hidden units are the features",
        "world": world_name,
        "accuracy": {k: _accuracy(model, world, *v) for k, v in ({"train": (tokens, labels)} | sets).items()},
        "recipe": recipe,
        "sha256": sha256_of(weights),
        "provenance": {**machine(), **world.provenance},
    }
    write_json(provenance, result)
    return result


def cached_files(world_name: str) -> tuple[Path, Path]:
    """Return the paths of weights and provenance of a world's classifier in the cache; it is trained where
    they are missing."""
    key = [CLASSIFIERS.get(world_name, LARGER), get_world(world_name).provenance]
    name = f"{world_name}-classifier-{sha256_of_json(key)[:12]}"
    weights = cache_dir() / "features" / f"{name}.safetensors"
    return weights, made_once(weights.with_suffix(".json"), lambda path: build(world_name, weights, path))


def _training_set(world: ImageWorld, recipe: dict) -> tuple[Tensor, Tensor]:
    """Return tokens [n, L] and labels [n] to learn from."""
    generator = generator_for("cpu", recipe["seed"])
    if world.endless:
        return world.draw(recipe["images"], generator)
    tokens, labels = world.stored("train"), world.labels("train")
    if len(tokens) <= recipe["images"]:
        return tokens, labels
    chosen = torch.randperm(len(tokens), generator=generator)[: recipe["images"]]
    return tokens[chosen], labels[chosen]


@torch.no_grad()
def _accuracy(model: Classifier, world: ImageWorld, tokens: Tensor, labels: Tensor) -> float:
    guesses = torch.cat([model(unit_images(part, world)).argmax(-1) for part in tokens.split(1000)])
    return round((guesses == labels).double().mean().item(), 4)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train and store the classifier of an image world.")
    parser.add_argument("world", nargs="?", default="digits", choices=CLASSIFIERS)
    chosen = parser.parse_args().world
    print(json.dumps(build(chosen, *extractor_files(f"{chosen}-classifier")), indent=1))
