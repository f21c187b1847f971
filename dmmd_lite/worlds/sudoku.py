"""Sudoku: exact grids of 4 x 4, and puzzles of 9 x 9 at three levels.

`sudoku4` is exact: its 288 grids are equally likely, and its posteriors are sums over them. The puzzles are
of the kind that published models are measured on: one solution, 40, 35 or 30 clues (easy, medium, hard),
48,000 puzzles to train on and 2,000 held out. A sequence is the solution; the clues are its held positions.

The 2,000 test puzzles ship with the package. Those to train on are made in the cache when they are first
needed, some minutes for a level, the same on every machine: chunk i of a level is made from the seed
"LEVEL-i". The generator is in `sudoku_puzzles`.
"""

import gzip
import itertools
from functools import cached_property
from math import isqrt
from random import Random

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from dmmd_lite.utils.checks import check_choice, checked
from dmmd_lite.utils.files import made_once, sha256_of, write_text
from dmmd_lite.utils.paths import cache_dir, data_dir
from dmmd_lite.utils.progress import progress_bar
from dmmd_lite.utils.rng import integers
from dmmd_lite.utils.tensors import Integers
from dmmd_lite.worlds.base import MAX_REFERENCES, World, check_shapes, chosen
from dmmd_lite.worlds.enumerable import ListedWorld
from dmmd_lite.worlds.sudoku_puzzles import CELLS, SIDE, make_puzzle, solve

CLUES = {"easy": 40, "medium": 35, "hard": 30}
CHUNK = 1000  # puzzles in a file of the cache
CHUNKS = {"train": range(48), "valid": range(48, 49), "test": range(49, 51)}
DIGITS, FREE = "123456789", "abcdefghi"  # of clues, and of the cells to be filled, in a line of a file


def sudoku4() -> ListedWorld:
    """Make the world of the 288 full grids of 4 x 4 cells, equally likely; 16 tokens of 4 symbols."""
    rows = list(itertools.permutations(range(4)))
    grids = [
        grid
        for grid in itertools.product(rows, repeat=4)
        if all(len(set(column)) == 4 for column in zip(*grid, strict=True))
        and all(len({*grid[r][c : c + 2], *grid[r + 1][c : c + 2]}) == 4 for r in (0, 2) for c in (0, 2))
    ]
    outcomes = torch.tensor(grids).flatten(1)
    return ListedWorld("sudoku4", 4, outcomes, [1 / len(grids)] * len(grids), "1234")


class Sudoku(World):
    """Puzzles of one level: 81 tokens, digit d being token d - 1. Samples are solutions; see `puzzles`."""

    vocab_size, length, symbols = SIDE, CELLS, DIGITS
    traits = frozenset({"puzzles"})

    def __init__(self, level: str = "easy"):
        check_choice("level", level, CLUES)
        self.level, self.name = level, "sudoku" if level == "easy" else f"sudoku_{level}"

    def file(self, chunk: int):
        """Return the file of a chunk in the cache."""
        return cache_dir() / "sudoku" / f"{self.level}-{chunk:02d}.txt"

    def lines(self, split: str) -> list[str]:
        """Return the puzzles of a split as lines of 81 characters: digits are clues, letters a to i stand for
        the digits 1 to 9 to be found. Chunks that the cache lacks are made."""
        check_choice("split", split, CHUNKS)
        if split == "test":
            with gzip.open(data_dir() / f"sudoku_{self.level}.txt.gz", "rt", encoding="ascii") as file:
                return file.read().split()
        found, chunks = [], CHUNKS[split]
        with progress_bar(len(chunks), 0, f"{self.level} puzzles") as bar:
            for done, chunk in enumerate(chunks, 1):
                path = made_once(self.file(chunk), lambda target, chunk=chunk: self.make_chunk(target, chunk))
                found += path.read_text(encoding="ascii").split()
                bar.set(done)
        return found

    def make_chunk(self, target, chunk: int) -> None:
        """Write a chunk of puzzles, which its number decides."""
        random, lines = Random(f"{self.level}-{chunk}"), []
        for _ in range(CHUNK):
            puzzle, grid = make_puzzle(CLUES[self.level], random)
            cells = zip(puzzle, grid, strict=True)
            lines.append("".join((DIGITS if clue else FREE)[digit - 1] for clue, digit in cells))
        write_text(target, "\n".join(lines) + "\n")

    @cached_property
    def parts(self) -> dict[str, tuple[Tensor, Tensor]]:
        """The solutions, uint8 [n, 81], and which cells are clues, bool [n, 81], of splits read so far."""
        return {}

    def puzzles(self, split: str) -> tuple[Tensor, Tensor]:
        """Return the solutions of a split, int64 [n, 81], and which cells are clues, bool [n, 81]."""
        if split not in self.parts:
            codes = torch.tensor([list(line.encode()) for line in self.lines(split)], dtype=torch.uint8)
            held = codes <= ord("9")
            self.parts[split] = torch.where(held, codes - ord("1"), codes - ord("a")), held
        solutions, held = self.parts[split]
        return solutions.long(), held

    def prepare(self, splits) -> None:
        """Read the puzzles of splits, or make them."""
        for split in splits:
            self.puzzles(split)

    @cached_property
    def provenance(self) -> dict:
        """The SHA-256 of the test puzzles."""
        return {"sudoku_sha256": sha256_of(data_dir() / f"sudoku_{self.level}.txt.gz")}

    def sample(self, num: int, generator: torch.Generator, split: str = "train") -> Tensor:
        """Draw `num` solutions with replacement, [num, 81]."""
        return self.sample_held(num, generator, split)[0]

    def sample_held(
        self, num: int, generator: torch.Generator, split: str = "train"
    ) -> tuple[Tensor, Tensor]:
        """Draw `num` puzzles with replacement: solutions [num, 81], and which cells are clues, bool."""
        x, held = self.puzzles(split)
        rows = integers(len(x), (num,), generator).to(x.device)
        return x[rows].to(generator.device), held[rows].to(generator.device)

    def conditions(self, num: int, split: str) -> tuple[Tensor, Tensor]:
        """Return the clues of the first `num` puzzles of a split, bool [num, 81], and their solutions."""
        x, held = self.puzzles(split)
        if num > len(x):
            raise ValueError(
                f"num: {num} is not allowed; the {split} split has {len(x)} {self.level} puzzles"
            )
        return held[:num], x[:num]

    @checked
    def check_conditions(self, held: Tensor, tokens: Integers, name: str) -> None:
        """Raise ValueError for clues, [n, 81] each, that have no or several solutions."""
        check_shapes(self, held, tokens, name)
        for number, puzzle in enumerate(torch.where(held, tokens + 1, 0).tolist(), 1):
            found = len(solve(puzzle))
            if found != 1:
                words = ("no solution", "", "several solutions")[found]
                raise ValueError(f"{name}: puzzle {number} is not allowed; it has {words}, it must have one")

    def reference(self, split: str, num: int = MAX_REFERENCES) -> Tensor:
        """Return `num` solutions of a split in random order; always the same ones."""
        return chosen(self.puzzles(split)[0], num)


def valid_cells(tokens: Tensor) -> Tensor:
    """Return which cells differ from all others of their row, column and box, bool [n, L]; open cells do.

    Args:
    tokens: grids [n, L] of side² cells: digits are 0 to side - 1, and `side` is an open cell.
    """
    side = isqrt(tokens.shape[1])
    row, column = torch.arange(len(tokens.T)) // side, torch.arange(len(tokens.T)) % side
    box = row // isqrt(side) * side + column // isqrt(side)
    peers = sum(unit[:, None] == unit for unit in (row, column, box)).clamp(max=1).fill_diagonal_(0)
    digits = one_hot(tokens.cpu(), side + 1)[..., :side].float()
    return ((peers.float() @ digits) * digits).sum(-1) == 0
