"""Features of samples: what distances between sets of images or sequences compare.

A learned Fréchet distance is only comparable between runs that use the same extractor, so every record names
its architecture and weights. Classifiers trained here (`classifier.py`) are in `data/models/`, checked
against the SHA-256 in their provenance file, or are trained into the cache folder when they are first needed.
ResNets trained elsewhere are read from safetensors. FID's network is in `inception.py`.
"""

import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn
from torch.nn.functional import one_hot

from dmmd_lite.metrics.classifier import CLASSIFIERS, Classifier, cached_files, extractor_files, unit_images
from dmmd_lite.metrics.resnet import RESNETS, ResNet
from dmmd_lite.utils.files import sha256_of
from dmmd_lite.utils.paths import external_data_dir
from dmmd_lite.utils.weights import load_weights
from dmmd_lite.worlds import get_world
from dmmd_lite.worlds.base import World
from dmmd_lite.worlds.images import ImageWorld

RESNET_FOLDER = "cifar10_resnet"  # in $DMMD_DATA_DIR, with ARCHITECTURE.safetensors
ENDING = "-classifier"  # of the names of classifiers trained here, after the name of their world


class Features:
    """A function from tokens [n, L] of an image world to float64 features [n, dim].

    Args:
    model: has `features` of images [n, channels, height, width] in [0, 1] and their number `dim`; a
        classifier also gives logits of `num_classes` classes.
    name: identifies architecture and weights.
    at_once: images that the model reads together.
    """

    def __init__(self, model: nn.Module, name: str, world: ImageWorld, device="cpu", at_once: int = 1000):
        self.model, self.name, self.world = model.to(device).eval(), name, world
        self.dim, self.device, self.at_once = model.dim, device, at_once

    @property
    def num_classes(self) -> int:
        """The number of classes of the model."""
        return self.model.num_classes

    def images(self, tokens: Tensor) -> Tensor:
        """Turn tokens [n, L] into the images that the model reads."""
        return unit_images(tokens, self.world)

    def __call__(self, tokens: Tensor) -> np.ndarray:
        return self._of_images(self.model.features, tokens).double().numpy()

    def reference(self, split: str) -> np.ndarray:
        """Return the features [m, dim] of all images of a split; those of four splits are kept."""
        return _reference_features(self, split)

    def classes(self, tokens: Tensor) -> np.ndarray:
        """Return the most probable class of every image, [n]."""
        return self._of_images(self.model, tokens).argmax(-1).numpy()

    @torch.no_grad()
    def _of_images(self, function: Callable[[Tensor], Tensor], tokens: Tensor) -> Tensor:
        """Apply a function of images to tokens [n, L], `at_once` at a time."""
        parts = tokens.split(self.at_once)
        return torch.cat([function(self.images(part.to(self.device))).cpu() for part in parts])


@lru_cache(maxsize=4)  # sweeps need the same features again and again
def _reference_features(extract: Features, split: str) -> np.ndarray:
    return extract(extract.world.reference(split))


class OneHot:
    """The function from tokens [n, L] to float64 features [n, L V]: sqrt(V) at the class of every position,
    0 elsewhere.

    The kernel of `kernel_distance` is then (share of equal tokens + 1)^3, which depends on the joint
    distribution of every three positions, and distances are Hamming distances.
    """

    name = "one-hot tokens"

    def __init__(self, world: World):
        self.world = world

    def __call__(self, tokens: Tensor) -> np.ndarray:
        vocab_size = self.world.vocab_size
        return np.sqrt(vocab_size) * one_hot(tokens.cpu(), vocab_size).flatten(1).double().numpy()

    def reference(self, split: str) -> np.ndarray:
        """Return the features of reference sequences of a split."""
        return self(self.world.reference(split))


@lru_cache(maxsize=16)
def load_features(world: World, features: str | None = None) -> Features | OneHot:
    """Load a feature extractor for samples of a world.

    Args:
    features: "WORLD-classifier" for one trained here, "resnet20" or "resnet56" for weights in
        $DMMD_DATA_DIR/cifar10_resnet, "resnet20:FILE" for others; None: `World.extractor`.
    Errors: ValueError for a world without features, an unknown name, images of another size, and a file that
    is missing, damaged or of another architecture.
    """
    if not world.extractor:
        raise ValueError(f"features: world {world.name!r} is not allowed; it has no feature extractor")
    if world.extractor == "one-hot":
        if features is not None:
            raise ValueError(
                f"features: {features!r} is not allowed for {world.name}, which is no image world"
            )
        return OneHot(world)
    features = features or world.extractor
    architecture, _, file = features.partition(":")
    if architecture in RESNETS:
        name, weights = architecture, Path(file).expanduser() if file else _resnet_file(architecture)
        model, digest = _read_resnet(architecture, weights)
    elif features == world.extractor or features in [name + ENDING for name in CLASSIFIERS]:
        name, (model, digest) = features, _read_classifier(features)
    else:
        known = [*(name + ENDING for name in CLASSIFIERS), *RESNETS]
        raise ValueError(
            f"features: {features!r} is not allowed; choose from {known}, or ARCHITECTURE:FILE with one of"
            f" {list(RESNETS)} and a safetensors file"
        )
    if model.image_shape != world.image_shape:
        reads, has = ("x".join(map(str, shape)) for shape in (model.image_shape, world.image_shape))
        raise ValueError(
            f"features: {features!r} is not allowed for {world.name}; it reads images of {reads}, not {has}"
        )
    return Features(model, f"{name}-{digest[:8]}", world)


def local_resnets() -> list[str]:
    """Return the architectures whose weights are in $DMMD_DATA_DIR."""
    folder = external_data_dir()
    return [name for name in RESNETS if folder and (folder / RESNET_FOLDER / f"{name}.safetensors").is_file()]


def _resnet_file(architecture: str) -> Path:
    folder, name = external_data_dir(), f"{RESNET_FOLDER}/{architecture}.safetensors"
    if architecture not in local_resnets():
        where = f" in {folder}" if folder else ", because DMMD_DATA_DIR is not set"
        raise ValueError(
            f"features: no {name}{where}; put it there, name another file as {architecture}:FILE, or choose a"
            " WORLD-classifier, which is trained here"
        )
    return folder / name


def _read_resnet(architecture: str, weights: Path) -> tuple[ResNet, str]:
    """Return the network and the SHA-256 of its weights."""
    if not weights.is_file():
        raise ValueError(f"features: {str(weights)!r} is not a file; name a safetensors file")
    content, model = weights.read_bytes(), ResNet(RESNETS[architecture])
    try:
        load_weights(model, load(content))
    except (SafetensorError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"features: {weights} holds no weights of {architecture} ({reason})") from None
    return model, sha256_of(content)


def _read_classifier(name: str) -> tuple[Classifier, str]:
    """Return a released classifier, or one from the cache (trained where it is missing), and its SHA-256."""
    world_name = name.removesuffix(ENDING)
    weights, provenance = extractor_files(name)
    if not weights.is_file():
        weights, provenance = cached_files(world_name)
    content = weights.read_bytes()
    digest = sha256_of(content)
    try:
        if json.loads(provenance.read_text(encoding="utf-8"))["sha256"] != digest:
            raise ValueError("sha256 differs from the one recorded")
        state = {key: value.float() for key, value in load(content).items()}
        sizes = len(state["out.bias"]), len(state["mean"])
        model = Classifier(get_world(world_name).image_shape, *sizes)
        load_weights(model, state)
    except (ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"features: {weights} or its .json is corrupt ({reason})") from error
    return model, digest
