"""Tokenizers of text: the 27 symbols, and GPT-2's byte pairs from its two files."""

import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
from torch import Tensor

from dmmd_lite.utils.extras import require
from dmmd_lite.utils.files import sha256_of
from dmmd_lite.utils.paths import external_data_dir, may_download
from dmmd_lite.worlds.files import first_line, reading
from dmmd_lite.worlds.hub import HUB, not_in_data_dir
from dmmd_lite.worlds.text import SYMBOLS, encode_symbols, show_symbols, to_symbols

TOKENIZER_FOLDER, TOKENIZER_FILES = "gpt2_tokenizer", ("vocab.json", "merges.txt")
BATCH, PIECE = 256, 10_000  # pieces of text encoded together, and their length in characters
END_OF_TEXT = "<|endoftext|>"


class Letters:
    """A tokenizer of the 27 symbols; every document is followed by one space."""

    vocab_size, dtype, fingerprint = len(SYMBOLS), np.uint8, "letters"

    def encode(self, texts: list[str]) -> list[np.ndarray]:
        """Encode every text, uint8 [characters]."""
        return [encode_symbols(to_symbols(text).strip() + " ").numpy() for text in texts]

    def show(self, tokens: Tensor) -> list[str]:
        """Write tokens [B, L] as one string a sequence."""
        return show_symbols(tokens)


class GPT2Tokens:
    """The tokenizer of GPT-2, from its two files; every document is followed by the end-of-text token."""

    vocab_size, dtype = 50_257, np.uint16

    @cached_property
    def files(self) -> tuple[Path, Path]:
        """The paths of vocab.json and merges.txt in $DMMD_DATA_DIR or the hub's cache; else ValueError."""
        require("huggingface_hub")
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        local = local_tokenizer_files()
        if local:
            return local
        try:
            paths = (
                hf_hub_download(HUB["gpt2"], f, local_files_only=not may_download()) for f in TOKENIZER_FILES
            )
            return tuple(map(Path, paths))
        except LocalEntryNotFoundError:
            raise ValueError(
                f"tokenizer: {not_in_data_dir(f'{TOKENIZER_FOLDER}/{{vocab.json,merges.txt}}')}"
                f" or set DMMD_DOWNLOAD=1 to fetch them from {HUB['gpt2']}"
            ) from None
        except Exception as error:  # several libraries raise
            raise ValueError(f"tokenizer: the hub does not give it ({first_line(error)})") from None

    @cached_property
    def fingerprint(self) -> str:
        """The SHA-256 of both files together."""
        files = self.files
        with reading("tokenizer"):
            return sha256_of(b"".join(file.read_bytes() for file in files))

    @cached_property
    def _tokenizer(self):
        require("tokenizers")
        from tokenizers.implementations import ByteLevelBPETokenizer

        vocab, merges = map(str, self.files)
        try:
            tokenizer = ByteLevelBPETokenizer(vocab, merges)
        except Exception as error:  # the library raises nothing narrower
            raise ValueError(
                f"tokenizer: {Path(vocab).name} or {Path(merges).name} is damaged ({first_line(error)})"
            ) from None
        ids = tokenizer.get_vocab()
        if END_OF_TEXT not in ids or max(ids.values()) >= self.vocab_size:
            raise ValueError(
                f"tokenizer: {Path(vocab).name} is not GPT-2's; it needs {END_OF_TEXT} and no token after"
                f" {self.vocab_size - 1}"
            )
        return tokenizer

    def encode(self, texts: list[str]) -> list[np.ndarray]:
        """Encode every text, uint16 [tokens]; the library uses all cores."""
        end = np.array([self._tokenizer.token_to_id(END_OF_TEXT)], self.dtype)
        pieces, tokens = (
            [(i, piece) for i, text in enumerate(texts) for piece in _pieces(text)],
            [[] for _ in texts],
        )
        for first in range(0, len(pieces), BATCH):
            batch = pieces[first : first + BATCH]
            encoded = self._tokenizer.encode_batch([piece for _, piece in batch])
            for (i, _), one in zip(batch, encoded, strict=True):
                tokens[i].append(np.array(one.ids, self.dtype))
        return [np.concatenate([*parts, end]) for parts in tokens]

    def show(self, tokens: Tensor) -> list[str]:
        """Write tokens [B, L] as one string a sequence; a character cut at an end becomes U+FFFD."""
        return self._tokenizer.decode_batch(tokens.tolist(), skip_special_tokens=False)


def _pieces(text: str) -> Iterator[str]:
    """Cut a long text where GPT-2's tokenizer always cuts: before a single space between two words."""
    start = 0
    while start < len(text):
        found = re.compile(r"(?<=\w) (?=\w)").search(text, start + PIECE)
        end = found.start() if found else len(text)
        yield text[start:end]
        start = end


TOKENIZERS = {"letters": Letters, "gpt2": GPT2Tokens}


def local_tokenizer_files() -> tuple[Path, ...]:
    """Return the paths of GPT-2's two files in $DMMD_DATA_DIR; empty unless both exist."""
    folder = external_data_dir()
    files = tuple(folder / TOKENIZER_FOLDER / name for name in TOKENIZER_FILES) if folder else ()
    return files if all(file.is_file() for file in files) else ()
