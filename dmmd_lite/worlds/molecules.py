"""Molecules of QM9 as SMILES strings: every stable molecule of up to nine atoms of C, N, O and F.

The data ship with the package (`data/qm9_smiles.txt.gz`): 130,831 canonical SMILES strings from the wheel
`qm9pack` 1.0.3 (MIT) of the first author of the data set, R. Ramakrishnan, P. O. Dral, M. Rupp, O. A. von
Lilienfeld, "Quantum chemistry structures and properties of 134 kilo molecules", Scientific Data 1, 140022
(2014). A molecule that occurs twice is taken once, so that no molecule is in two splits.

A token is an atom, a bond, a branch or a ring closure, as in the published runs on these data (UDLM,
arXiv 2412.10193): 30 symbols. Shorter molecules end in the symbol PADDING, which is a class like the others:
models learn where a molecule ends.
"""

import gzip
import re
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from dmmd_lite.utils.checks import checked
from dmmd_lite.utils.files import sha256_of
from dmmd_lite.utils.paths import data_dir
from dmmd_lite.utils.rng import integers
from dmmd_lite.worlds.base import MAX_REFERENCES, World, chosen

FILE = "qm9_smiles.txt.gz"
PADDING = "."  # no molecule of the data has several parts, which "." would separate
SYMBOLS = (
    *(PADDING, "C", "c", "N", "n", "O", "o", "F", "(", ")", "=", "#", "-", "1", "2", "3", "4", "5"),
    *("[nH]", "[nH+]", "[n-]", "[NH3+]", "[NH2+]", "[NH+]", "[N+]", "[N-]"),
    *("[O-]", "[CH-]", "[C-]", "[cH-]", "[c-]"),
)
INDEX = {symbol: token for token, symbol in enumerate(SYMBOLS)}
TOKEN = re.compile(r"\[[^\]]*\]|Br|Cl|%\d\d|.", re.DOTALL)
SHARE, SPLIT_SEED = 0.05, 42  # of the molecules, for validation and for test; the seed of published splits


class Molecules(World):
    """24 tokens of 31 symbols. Splits are disjoint and fixed: 5 % test, 5 % valid, the others train."""

    name, vocab_size, length = "molecules", len(SYMBOLS), 24
    traits = frozenset({"molecules"})

    @cached_property
    def smiles(self) -> dict[str, list[str]]:
        """The SMILES strings of every split."""
        with gzip.open(data_dir() / FILE, "rt", encoding="ascii") as file:
            distinct = list(dict.fromkeys(file.read().split()))
        order = np.random.default_rng(SPLIT_SEED).permutation(len(distinct))
        held = round(SHARE * len(distinct))
        parts = {"test": order[:held], "valid": order[held : 2 * held], "train": order[2 * held :]}
        return {split: [distinct[i] for i in rows] for split, rows in parts.items()}

    @cached_property
    def parts(self) -> dict[str, Tensor]:
        """The tokens of every split, uint8 [n, 24]."""
        return {split: self.encode(smiles).to(torch.uint8) for split, smiles in self.smiles.items()}

    @cached_property
    def provenance(self) -> dict:
        """The SHA-256 of the file of molecules."""
        return {"molecules_sha256": sha256_of(data_dir() / FILE)}

    def encode(self, smiles: list[str]) -> Tensor:
        """Return the tokens of SMILES strings, int64 [n, 24].

        Errors: ValueError for a string with another symbol, or of more than 24 tokens.
        """
        rows = []
        for text in smiles:
            tokens = self.parse(text)
            if len(tokens) > self.length:
                raise ValueError(
                    f"smiles: {text!r} is not allowed; it has {len(tokens)} tokens, at most {self.length}"
                )
            rows.append(tokens + [0] * (self.length - len(tokens)))
        return torch.tensor(rows, dtype=torch.long).view(-1, self.length)

    @checked
    def parse(self, text: str) -> list[int]:
        """Return the tokens of a SMILES string or a part of one; ValueError for other symbols."""
        symbols = TOKEN.findall(text)
        for symbol in symbols:
            if symbol not in INDEX or symbol == PADDING:
                raise ValueError(f"smiles: {text!r} is not allowed; {symbol!r} is none of {SYMBOLS[1:]}")
        return [INDEX[symbol] for symbol in symbols]

    def show(self, tokens: Tensor) -> list[str]:
        """Turn tokens [B, 24] into SMILES strings. Padding after the end is left out; elsewhere it stands as
        ".", and no such string counts as a molecule."""
        return ["".join(SYMBOLS[token] for token in row).rstrip(PADDING) for row in tokens.tolist()]

    def sample(self, num: int, generator: torch.Generator, split: str = "train") -> Tensor:
        """Draw `num` molecules with replacement, [num, 24]."""
        x = self.parts[split]
        return x[integers(len(x), (num,), generator).to(x.device)].long().to(generator.device)

    def reference(self, split: str, num: int = MAX_REFERENCES) -> Tensor:
        """Return `num` molecules of a split in random order; always the same ones."""
        return chosen(self.parts[split], num).long()
