"""Data sets on the Hugging Face hub, which is asked only where DMMD_DOWNLOAD=1 is set."""

from collections.abc import Iterator

from dmmd_lite.utils.extras import require
from dmmd_lite.utils.paths import external_data_dir
from dmmd_lite.worlds.files import BATCH, TEXT_COLUMN, check_columns, check_text, first_line, reading

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
    """Return the set's name and revision, and a stream of rows for every part; ValueError where the hub does
    not give it."""
    require("datasets", "huggingface_hub")
    from datasets import load_dataset
    from huggingface_hub import HfApi

    try:
        revision = HfApi().dataset_info(name).sha
        parts = load_dataset(name, revision=revision, streaming=True)
    except Exception as error:  # several libraries raise
        raise ValueError(f"{name}: the hub does not give it ({first_line(error)})") from None
    return f"{name}@{revision}", parts


def hub_texts(rows, where: str) -> Iterator[str]:
    """Yield the documents of a part of a set; ValueError as for `files.read_texts`."""
    with reading(where):
        for batch in rows.iter(BATCH):
            check_columns(list(batch))
            for text in batch[TEXT_COLUMN]:
                check_text(text)
                yield text
