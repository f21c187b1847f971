"""Corpora in files or on the Hugging Face hub: books, OpenWebText or others, in letters or GPT-2 tokens.

Documents are packed: tokenised, each followed by a separator (a space, or GPT-2's end of text), and joined
into one stream a split. Streams are stored in the cache folder under a name that contains the SHA-256 of the
data files and of the tokenizer, so a second start only reads them. The package reads files from
$DMMD_DATA_DIR, and asks the hub only where DMMD_DOWNLOAD=1 is set.
"""

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import chain, islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dmmd_lite.utils.checks import Count, Name, check_choice, checked, shown
from dmmd_lite.utils.files import made_once, read_cached, sha256_of_json, write_tensors
from dmmd_lite.utils.paths import cache_dir, external_data_dir, may_download
from dmmd_lite.utils.tensors import Integers
from dmmd_lite.worlds.base import check_own_name
from dmmd_lite.worlds.files import (
    by_split,
    digest_of,
    files_by_split,
    read_texts,
    split_words,
    splits_in_words,
    warn_unread,
)
from dmmd_lite.worlds.hub import HUB, hub_texts, not_in_data_dir, open_hub
from dmmd_lite.worlds.text import TextWorld
from dmmd_lite.worlds.tokenizers import TOKENIZERS

LAYOUT = 2  # raise it with every change of packing or splits, so that no older stream is read
JUDGE_SHARE = 1 / 4  # share of the training documents that only judges learn from
HELD_OUT = 50  # one token in 50 is for "test" and one for "valid" where a source has no such parts
BATCH = 1000  # documents tokenised together
FILE_SPLITS = ("train", "valid", "test")


class Corpus(TextWorld):
    """A text world over documents in files or on the hub. Nothing is read before a stream is asked for.

    Args:
    symbols: "letters" (27) or "gpt2" (50,257 tokens).
    length: tokens in a sequence.
    stem: the NAME of NAME_{train,valid,test}.parquet in $DMMD_DATA_DIR.
    path: a file or folder instead.
    hub: a data set on the hub, used where there are no files.
    max_documents: the maximum number of documents to read, from the start of every part.

    Without a part "test", the end of the training documents that has 2 % of their tokens becomes "test";
    without "valid", so does the end of the remaining ones. "judge" is a quarter of the training documents,
    chosen by a hash of the text: judges learn from it and generators never see it, though both may hold pages
    of one book. A training document of 4 % of the tokens or more is cut into passages of 2 % or more, which
    count as documents in all of this, except that every fourth one is for judges.
    """

    splits = ("train", "judge", "valid", "test")

    @checked
    def __init__(
        self,
        name: Name,
        symbols: str,
        length: Count,
        *,
        stem: str = "",
        path: Path | None = None,
        hub: str = "",
        max_documents: Count | None = None,
    ):
        check_choice("symbols", symbols, TOKENIZERS)
        self.tokenizer = TOKENIZERS[symbols]()
        self.name, self.vocab_size, self.length = name, self.tokenizer.vocab_size, length
        self.stem, self.path, self.hub, self.max_documents = stem, path, hub, max_documents

    @cached_property
    def streams(self) -> dict[str, Tensor]:
        """The tokens of every split, uint8 or uint16 [tokens]."""
        return read_cached(self.cached)[0]

    @cached_property
    def provenance(self) -> dict:
        """The source without folders, and the SHA-256 of all streams and of the tokenizer (or "letters")."""
        return {f"corpus_{key}": value for key, value in sorted(read_cached(self.cached)[1].items())}

    @checked
    def show(self, tokens: Integers) -> list[str]:
        """Write tokens [B, L] as one string a sequence."""
        return self.tokenizer.show(tokens)

    @checked
    def parse(self, text: str) -> list[int]:
        """Return the tokens of a text; ValueError for one that is not made of the 27 symbols, if these are
        the tokens."""
        return super().parse(text) if self.symbols else self.tokenizer.encode([text])[0][:-1].tolist()

    @cached_property
    def cached(self) -> Path:
        """The path of the file with all streams, which is made where it is missing.

        Raises ValueError where there is no source to make it from; also for a source that cannot be read, has
        no column "text" or no text.
        """
        files = self._files()
        key = {
            "source": {
                split: [(file.name, digest_of(file)) for file in part] for split, part in files.items()
            }
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
            return files_by_split(self.path)
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
        lots = {split: list(self._tokenise(documents)) for split, documents in parts.items()}
        train = lots["train"] = _passages(lots["train"])
        held = sum(len(tokens) for _, tokens in train) // HELD_OUT
        for split in ("test", "valid"):
            if split not in lots:
                lots[split], source[split] = _take_end(train, held), ["the end of train"]
        streams = {split: self._pack(tokens for _, tokens in lots[split]) for split in ("valid", "test")}
        for split in ("train", "judge"):
            streams[split] = self._pack(tokens for judge, tokens in train if judge == (split == "judge"))
        where = splits_in_words(source)
        if not any(map(len, streams.values())):
            raise ValueError(f"{self.name}: no text ({where})")
        digest = hashlib.sha256()
        for split in self.splits:
            digest.update(streams[split].numpy())
        about = {"source": where, "sha256": digest.hexdigest(), "tokenizer": self.tokenizer.fingerprint}
        write_tensors(target, streams, about)

    def _tokenise(self, texts: Iterator[str]) -> Iterator[tuple[bool, np.ndarray]]:
        """Yield (is for judges, tokens) of every document with text; ValueError where one cannot be read."""
        texts = islice(texts, self.max_documents)
        while batch := self._read(texts):
            for text, tokens in zip(batch, self.tokenizer.encode(batch), strict=True):
                if len(tokens) > 1:
                    yield _is_for_judges(text), tokens

    def _read(self, texts: Iterator[str]) -> list[str]:
        try:
            return list(islice(texts, BATCH))
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from None

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


@checked
def text_world(
    name: Name,
    source: str | Path,
    symbols: str = "letters",
    length: int = 256,
    max_documents: int | None = None,
) -> Corpus:
    """Make a world of given text: windows of `length` symbols; see `Corpus` for splits and errors.

    Args:
    source: a file or a folder of files, all .parquet or all .json/.jsonl (both with a column "text") or all
        .txt (blank lines separate documents), text and JSON also compressed (.txt.gz); or the name of a data
        set on the hub with such a column. Files in a folder, or parts of a set, are "train", "valid" or
        "test" by a whole word in their names: train; valid, validation, val or dev; test. If one file of a
        folder has such a word, every file must have that of one split; if none has, all are "train", and a
        warning names them.
    symbols, length, max_documents: see `Corpus`.
    """
    check_own_name(name)
    if os.path.exists(source):  # unlike Path.exists, False for a path that is too long
        return Corpus(name, symbols, length, path=source, max_documents=max_documents)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", str(source)):
        raise ValueError(
            f"source: {shown(str(source))} is not a file, a folder or the name OWNER/SET of a set on the hub"
        )
    return Corpus(name, symbols, length, hub=str(source), max_documents=max_documents)


def local_data_sets() -> list[str]:
    """Return the NAME of every NAME_train.parquet in $DMMD_DATA_DIR, sorted."""
    folder = external_data_dir()
    ending = "_train.parquet"
    return sorted(file.name.removesuffix(ending) for file in folder.glob(f"*{ending}")) if folder else []


def _is_for_judges(text: str) -> bool:
    return hashlib.sha256(text.encode()).digest()[0] < 256 * JUDGE_SHARE


def _passages(documents: list[tuple[bool, np.ndarray]]) -> list[tuple[bool, np.ndarray]]:
    """Cut documents that hold twice the held-out share of all tokens or more into passages of that share."""
    share, passages = max(1, sum(len(tokens) for _, tokens in documents) // HELD_OUT), []
    for judge, tokens in documents:
        if len(tokens) < 2 * share:
            passages.append((judge, tokens))
        else:
            cut = np.array_split(tokens, len(tokens) // share)
            passages += [(i % round(1 / JUDGE_SHARE) == 0, passage) for i, passage in enumerate(cut, 1)]
    return passages


def _take_end(documents: list[tuple[bool, np.ndarray]], num: int) -> list[tuple[bool, np.ndarray]]:
    """Remove documents with `num` tokens or more from the end of a list, and return them in their order."""
    taken = []
    while documents and num > 0:
        taken.append(documents.pop())
        num -= len(taken[-1][1])
    return taken[::-1]


def _open_files(files: dict[str, list[Path]]) -> tuple[dict, dict]:
    """Return the files' names and a stream of texts of every part."""
    names = {split: [file.name for file in part] for split, part in files.items()}
    return names, {split: chain.from_iterable(map(read_texts, part)) for split, part in files.items()}


def _open_hub(name: str) -> tuple[dict, dict]:
    """Return the names of the set's parts and a stream of texts of every split."""
    source, parts = open_hub(name)
    if unread := [part for part in parts if not split_words(part)]:
        warn_unread(name, unread)
    chosen = by_split(f"{name}: the parts", [part for part in parts if part not in unread])
    names = {split: [f"{source} {part}" for part in theirs] for split, theirs in chosen.items()}
    texts = {
        split: chain.from_iterable(hub_texts(parts[part], f"{source} {part}") for part in theirs)
        for split, theirs in chosen.items()
    }
    return names, texts
