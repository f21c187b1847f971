"""Features of images: the last hidden layer of a small classifier, stored under `data/models/`.

A learned Fréchet distance is only comparable between runs that use the same extractor, so its weights are
shipped, checked against the SHA-256 in their provenance file, and named in every record. They are built by
`build_features.py`.
"""

import hashlib
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn
from torch.nn.functional import max_pool2d, one_hot, relu, silu

from dmmd_lite.paths import data_dir
from dmmd_lite.worlds import get_world
from dmmd_lite.worlds.base import World

EXTRACTORS = {"digits": "digits-classifier"}  # world: file name under data/models/
MOST_FEATURES = 32_768  # of sequences whose tokens are their own features; 260 MB for a thousand


class Classifier(nn.Module):
    """Two convolutions, a hidden layer of 32 features, ten classes.

    Features are standardised with the mean and standard deviation of the training images, kept as buffers.
    32 smooth units: few enough for the covariance of 500 images, and none of them dead.
    """

    def __init__(self, image_shape: tuple[int, int, int], vocab_size: int):
        super().__init__()
        self.image_shape, self.top = image_shape, vocab_size - 1
        height, width, channels = image_shape
        dim, classes = 32, 10
        self.conv1 = nn.Conv2d(channels, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 48, 3, padding=1)
        self.hidden = nn.Linear(48 * (height // 2) * (width // 2), dim)
        self.out = nn.Linear(dim, classes)
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("std", torch.ones(dim))

    def images(self, tokens: Tensor) -> Tensor:
        """Tokens [n, L] as images [n, channels, height, width] with levels in [0, 1]."""
        return tokens.reshape(-1, *self.image_shape).permute(0, 3, 1, 2).float() / self.top

    def activations(self, images: Tensor) -> Tensor:
        """The hidden layer before standardisation, [n, dim]."""
        h = relu(self.conv1(images))
        h = max_pool2d(relu(self.conv2(h)), 2)
        return silu(self.hidden(h.flatten(1)))

    def features(self, images: Tensor) -> Tensor:
        """Standardised features [n, dim]."""
        return (self.activations(images) - self.mean) / self.std

    def forward(self, images: Tensor) -> Tensor:
        """Class logits [n, classes]."""
        return self.out(self.activations(images))


class Features:
    """A function from tokens [n, L] to float64 features [n, dim]. `name` identifies the weights, `classes`
    gives the classifier's own guesses, `num_classes` how many there are."""

    def __init__(self, model: Classifier, name: str):
        self.model, self.name = model, name
        self.num_classes = model.out.out_features

    def __call__(self, tokens: Tensor) -> np.ndarray:
        return self._of_images(self.model.features, tokens).double().numpy()

    def classes(self, tokens: Tensor) -> np.ndarray:
        """The likeliest class of every image, [n]."""
        return self._of_images(self.model, tokens).argmax(-1).numpy()

    @torch.no_grad()
    def _of_images(self, function: Callable[[Tensor], Tensor], tokens: Tensor) -> Tensor:
        """What a function of images gives for tokens [n, L], a thousand at a time."""
        return torch.cat([function(self.model.images(part)) for part in tokens.cpu().split(1000)])


class OneHot:
    """Tokens [n, L] as float64 features [n, L V]: sqrt(V) at the class of every position, 0 elsewhere.

    The kernel of `kernel_distance` is then (share of equal tokens + 1)^3, which sees the joint law of every
    three positions, and distances are those of Hamming.
    """

    name = "one-hot tokens"

    def __init__(self, vocab_size: int):
        self.vocab_size = vocab_size

    def __call__(self, tokens: Tensor) -> np.ndarray:
        return np.sqrt(self.vocab_size) * one_hot(tokens.cpu(), self.vocab_size).flatten(1).double().numpy()


def features_of(world: World) -> Features | OneHot:
    """The extractor of a world: its classifier, or its tokens as they are."""
    return load_features(world.name) if world.name in EXTRACTORS else OneHot(world.vocab_size)


def extractor_files(name: str) -> tuple[Path, Path]:
    """Weights and provenance of the extractor called `name`."""
    folder = data_dir() / "models"
    return folder / f"{name}.safetensors", folder / f"{name}.json"


@cache
def load_features(world_name: str) -> Features:
    """The feature extractor of an image world.

    A world without one, or a file that does not match its recorded SHA-256, is a ValueError.
    """
    if world_name not in EXTRACTORS:
        raise ValueError(f"features: world {world_name!r} is not allowed; choose one of {sorted(EXTRACTORS)}")
    world, (weights, provenance) = get_world(world_name), extractor_files(EXTRACTORS[world_name])
    content = weights.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    try:
        if json.loads(provenance.read_text())["sha256"] != digest:
            raise ValueError("sha256 differs from the one recorded")
        state = load(content)
        model = Classifier(world.image_shape, world.vocab_size)
        model.load_state_dict(state)
    except (ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"features: {weights} or its .json is corrupt ({reason})") from error
    return Features(model.eval(), f"{EXTRACTORS[world_name]}-{digest[:8]}")
