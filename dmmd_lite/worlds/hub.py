"""Data sets in files and on the Hugging Face hub: what texts and images are read with."""

from collections.abc import Iterator

from dmmd_lite.utils.paths import external_data_dir

HUB = {
    "openwebtext": "Skylion007/openwebtext",
    "gpt2": "openai-community/gpt2",
    "cifar10": "uoft-cs/cifar10",
    "fashion_mnist": "zalando-datasets/fashion_mnist",
    "mnist": "ylecun/mnist",
}  # names on the Hugging Face hub


def not_in_data_dir(pattern: str) -> str:
    """Say that files are missing in $DMMD_DATA_DIR, and what to do about it."""
    folder = external_data_dir()
    where = f" in {folder}" if folder else ", because DMMD_DATA_DIR is not set"
    return f"no {pattern}{where}; point DMMD_DATA_DIR at a folder with these files"


def open_hub(name: str) -> tuple[str, dict]:
    """Return the set's name and revision, and a stream of rows for every split; ValueError where the hub does
    not give it or it has no split "train"."""
    from datasets import load_dataset
    from huggingface_hub import HfApi

    try:
        revision = HfApi().dataset_info(name).sha
        parts = load_dataset(name, revision=revision, streaming=True)
    except Exception as error:  # several libraries raise
        raise ValueError(f"{name}: the hub does not give it ({first_line(error)})") from None
    if "train" not in parts:
        raise ValueError(f"{name}: the set on the hub has no split 'train'; its splits are {sorted(parts)}")
    return f"{name}@{revision}", parts


def batches(rows, size: int, where: str) -> Iterator[dict[str, list]]:
    """Yield rows in batches of columns; ValueError for what cannot be read, which `where` names."""
    try:
        yield from rows.iter(size)
    except Exception as error:  # several libraries raise
        raise ValueError(f"{where} cannot be read ({first_line(error)})") from None


def first_line(error: Exception) -> str:
    """Return an error's type and the first line of its message."""
    return f"{type(error).__name__}: {error}".splitlines()[0]
