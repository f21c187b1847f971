"""Corpora read through Hugging Face `datasets`: books, OpenWebText or others, in letters or GPT-2 tokens.

Documents are packed: tokenised, each followed by a separator (a space, or GPT-2's end of text), and joined
into one stream a split. Streams are stored in the cache folder under a name that contains the SHA-256 of the
data files and of the tokenizer, so a second start only reads them. The package reads files from
$DMMD_DATA_DIR, and asks the hub only where DMMD_DOWNLOAD=1 is set.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from dmmd_lite.utils.checks import check_choice, check_whole
from dmmd_lite.utils.files import made_once, sha256_of, sha256_of_json, write_tensors
from dmmd_lite.utils.paths import cache_dir, external_data_dir, may_download
from dmmd_lite.worlds.hub import HUB, batches, not_in_data_dir, open_hub
from dmmd_lite.worlds.text import TextWorld
from dmmd_lite.worlds.tokenizers import TOKENIZERS

LAYOUT = 1  # raise it with every change of packing or splits, so that no older stream is read
JUDGE_SHARE = 1 / 4  # share of the training documents that only judges learn from
HELD_OUT = 50  # one document in 50 is for "test" and one for "valid" where a set has no such parts
BATCH = 1000  # documents tokenised together
FILE_SPLITS = ("train", "valid", "test")
FORMATS = {".parquet": "parquet", ".json": "json", ".jsonl": "json", ".txt": "text"}


class Corpus(TextWorld):
    """A text world over documents in files or on the hub. Nothing is read before a stream is asked for.

    Args:
    symbols: "letters" (27) or "gpt2" (50,257 tokens).
    length: tokens in a sequence.
    stem: the NAME of NAME_{train,valid,test}.parquet in $DMMD_DATA_DIR.
    path: a file or folder instead.
    hub: a data set on the hub, used where there are no files.
    max_documents: the maximum number of documents to read, from the start of every part.

    If a source has no parts "valid" and "test", its last 2 % of documents become "test" and the 2 % before
    them "valid". "judge" is a quarter of the training documents, chosen by a hash of the text: judges learn
    from it and generators never see it, though both may hold pages of one book.
    """

    splits = ("train", "judge", "valid", "test")

    def __init__(
        self,
        name: str,
        symbols: str,
        length: int,
        *,
        stem: str = "",
        path: Path | None = None,
        hub: str = "",
        max_documents: int | None = None,
    ):
        check_choice("symbols", symbols, TOKENIZERS)
        check_whole("length", length)
        if max_documents is not None:
            check_whole("max_documents", max_documents)
        self.tokenizer = TOKENIZERS[symbols]()
        self.name, self.vocab_size, self.length = name, self.tokenizer.vocab_size, length
        self.stem, self.path, self.hub, self.max_documents = stem, path, hub, max_documents

    @cached_property
    def streams(self) -> dict[str, Tensor]:
        """The tokens of every split, uint8 or uint16 [tokens]."""
        return load_file(self.cached)

    @cached_property
    def provenance(self) -> dict:
        """The source without folders, and the SHA-256 of all streams and of the tokenizer (or "letters")."""
        with safe_open(self.cached, "pt") as file:
            return {f"corpus_{key}": value for key, value in sorted(file.metadata().items())}

    def show(self, tokens: Tensor) -> list[str]:
        """Write tokens [B, L] as one string a sequence."""
        return self.tokenizer.show(tokens)

    @cached_property
    def cached(self) -> Path:
        """The path of the file with all streams, which is made where it is missing.

        Raises ValueError where there is no source to make it from; also for a source that cannot be read, has
        no column "text" or no text.
        """
        files = self._files()
        key = {
            "source": {split: [sha256_of(file) for file in part] for split, part in files.items()}
            or self.hub,
            "tokenizer": self.tokenizer.fingerprint,
            "max_documents": self.max_documents,
            "layout": LAYOUT,
        }
        target = cache_dir() / "corpora" / f"{self.name}-{sha256_of_json(key)[:16]}.safetensors"
        if not files and not may_download() and not target.is_file():
            raise ValueError(f"{self.name}: {self._missing()}")
        return made_once(target, lambda path: self._write(path, files))

    def _files(self) -> dict[str, list[Path]]:
        """Find the data files of all parts, or of "train" alone; none where only the hub can have them."""
        if self.path is not None:
            return _files_in(self.path)
        folder = external_data_dir()
        if folder is not None and self.stem:
            files = {split: folder / f"{self.stem}_{split}.parquet" for split in FILE_SPLITS}
            if all(file.is_file() for file in files.values()):
                return {split: [file] for split, file in files.items()}
        if not self.hub:
            raise ValueError(f"{self.name}: {self._missing()}")
        return {}

    def _missing(self) -> str:
        """Say what was looked for, where, and what to do about it."""
        if not self.stem:
            return (
                f"{self.hub!r} is neither a file nor a folder; set DMMD_DOWNLOAD=1 to look for it on the hub"
            )
        words = not_in_data_dir(f"{self.stem}_{{train,valid,test}}.parquet")
        return f"{words} or set DMMD_DOWNLOAD=1 to fetch {self.hub} from the hub" if self.hub else words

    def _write(self, target: Path, files: dict[str, list[Path]]) -> None:
        """Read, tokenise and pack everything, then write the file atomically."""
        source, parts = _open_files(files) if files else _open_hub(self.hub)
        lots = {split: list(self._tokenise(documents, source)) for split, documents in parts.items()}
        if "test" not in lots:
            documents = lots["train"]
            held = max(1, len(documents) // HELD_OUT)
            lots = {
                "train": documents[: -2 * held],
                "valid": documents[-2 * held : -held],
                "test": documents[-held:],
            }
        streams = {split: self._pack(tokens for _, tokens in lots[split]) for split in ("valid", "test")}
        for split in ("train", "judge"):
            streams[split] = self._pack(
                tokens for judge, tokens in lots["train"] if judge == (split == "judge")
            )
        if not any(map(len, streams.values())):
            raise ValueError(f"{self.name}: {source} holds no text")
        digest = hashlib.sha256()
        for split in self.splits:
            digest.update(streams[split].numpy())
        about = {"source": source, "sha256": digest.hexdigest(), "tokenizer": self.tokenizer.fingerprint}
        write_tensors(target, streams, about)

    def _tokenise(self, documents, source: str) -> Iterator[tuple[bool, np.ndarray]]:
        """Yield (is it for judges, tokens) of every document with text; ValueError without column "text"."""
        if self.max_documents is not None:
            documents = documents.take(self.max_documents)
        for batch in batches(documents, BATCH, f"{self.name}: {source}"):
            if "text" not in batch:
                raise ValueError(
                    f"{self.name}: {source} has no column 'text'; its columns are {sorted(batch)}"
                )
            if not all(isinstance(text, str) for text in batch["text"]):
                raise ValueError(f"{self.name}: the column 'text' of {source} must hold nothing but strings")
            for text, tokens in zip(batch["text"], self.tokenizer.encode(batch["text"]), strict=True):
                if len(tokens) > 1:
                    yield _is_for_judges(text), tokens

    def _pack(self, documents: Iterable[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.concatenate([np.empty(0, self.tokenizer.dtype), *documents]))


def books27() -> Corpus:
    """Make the world of books in 27 symbols, windows of 256."""
    return Corpus("books27", "letters", 256, stem="books_en")


def books() -> Corpus:
    """Make the world of books in GPT-2 tokens, windows of 1,024."""
    return Corpus("books", "gpt2", 1024, stem="books_en")


def openwebtext() -> Corpus:
    """Make the world of OpenWebText in GPT-2 tokens, windows of 1,024.

    It reads the first 200,000 of the 8 million documents on the hub, so its splits are not those of papers,
    which hold out the end of the whole set. `text_world` without `max_documents` reads everything, which
    takes about 40 GB of memory.
    """
    return Corpus(
        "openwebtext", "gpt2", 1024, stem="openwebtext", hub=HUB["openwebtext"], max_documents=200_000
    )


def text_world(
    name: str,
    source: str | Path,
    symbols: str = "letters",
    length: int = 256,
    max_documents: int | None = None,
) -> Corpus:
    """Make a world of given text: windows of `length` symbols; see `Corpus` for splits and errors.

    Args:
    source: a file or a folder of files, all .parquet or all .json/.jsonl (both with a column "text") or all
        .txt (blank lines separate documents), or the name of a data set on the hub with such a column. Files
        in a folder whose names contain "train", "valid" and "test" are those splits.
    symbols, length, max_documents: see `Corpus`.
    """
    path = Path(source)
    if path.exists():
        return Corpus(name, symbols, length, path=path, max_documents=max_documents)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", str(source)):
        raise ValueError(
            f"source: {str(source)!r} is not a file, a folder or the name OWNER/SET of a set on the hub"
        )
    return Corpus(name, symbols, length, hub=str(source), max_documents=max_documents)


def local_data_sets() -> list[str]:
    """Return the NAME of every NAME_train.parquet in $DMMD_DATA_DIR, sorted."""
    folder = external_data_dir()
    ending = "_train.parquet"
    return sorted(file.name.removesuffix(ending) for file in folder.glob(f"*{ending}")) if folder else []


def _is_for_judges(text: str) -> bool:
    return hashlib.sha256(text.encode()).digest()[0] < 256 * JUDGE_SHARE


def _files_in(path: Path) -> dict[str, list[Path]]:
    """Find a file, or the files of one kind in a folder, by split where every split has files."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    files = [file for file in files if file.suffix in FORMATS and file.is_file()]
    kinds = {FORMATS[file.suffix] for file in files}
    if len(kinds) != 1:
        found = f"files of the kinds {sorted(kinds)}" if kinds else "no file"
        raise ValueError(f"path: {str(path)!r} holds {found}; it must hold one kind of {list(FORMATS)}")
    parts = {split: [file for file in files if split in file.stem] for split in FILE_SPLITS}
    return parts if all(parts.values()) else {"train": files}


def _open_files(files: dict[str, list[Path]]) -> tuple[str, dict]:
    """Return the files' names, and a stream of documents for every part."""
    from datasets import load_dataset

    names = [file.name for part in files.values() for file in part]
    kind = FORMATS[Path(names[0]).suffix]
    options = {"sample_by": "paragraph"} if kind == "text" else {}
    paths = {split: [str(file) for file in part] for split, part in files.items()}
    return ", ".join(names), load_dataset(kind, data_files=paths, streaming=True, **options)


def _open_hub(name: str) -> tuple[str, dict]:
    """Return the set's name and revision, and a stream of documents for every part."""
    source, parts = open_hub(name)
    names = {"train": "train", "valid": "validation", "test": "test"}
    if not parts.keys() >= set(names.values()):
        names = {"train": "train"}
    return source, {split: parts[theirs] for split, theirs in names.items()}
