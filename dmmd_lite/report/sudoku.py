"""Sudoku in pictures: grids of 4 x 4 and 9 x 9 cells, and the states of samplers step by step."""

import html
from math import isqrt

import torch
from torch import Tensor

from dmmd_lite.models.model import Model
from dmmd_lite.utils.checks import Count, Seed, checked, shown
from dmmd_lite.utils.tensors import check_tokens
from dmmd_lite.worlds.base import World
from dmmd_lite.worlds.sudoku import valid_cells
from dmmd_lite.worlds.sudoku_puzzles import solve

OPEN = " .0_-"  # each stands for an open cell in a puzzle that somebody writes
CELL = 20  # width of a cell in a picture's own units
CLUE, NEW, WRONG = "rgba(128,128,128,.22)", "rgba(240,180,0,.4)", "#e0443e"  # on light and on dark


def sudoku_grid(
    state: Tensor,
    held: Tensor | None = None,
    solution: Tensor | None = None,
    before: Tensor | None = None,
    cell: int = 24,
) -> str:
    """Return a grid as an <svg>: clues bold on grey, new digits on yellow, wrong ones crossed out, open cells
    empty. The text for screen readers counts them.

    Args:
    state: the cells, [L]; of a side of n cells, digits are 0 to n - 1 and n is an open cell.
    held: which cells are clues, bool [L].
    solution: the right digits [L]. None: a digit is wrong that another cell of its row, column or box has.
    before: an earlier state [L]; cells that differ from it are new. None: no cell is.
    cell: width of a cell on the screen, in pixels.
    """
    side = isqrt(len(state))
    check_tokens("state", state[None], side + 1)
    held = torch.zeros_like(state, dtype=torch.bool) if held is None else held
    wrong, full = wrong_cells(state, held, solution), state < side
    new = torch.zeros_like(held) if before is None else (state != before) & full
    at = [(CELL * (k % side), CELL * (k // side)) for k in range(len(state))]

    def squares(cells: Tensor, colour: str) -> str:
        path = "".join(f"M{x} {y}h{CELL}v{CELL}h-{CELL}z" for (x, y), on in zip(at, cells, strict=True) if on)
        return f'<path d="{path}" fill="{colour}"/>'

    def digits(cells: Tensor, weight: str) -> str:
        texts = "".join(
            f'<text x="{x + CELL / 2:g}" y="{y + 0.74 * CELL:g}">{token + 1}</text>'
            for (x, y), token, on in zip(at, state.tolist(), cells.tolist(), strict=True)
            if on
        )
        return f'<g fill="currentColor" font-weight="{weight}">{texts}</g>'

    def lines(every: int, width: float, opacity: float) -> str:
        end = CELL * side
        path = "".join(f"M{k} 0V{end}M0 {k}H{end}" for k in range(0, end + 1, CELL * every))
        return f'<path d="{path}" stroke="currentColor" stroke-width="{width}" opacity="{opacity}"/>'

    strokes = "".join(
        f"M{x + 3} {y + CELL - 3}l{CELL - 6} {6 - CELL}" for (x, y), on in zip(at, wrong, strict=True) if on
    )
    parts = [
        squares(held, CLUE),
        squares(new, NEW),
        digits(held & full, "bold"),
        digits(~held & full, "normal"),
        f'<path d="{strokes}" stroke="{WRONG}" stroke-width="2"/>',
        lines(1, 0.6, 0.5),
        lines(isqrt(side), 1.8, 1),
    ]
    empty = f"{int((~full).sum())} open, " if not full.all() else ""
    counts = f"{int(held.sum())} clues, {empty}{int(wrong.sum())} of {int((~held).sum())} cells wrong"
    size = CELL * side + 2
    return (
        f'<svg role="img" aria-label="Sudoku of {side} by {side} cells: {counts}" '
        f'viewBox="-1 -1 {size} {size}" font-size="{0.68 * CELL:g}" font-family="sans-serif" '
        f'text-anchor="middle" style="display:block;width:{cell * side}px;max-width:100%">'
        f"{''.join(parts)}</svg>"
    )


def wrong_cells(state: Tensor, held: Tensor, solution: Tensor | None) -> Tensor:
    """Return which digits of a grid [L] are wrong, bool [L], as `sudoku_grid` says it; no clue is."""
    wrong = ~valid_cells(state[None])[0] if solution is None else state != solution
    return wrong & (state < isqrt(len(state))) & ~held


@checked
def sudoku_strips(
    runs: dict[str, tuple[Model, Count]],
    held: Tensor | None = None,
    tokens: Tensor | None = None,
    solution: Tensor | None = None,
    *,
    seed: Seed = 0,
    most: Count = 8,
) -> str:
    """Return the states of samplers step by step as HTML, one row of grids for each, one sample each.

    Digits that are new since the grid before are marked. Under uniform noise every cell always has a digit.

    Args:
    runs: the name of a row -> (model, number of sampling steps).
    held, tokens: which cells are clues, bool [L], and their digits as tokens [L]; None: the grid is free.
    solution: the right digits [L], as of `sudoku_grid`.
    most: grids in a row, at least the last one; of more steps, states at even distances are shown.
    """
    return "".join(
        _strip(name, model, steps, held, tokens, solution, seed, most)
        for name, (model, steps) in runs.items()
    )


def _strip(name, model: Model, steps: int, held, tokens, solution, seed: int, most: int) -> str:
    """Return one row of `sudoku_strips`."""
    drawn = model.sample(1, steps, seed=seed, held=held, tokens=tokens, trajectory=True)
    path = drawn.trajectory[:, 0].cpu()
    fixed = torch.zeros(path.shape[1], dtype=torch.bool) if held is None else held
    at = torch.linspace(steps, 0, min(most, steps + 1)).round().int().flip(0).tolist()
    cell = 16 if path.shape[1] > 16 else 22
    frames = "".join(
        f"<div>{sudoku_grid(path[k], fixed, solution, path[j], cell)}<small>"
        f"{f'after step {k}' if k else 'start'}</small></div>"
        for j, k in zip([at[0], *at], at, strict=False)
    )
    wrong = int(wrong_cells(path[-1], fixed, solution).sum())
    facts = [f"{steps} steps, {drawn.evaluations:.0f} evaluations"]
    if held is not None and model.replaces:
        facts.append("clues held by replacement, which is approximate")
    solved = held is not None and not wrong
    facts.append("solved" if solved else f"{wrong} of {int((~fixed).sum())} cells wrong")
    row = "display:flex;flex-wrap:wrap;gap:12px;margin:4px 0 12px"
    return f'<div><b>{html.escape(name)}</b>: {"; ".join(facts)}</div><div style="{row}">{frames}</div>'


@checked
def read_puzzle(world: World, text: str) -> tuple[Tensor, Tensor, Tensor]:
    """Read a puzzle as somebody writes it, cell by cell: digits are clues, each character of `OPEN` is an
    open cell, ends of lines are ignored.

    Returns which cells are clues, bool [L], their digits as tokens [L], and the solutions [n, L]: all of a
    world whose grids are listed, else the only one. Errors: ValueError for other symbols, another number of
    cells, clues that repeat each other, no solution, and several where the grids are not listed.
    """
    side, cells = isqrt(world.length), "".join(text.splitlines())
    for symbol in cells:
        if symbol not in world.symbols + OPEN:
            words = f"a cell must be one of {world.symbols!r}, or of {OPEN!r} if it is open"
            raise ValueError(f"puzzle: {symbol!r} is not allowed; {words}")
    if len(cells) != world.length:
        raise ValueError(f"puzzle: {len(cells)} cells are not allowed; it must have {world.length}")
    tokens = torch.tensor([side if symbol in OPEN else world.symbols.index(symbol) for symbol in cells])
    held = tokens < side
    repeated = (~valid_cells(tokens[None])[0]).nonzero()
    if len(repeated):
        row, column = divmod(int(repeated[0]), side)
        where = f"the {cells[int(repeated[0])]} in row {row + 1}, column {column + 1}"
        raise ValueError(f"puzzle: {where} is not allowed; its row, column or box has another one")
    if "listed" in world.traits:
        found = world.outcomes[((world.outcomes == tokens) | ~held).all(1)]
    else:
        found = torch.tensor(solve(torch.where(held, tokens + 1, 0).tolist())).view(-1, world.length) - 1
    if not len(found) or len(found) > 1 and "listed" not in world.traits:
        words = "several solutions" if len(found) else "no solution"
        raise ValueError(f"puzzle: {shown(cells)} is not allowed; it has {words}, it must have one")
    return held, torch.where(held, tokens, 0), found
