"""Published image sets, in files or on the Hugging Face hub: CIFAR-10, Fashion-MNIST, MNIST.

Files NAME_train.parquet and NAME_test.parquet are in $DMMD_DATA_DIR, with the columns the sets have on the
hub; the hub is asked only where there are no files and DMMD_DOWNLOAD=1 is set. Images are decoded once into
the cache folder, under a name that contains the SHA-256 of the files.
"""

import hashlib
import io
import warnings
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dmmd_lite.utils.checks import checked
from dmmd_lite.utils.extras import require
from dmmd_lite.utils.files import made_once, read_cached, sha256_of_json, write_tensors
from dmmd_lite.utils.paths import cache_dir, external_data_dir, may_download
from dmmd_lite.worlds.files import BATCH, digest_of, read_parquet, reading
from dmmd_lite.worlds.hub import HUB, not_in_data_dir, open_hub
from dmmd_lite.worlds.images import LEVELS, ImageWorld, Levels, quantised

LAYOUT = 2  # raise it with every change of what is stored
COLUMNS = ("img", "image")  # possible names of the column with the images
FILE_SPLITS = ("train", "test")
SPLIT_SEED = 0
DECODERS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP")  # the formats of images that are read


class ImageSet(ImageWorld):
    """A published set of images with labels. Nothing is read before an image is asked for.

    Args:
    stem: the NAME of its files.
    extractor: the name of its feature extractor.

    "train" is the whole published training set, so that models and distances to it compare with the
    literature; "valid" and "test" are fixed random halves of the published test set.
    """

    traits = ImageWorld.traits | {"published"}

    @checked
    def __init__(
        self,
        stem: str,
        image_shape: tuple[int, int, int],
        num_classes: int,
        extractor: str,
        levels: Levels = LEVELS,
        name: str | None = None,
    ):
        self.stem, self.hub, self.name, self.extractor = stem, HUB[stem], name or stem, extractor
        self.image_shape, self.length = image_shape, int(np.prod(image_shape))
        self.num_classes, self.vocab_size = num_classes, levels

    @cached_property
    def parts(self) -> dict[str, tuple[Tensor, Tensor]]:
        """The tokens, uint8 [n, L], and labels [n] of every split; ValueError where the files are missing."""
        stored, _ = read_cached(self.cached)
        images = {split: quantised(stored[split], self.vocab_size) for split in FILE_SPLITS}
        labels = {split: stored[f"{split}_labels"].long() for split in FILE_SPLITS}
        order = torch.from_numpy(np.random.default_rng(SPLIT_SEED).permutation(len(labels["test"])))
        half = len(order) // 2
        parts = {"train": (images["train"], labels["train"])}
        for split, chosen in {"valid": order[:half], "test": order[half:]}.items():
            parts[split] = images["test"][chosen], labels["test"][chosen]
        return parts

    @cached_property
    def provenance(self) -> dict:
        """The source without folders, and the SHA-256 of all pixels and labels."""
        return {f"images_{key}": value for key, value in sorted(read_cached(self.cached)[1].items())}

    @cached_property
    def cached(self) -> Path:
        """The path of the file with all decoded images, which is made where it is missing.

        Raises ValueError where there is no source to make it from; also for files that cannot be read or hold
        something else.
        """
        files = self._files()
        key = {
            "source": {split: digest_of(file) for split, file in files.items()} or self.hub,
            "layout": LAYOUT,
        }
        target = cache_dir() / "images" / f"{self.stem}-{sha256_of_json(key)[:16]}.safetensors"
        if not files and not may_download() and not target.is_file():
            words = not_in_data_dir(f"{self.stem}_{{train,test}}.parquet")
            raise ValueError(f"{self.name}: {words} or set DMMD_DOWNLOAD=1 to fetch {self.hub} from the hub")
        return made_once(target, lambda path: self._write(path, files))

    def _files(self) -> dict[str, Path]:
        """Find the data files of both parts; none where only the hub can have them."""
        folder = external_data_dir()
        files = {split: folder / f"{self.stem}_{split}.parquet" for split in FILE_SPLITS} if folder else {}
        return files if all(file.is_file() for file in files.values()) else {}

    def _write(self, target: Path, files: dict[str, Path]) -> None:
        """Decode everything, then write the file atomically."""
        source = ", ".join(file.name for file in files.values())
        if files:
            parts = {split: read_parquet(file, _image_and_label) for split, file in files.items()}
        else:
            source, parts = open_hub(self.hub)
            if not parts.keys() >= set(FILE_SPLITS):
                words = f"needs the splits {FILE_SPLITS}; its splits are {sorted(parts)}"
                raise ValueError(f"{self.name}: {source} {words}")
            parts = {split: _hub_rows(parts[split]) for split in FILE_SPLITS}
        tensors, digest = {}, hashlib.sha256()
        for split in FILE_SPLITS:
            with reading(f"{self.name}: {files[split].name if files else source}"):
                decoded = [self._decoded(*batch) for batch in parts[split]]
                if not decoded:
                    raise ValueError("it holds no images")
            images, labels = (np.concatenate(column) for column in zip(*decoded, strict=True))
            tensors |= {split: torch.from_numpy(images), f"{split}_labels": torch.from_numpy(labels)}
            digest.update(images)
            digest.update(labels)
        write_tensors(target, tensors, {"source": source, "sha256": digest.hexdigest()})

    def _decoded(self, images: list, labels: list) -> tuple[np.ndarray, np.ndarray]:
        """Decode a batch of images, uint8 [n, L], and labels, uint8 [n]; ValueError for other ones."""
        labels = np.array(labels)
        if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= self.num_classes:
            raise ValueError(f"column 'label' must hold whole numbers below {self.num_classes}")
        return np.stack([self._pixels(image) for image in images]), labels.astype(np.uint8)

    def _pixels(self, image: dict | None) -> np.ndarray:
        """Decode one image, uint8 [L]; ValueError for one that is not like the set's."""
        height, width, channels = self.image_shape
        colours = _decode((image or {}).get("bytes") or b"", (width, height))
        if channels == 1 and (colours != colours[..., :1]).any():
            raise ValueError("it holds an image in colour; images of this set are grey")
        return colours[..., :channels].reshape(-1)


def cifar10(levels: int = LEVELS, name: str | None = None) -> ImageSet:
    """Make the world of CIFAR-10: 50,000 training images of 32 x 32 in colour, 3,072 tokens, ten classes."""
    return ImageSet("cifar10", (32, 32, 3), 10, "resnet20", levels, name)


def fashion_mnist(levels: int = LEVELS, name: str | None = None) -> ImageSet:
    """Make the world of Fashion-MNIST: 60,000 training images of 28 x 28 in grey, 784 tokens, ten classes."""
    return ImageSet("fashion_mnist", (28, 28, 1), 10, "fashion_mnist-classifier", levels, name)


def mnist(levels: int = LEVELS, name: str | None = None) -> ImageSet:
    """Make the world of MNIST: 60,000 training images of 28 x 28 in grey, 784 tokens, ten classes."""
    return ImageSet("mnist", (28, 28, 1), 10, "mnist-classifier", levels, name)


def _decode(content: bytes, size: tuple[int, int]) -> np.ndarray:
    """Decode an image file, whatever way it says colours in: red, green and blue, uint8 [height, width, 3].

    Of 16 bits the upper 8 are kept. Errors: ValueError for what cannot be decoded, for an image of another
    size (width, height), which is seen before its pixels are read, of several frames, with transparent pixels
    or with numbers of 32 bits.
    """
    require("PIL")
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(content), formats=DECODERS)
        frames, mode, found = getattr(image, "n_frames", 1), image.mode, image.size
        if found == size and frames == 1:
            if mode.startswith("I;16"):
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            pixels = np.asarray(image.convert("RGBA"))
    except Exception:  # every format raises others
        raise ValueError("it holds an image that cannot be decoded") from None
    if found != size:
        raise ValueError(f"it holds an image of {found[0]} x {found[1]} pixels, not {size[0]} x {size[1]}")
    if frames > 1:
        raise ValueError(f"it holds an image of {frames} frames, not one")
    if mode in ("I", "F"):
        raise ValueError(f"it holds an image of mode {mode!r}; pixels must have 8 or 16 bits")
    if pixels[..., 3].min() < 255:
        raise ValueError("it holds an image with transparent pixels")
    return pixels[..., :3]


def _image_and_label(columns: list[str]) -> list[str]:
    """Choose the columns with images and labels; ValueError where one is missing."""
    images = next((name for name in COLUMNS if name in columns), None)
    if images is None or "label" not in columns:
        raise ValueError(f"it needs the columns 'label' and one of {COLUMNS}; its columns are {columns}")
    return [images, "label"]


def _hub_rows(rows) -> Iterator[tuple[list, list]]:
    """Yield batches of images, not decoded, and labels of a part of a set on the hub."""
    from datasets import Image

    images, labels = _image_and_label(rows.column_names or list(next(iter(rows.take(1)), {})))
    for batch in rows.cast_column(images, Image(decode=False)).iter(BATCH):
        yield batch[images], batch[labels]
