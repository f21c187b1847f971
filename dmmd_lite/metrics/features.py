"""Features of images, from classifiers: what the distances between sets of images compare.

A learned Fréchet distance is only comparable between runs that use the same extractor, so every record names
its architecture and weights. Classifiers built here (`build_features.py`) lie under `data/models/`, checked
against the SHA-256 in their provenance file, or are trained into the cache folder when they are first asked
for; ResNets trained elsewhere are given as safetensors. FID's own network is in `inception.py`.
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
from torch.nn.functional import one_hot

from dmmd_lite.metrics.classifier import CLASSIFIERS, Classifier, extractor_files, unit_images
from dmmd_lite.metrics.resnet import RESNETS, ResNet
from dmmd_lite.utils.paths import external_data_dir
from dmmd_lite.worlds import get_world
from dmmd_lite.worlds.images import ImageWorld

EXTRACTORS = {  # world: its own extractor
    "digits": "digits-classifier",
    "glyphs": "glyphs-classifier",
    "glyphs256": "glyphs-classifier",
    "fashion_mnist": "fashion_mnist-classifier",
    "mnist": "mnist-classifier",
    "cifar10": "resnet20",
    "photos": "resnet20",
}
MOST_FEATURES = 32_768  # of sequences whose tokens are their own features; 260 MB for a thousand
RESNET_FOLDER = "cifar10_resnet"  # in $DMMD_DATA_DIR, with ARCHITECTURE.safetensors


class Features:
    """A function from a world's tokens [n, L] to float64 features [n, dim].

    model has `features` of images [n, channels, height, width] in [0, 1] and their number `dim`; a classifier
    gives its own guesses besides, `classes`, below `num_classes`. name identifies architecture and weights.
    """

    def __init__(self, model: nn.Module, name: str, world: ImageWorld, device="cpu", at_once: int = 1000):
        self.model, self.name, self.world = model.to(device).eval(), name, world
        self.dim, self.device, self.at_once = model.dim, device, at_once

    @property
    def num_classes(self) -> int:
        """How many classes the model tells apart."""
        return self.model.num_classes

    def images(self, tokens: Tensor) -> Tensor:
        """Tokens [n, L] as the images that the model reads."""
        return unit_images(tokens, self.world)

    def __call__(self, tokens: Tensor) -> np.ndarray:
        return self._of_images(self.model.features, tokens).double().numpy()

    def classes(self, tokens: Tensor) -> np.ndarray:
        """The likeliest class of every image, [n]."""
        return self._of_images(self.model, tokens).argmax(-1).numpy()

    @torch.no_grad()
    def _of_images(self, function: Callable[[Tensor], Tensor], tokens: Tensor) -> Tensor:
        """What a function of images gives for tokens [n, L], `at_once` at a time."""
        parts = tokens.split(self.at_once)
        return torch.cat([function(self.images(part.to(self.device))).cpu() for part in parts])


@cache
def load_features(world_name: str, features: str | None = None) -> Features:
    """A feature extractor for an image world.

    features: "WORLD-classifier" for one built here, "resnet20" or "resnet56" for weights in
    $DMMD_DATA_DIR/cifar10_resnet, "resnet20:FILE" for others; None: the world's own, see `EXTRACTORS`.
    ValueError for a world or a name that is not known, images of another size, and a file that is missing,
    damaged or of another architecture.
    """
    own = EXTRACTORS.get(world_name.partition("@")[0])
    if own is None:
        raise ValueError(f"features: world {world_name!r} is not allowed; choose one of {sorted(EXTRACTORS)}")
    world, features = get_world(world_name), features or own
    architecture, _, file = features.partition(":")
    if architecture in RESNETS:
        weights = Path(file).expanduser() if file else _resnet_file(architecture)
        model, digest = _read_resnet(architecture, weights)
        name = architecture
    elif features.removesuffix("-classifier") in CLASSIFIERS and features.endswith("-classifier"):
        model, digest = _read_classifier(features)
        name = features
    else:
        known = [*(f"{name}-classifier" for name in CLASSIFIERS), *RESNETS]
        raise ValueError(
            f"features: {features!r} is not allowed; choose from {known}, or ARCHITECTURE:FILE with one of"
            f" {list(RESNETS)} and a safetensors file"
        )
    if model.image_shape != world.image_shape:
        reads, has = ("x".join(map(str, shape)) for shape in (model.image_shape, world.image_shape))
        raise ValueError(
            f"features: {features!r} is not allowed for {world_name}; it reads images of {reads}, not {has}"
        )
    return Features(model, f"{name}-{digest[:8]}", world)


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


def local_resnets() -> list[str]:
    """Architectures whose weights are in $DMMD_DATA_DIR."""
    folder = external_data_dir()
    return [name for name in RESNETS if folder and (folder / RESNET_FOLDER / f"{name}.safetensors").is_file()]


def _resnet_file(architecture: str) -> Path:
    if architecture not in local_resnets():
        folder, name = external_data_dir(), f"{RESNET_FOLDER}/{architecture}.safetensors"
        where = f" in {folder}" if folder else ", because DMMD_DATA_DIR is not set"
        raise ValueError(
            f"features: no {name}{where}; put it there, name another file as {architecture}:FILE, or choose a"
            " WORLD-classifier, which is trained here"
        )
    return external_data_dir() / RESNET_FOLDER / f"{architecture}.safetensors"


def _read_resnet(architecture: str, weights: Path) -> tuple[ResNet, str]:
    """The network and sha256 of its weights."""
    if not weights.is_file():
        raise ValueError(f"features: {str(weights)!r} is not a file; name a safetensors file")
    content, model = weights.read_bytes(), ResNet(RESNETS[architecture])
    try:
        model.load_state_dict(load(content))
    except (SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"features: {weights} holds no weights of {architecture} ({reason})") from None
    return model, hashlib.sha256(content).hexdigest()


def _read_classifier(name: str) -> tuple[Classifier, str]:
    """A released classifier, or one in the cache, trained now where it is missing; and its sha256."""
    from dmmd_lite.metrics.classifier import cached_files

    world_name = name.removesuffix("-classifier")
    weights, provenance = extractor_files(name)
    if not weights.is_file():
        weights, provenance = cached_files(world_name)
    content = weights.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    try:
        if json.loads(provenance.read_text())["sha256"] != digest:
            raise ValueError("sha256 differs from the one recorded")
        state = {key: value.float() for key, value in load(content).items()}
        sizes = len(state["out.bias"]), len(state["mean"])
        model = Classifier(get_world(world_name).image_shape, *sizes)
        model.load_state_dict(state)
    except (ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"features: {weights} or its .json is corrupt ({reason})") from error
    return model, digest
