"""Image sets read through Hugging Face `datasets`: CIFAR-10, Fashion-MNIST, MNIST.

Files NAME_train.parquet and NAME_test.parquet are in $DMMD_DATA_DIR, with the columns the sets have on the
hub; the hub is asked only where there are no files and DMMD_DOWNLOAD=1 is set. Images are decoded once into
the cache folder, under a name that contains the SHA-256 of the files.
"""

import hashlib
import io
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from dmmd_lite.utils.files import made_once, sha256_of, sha256_of_json, write_tensors
from dmmd_lite.utils.paths import cache_dir, external_data_dir, may_download
from dmmd_lite.worlds.hub import HUB, batches, first_line, not_in_data_dir, open_hub
from dmmd_lite.worlds.images import LEVELS, ImageWorld, check_levels, quantised

LAYOUT = 1  # raise it with every change of what is stored
COLUMNS = ("img", "image")  # possible names of the column with the images
FILE_SPLITS = ("train", "test")
SPLIT_SEED = 0
BATCH = 1000  # images decoded together


class ImageSet(ImageWorld):
    """A published set of images with labels. Nothing is read before an image is asked for.

    Args:
    stem: the NAME of its files.
    extractor: the name of its feature extractor.

    "train" is the whole published training set, so that models and distances to it compare with the
    literature; "valid" and "test" are fixed random halves of the published test set.
    """

    traits = ImageWorld.traits | {"published"}

    def __init__(
        self,
        stem: str,
        image_shape: tuple[int, int, int],
        num_classes: int,
        extractor: str,
        levels: int = LEVELS,
        name: str | None = None,
    ):
        self.stem, self.hub, self.name, self.extractor = stem, HUB[stem], name or stem, extractor
        self.image_shape, self.length = image_shape, int(np.prod(image_shape))
        self.num_classes, self.vocab_size = num_classes, check_levels(levels)

    @cached_property
    def parts(self) -> dict[str, tuple[Tensor, Tensor]]:
        """The tokens, uint8 [n, L], and labels [n] of every split; ValueError where the files are missing."""
        stored = load_file(self.cached)
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
        with safe_open(self.cached, "pt") as file:
            return {f"images_{key}": value for key, value in sorted(file.metadata().items())}

    @cached_property
    def cached(self) -> Path:
        """The path of the file with all decoded images, which is made where it is missing.

        Raises ValueError where there is no source to make it from; also for files that cannot be read or hold
        something else.
        """
        files = self._files()
        key = {
            "source": {split: sha256_of(file) for split, file in files.items()} or self.hub,
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
        source, parts = _open_files(files, self.name) if files else open_hub(self.hub)
        if not parts.keys() >= set(FILE_SPLITS):
            raise ValueError(f"{self.name}: {source} has no split 'test'; its splits are {sorted(parts)}")
        tensors, digest = {}, hashlib.sha256()
        for split in FILE_SPLITS:
            where = f"{self.name}: {files[split].name if files else source}"
            decoded = list(self._decoded(parts[split], where))
            if not decoded:
                raise ValueError(f"{where} holds no images")
            images, labels = (np.concatenate(column) for column in zip(*decoded, strict=True))
            tensors |= {split: torch.from_numpy(images), f"{split}_labels": torch.from_numpy(labels)}
            digest.update(images)
            digest.update(labels)
        write_tensors(target, tensors, {"source": source, "sha256": digest.hexdigest()})

    def _decoded(self, rows, where: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield images, uint8 [n, L], and labels, uint8 [n], batch by batch."""
        from datasets import Image

        try:
            columns = rows.column_names or list(next(iter(rows.take(1)), {}))
        except Exception as error:  # several libraries raise
            raise ValueError(f"{where} cannot be read ({first_line(error)})") from None
        images = next((name for name in COLUMNS if name in columns), None)
        if images is None or "label" not in columns:
            raise ValueError(
                f"{where} needs the columns 'label' and one of {COLUMNS}; its columns are {columns}"
            )
        for batch in batches(rows.cast_column(images, Image(decode=False)), BATCH, where):
            labels = np.array(batch["label"])
            if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= self.num_classes:
                raise ValueError(f"{where}: column 'label' must hold whole numbers below {self.num_classes}")
            pixels = np.stack([self._pixels(cell["bytes"], where) for cell in batch[images]])
            yield pixels, labels.astype(np.uint8)

    def _pixels(self, content: bytes | None, where: str) -> np.ndarray:
        """Decode one image, uint8 [L]; ValueError for one of another size."""
        from PIL import Image, UnidentifiedImageError

        try:
            pixels = np.asarray(Image.open(io.BytesIO(content or b"")))
        except (UnidentifiedImageError, OSError):
            raise ValueError(f"{where} holds an image that cannot be decoded") from None
        found, wanted = pixels.shape[:2] + (1,) * (pixels.ndim == 2) + pixels.shape[2:], self.image_shape
        if found != wanted or pixels.dtype != np.uint8:
            raise ValueError(
                f"{where} holds an image of {_words(found)} {pixels.dtype}, not {_words(wanted)}"
            )
        return pixels.reshape(-1)


def cifar10(levels: int = LEVELS, name: str | None = None) -> ImageSet:
    """Make the world of CIFAR-10: 50,000 training images of 32 x 32 in colour, 3,072 tokens, ten classes."""
    return ImageSet("cifar10", (32, 32, 3), 10, "resnet20", levels, name)


def fashion_mnist(levels: int = LEVELS, name: str | None = None) -> ImageSet:
    """Make the world of Fashion-MNIST: 60,000 training images of 28 x 28 in grey, 784 tokens, ten classes."""
    return ImageSet("fashion_mnist", (28, 28, 1), 10, "fashion_mnist-classifier", levels, name)


def mnist(levels: int = LEVELS, name: str | None = None) -> ImageSet:
    """Make the world of MNIST: 60,000 training images of 28 x 28 in grey, 784 tokens, ten classes."""
    return ImageSet("mnist", (28, 28, 1), 10, "mnist-classifier", levels, name)


def _open_files(files: dict[str, Path], name: str) -> tuple[str, dict]:
    """Return the files' names, and a stream of rows for every part."""
    from datasets import load_dataset
    from datasets.utils.logging import CRITICAL, get_verbosity, set_verbosity

    names, before = ", ".join(file.name for file in files.values()), get_verbosity()
    set_verbosity(CRITICAL)  # the error raised below is the only message
    try:
        paths = {split: str(file) for split, file in files.items()}
        return names, load_dataset("parquet", data_files=paths, streaming=True)
    except Exception as error:  # several libraries raise
        raise ValueError(f"{name}: {names} cannot be read ({first_line(error)})") from None
    finally:
        set_verbosity(before)


def _words(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
