"""Sudoku: puzzles that are solved, cells that obey the rules. Nothing but the rules decides."""

import numpy as np
from torch import Tensor

from dmmd_lite.metrics.intervals import mean_share
from dmmd_lite.utils.records import Record
from dmmd_lite.worlds import sudoku


def solved(tokens: Tensor, world: sudoku.Sudoku, split: str) -> Record:
    """Compute the share of a split's first n puzzles that samples [n, 81] solve; sample i is of puzzle i."""
    solutions = world.puzzles(split)[0][: len(tokens)]
    right = (tokens.cpu() == solutions).all(1).numpy().astype(float)
    reference = f"the solutions of the first {len(tokens)} {world.level} puzzles"
    return Record("solved", *mean_share(right), len(tokens), reference, {"split": split})


def valid_cells(tokens: Tensor) -> Record:
    """Compute the share of cells of samples [n, 81] whose digit is alone in its row, column and box."""
    return _of_rules("valid_cells", sudoku.valid_cells(tokens).double().mean(1).numpy())


def valid_grids(tokens: Tensor) -> Record:
    """Compute the share of samples [n, 81] that obey the rules, whatever puzzle they were drawn for."""
    return _of_rules("valid_grids", sudoku.valid_cells(tokens).all(1).double().numpy())


def _of_rules(name: str, values: np.ndarray) -> Record:
    return Record(name, *mean_share(values), len(values), "the rules")
