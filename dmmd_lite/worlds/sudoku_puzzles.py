"""Sudoku grids and puzzles of one solution, made from a seed: a solver on bit masks, and a digger.

A grid is a list of 81 digits 1 to 9, row by row. Candidates of a cell are a bit mask, bit d for digit d + 1.
"""

from collections.abc import Iterator, Sequence
from random import Random

SIDE, CELLS, ALL = 9, 81, 0b111111111


def _unit_of(cell: int) -> tuple[int, int, int]:
    """Return the row, column and box of a cell, as numbers of 27 units."""
    row, column = divmod(cell, SIDE)
    return row, SIDE + column, 2 * SIDE + row // 3 * 3 + column // 3


UNITS = [_unit_of(cell) for cell in range(CELLS)]
CELLS_OF = [[cell for cell in range(CELLS) if unit in UNITS[cell]] for unit in range(3 * SIDE)]
PEERS = [
    sorted({other for other in range(CELLS) if other != cell and set(UNITS[other]) & set(UNITS[cell])})
    for cell in range(CELLS)
]


def _assign(masks: list[int], cell: int, bit: int) -> bool:
    """Put a digit into a cell and follow what is then forced; False for a contradiction. Changes `masks`."""
    masks[cell] = bit
    stack = [cell]
    while stack:
        cell = stack.pop()
        bit = masks[cell]
        for peer in PEERS[cell]:
            mask = masks[peer]
            if mask & bit:
                mask &= ~bit
                if not mask:
                    return False
                masks[peer] = mask
                if not mask & (mask - 1):
                    stack.append(peer)
    return True


def _solutions(masks: list[int], random: Random | None = None) -> Iterator[list[int]]:
    """Yield solutions of candidates `masks`, in random order with a random generator."""
    open_cells = [cell for cell in range(CELLS) if masks[cell] & (masks[cell] - 1)]
    if not open_cells:
        yield masks
        return
    fewest = min(masks[cell].bit_count() for cell in open_cells)
    cells = [cell for cell in open_cells if masks[cell].bit_count() == fewest]
    cell = cells[0] if random is None else random.choice(cells)
    choices = [(cell, 1 << d) for d in range(SIDE) if masks[cell] >> d & 1]
    if random is not None:
        random.shuffle(choices)
    else:
        choices = _fewer(choices, masks)
    for cell, bit in choices:
        tried = masks.copy()
        if _assign(tried, cell, bit):
            yield from _solutions(tried, random)


def _fewer(choices: list[tuple[int, int]], masks: list[int]) -> list[tuple[int, int]]:
    """Return the cells that a digit can stand in, each with that digit, where a unit leaves it fewer of them
    than there are choices: one or two; or none for a contradiction.

    With the digits of cells as the only choices it takes minutes to see that some puzzles have no solution.
    """
    for cells in CELLS_OF:
        once = twice = more = 0  # digits that have at least one, two, three cells
        for cell in cells:
            more |= twice & masks[cell]
            twice |= once & masks[cell]
            once |= masks[cell]
        if once != ALL:
            return []
        for cell in cells:
            alone = masks[cell] & ~twice
            if alone and alone != masks[cell]:
                return [(cell, alone)] if alone.bit_count() == 1 else []
        pair = twice & ~more
        if pair and len(choices) > 2:
            bit = pair & -pair
            choices = [(cell, bit) for cell in cells if masks[cell] & bit]
    return choices


def _masks_of(puzzle: Sequence[int]) -> list[int] | None:
    """Return the candidates that clues leave (0: no clue); None where clues contradict each other."""
    masks = [ALL] * CELLS
    for cell, digit in enumerate(puzzle):
        if digit and not (masks[cell] >> (digit - 1) & 1 and _assign(masks, cell, 1 << (digit - 1))):
            return None
    return masks


def solve(puzzle: Sequence[int], most: int = 2) -> list[list[int]]:
    """Return up to `most` solutions of a puzzle, 81 digits of which 0 is an empty cell."""
    masks, found = _masks_of(puzzle), []
    for solved in [] if masks is None else _solutions(masks):
        found.append([mask.bit_length() for mask in solved])
        if len(found) == most:
            break
    return found


def random_grid(random: Random) -> list[int]:
    """Make a full grid: digits are put into the most constrained cells, in random order."""
    return [mask.bit_length() for mask in next(_solutions([ALL] * CELLS, random))]


def dig(grid: Sequence[int], clues: int, random: Random) -> list[int] | None:
    """Take digits from a grid in random order while one solution remains, until `clues` are left.

    Returns the puzzle, with 0 for empty cells, or None where fewer cells can be emptied in this order.
    """
    puzzle, left = list(grid), CELLS
    for cell in random.sample(range(CELLS), CELLS):
        if left == clues:
            break
        digit, puzzle[cell] = puzzle[cell], 0
        masks = _masks_of(puzzle)
        masks[cell] &= ~(1 << (digit - 1))
        if masks[cell] and _another(masks, cell):
            puzzle[cell] = digit
        else:
            left -= 1
    return puzzle if left == clues else None


def _another(masks: list[int], cell: int) -> bool:
    """Return whether there is a solution with one of a cell's candidates."""
    for d in range(SIDE):
        tried = masks.copy()
        if masks[cell] >> d & 1 and _assign(tried, cell, 1 << d) and next(_solutions(tried), None):
            return True
    return False


def make_puzzle(clues: int, random: Random) -> tuple[list[int], list[int]]:
    """Make a puzzle of one solution with a number of clues: (puzzle, solution)."""
    while True:
        grid = random_grid(random)
        puzzle = dig(grid, clues, random)
        if puzzle is not None:
            return puzzle, grid
