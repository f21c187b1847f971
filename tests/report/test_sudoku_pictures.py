"""Pictures of Sudoku: clues, new digits, wrong cells, states of samplers, puzzles that somebody writes."""

import re
from xml.etree import ElementTree

import pytest
import torch
from helpers import every_process, tiny_network

from dmmd_lite.denoisers.base import NetworkDenoiser
from dmmd_lite.models.loading import load_model
from dmmd_lite.models.model import Model
from dmmd_lite.processes import Holding, get_process
from dmmd_lite.recipes.catalogue import get_recipe
from dmmd_lite.report.sudoku import CLUE, NEW, WRONG, read_puzzle, sudoku_grid, sudoku_strips
from dmmd_lite.worlds import get_world

GRID = torch.tensor([0, 1, 2, 3, 2, 3, 0, 1, 1, 0, 3, 2, 3, 2, 1, 0])  # a solution of 4 x 4 cells
HELD = torch.arange(16) < 12


def seen(svg):
    """What a picture shows: clues and other digits {cell: text}, cells on grey, new cells, wrong ones."""
    root = ElementTree.fromstring(svg)
    side = int(re.search(r"of (\d) by", root.get("aria-label"))[1])
    paths = {path.get("fill") or path.get("stroke"): path.get("d") for path in root.iter("path")}

    def cell(x, y):
        return int(float(x) // 20 + side * (float(y) // 20))

    bold, normal = (
        {cell(text.get("x"), text.get("y")): text.text for text in group} for group in root.iter("g")
    )
    marked = [{cell(*at) for at in re.findall(r"M(\d+) (\d+)", paths[c] or "")} for c in (CLUE, NEW, WRONG)]
    return bold, normal, *marked


def test_clues_are_bold_new_digits_marked_and_open_cells_empty():
    state = torch.where(torch.arange(16) < 14, GRID, 4)
    before = torch.where(torch.arange(16) < 13, GRID, 4)
    bold, normal, grey, new, wrong = seen(sudoku_grid(state, HELD, GRID, before))
    assert bold == {k: str(int(GRID[k]) + 1) for k in range(12)} and grey == set(range(12))
    assert normal == {12: "4", 13: "3"} and new == {13} and wrong == set()


def test_wrong_digits_are_those_that_differ_from_the_solution():
    state = torch.where(torch.arange(16) < 15, GRID, 4)
    state[13] = 0
    svg = sudoku_grid(state, HELD, GRID)
    assert seen(svg)[4] == {13}
    assert 'aria-label="Sudoku of 4 by 4 cells: 12 clues, 1 open, 1 of 4 cells wrong"' in svg


def test_without_a_solution_wrong_digits_are_those_that_break_a_rule_but_no_clues():
    state = GRID.clone()
    state[13] = 0  # as cell 9 of its column, 15 of its row and none of its box
    assert seen(sudoku_grid(state))[4] == {9, 13, 15}
    assert seen(sudoku_grid(state, HELD))[4] == {13, 15}
    assert seen(sudoku_grid(torch.full((16,), 4)))[4] == set()


def test_a_large_grid_has_81_cells():
    world = get_world("sudoku")
    [solution], [held] = (part[:1] for part in world.puzzles("test"))
    state = torch.where(held, solution, (solution + 1) % 9)
    bold, normal, _, new, wrong = seen(sudoku_grid(state, held, solution, solution))
    assert len(bold) == 40 and len(normal) == 41 and new == wrong == set(normal)
    assert "9 by 9 cells: 40 clues, 41 of 41 cells wrong" in sudoku_grid(state, held, solution)


def test_a_state_that_is_none_is_refused():
    with pytest.raises(ValueError, match="state: tokens 0 to 5 are not allowed; they must be 0 to 4"):
        sudoku_grid(torch.where(torch.arange(16) == 3, 5, 0))


def frames(strips):
    """The rows of a filmstrip: (what is said, what its grids show, what stands under them)."""
    root = ElementTree.fromstring(f"<all>{strips}</all>")
    rows = []
    for said, row in zip(root[::2], root[1::2], strict=True):
        shown = [seen(ElementTree.tostring(frame.find("svg"), encoding="unicode")) for frame in row]
        rows.append(("".join(said.itertext()), shown, [frame.find("small").text for frame in row]))
    return rows


@every_process
def test_a_strip_shows_the_states_of_the_sampler(process_name):
    """Under uniform noise, where clues are held by replacement, every cell has a digit from the start."""
    model = load_model(f"sudoku4-{process_name}-exact")
    strips = sudoku_strips({"a <b>": (model, 5)}, HELD, GRID, GRID, seed=3)
    [(said, shown, under)] = frames(strips)
    path = model.sample(1, 5, seed=3, held=HELD, tokens=GRID, trajectory=True).trajectory[:, 0]
    assert said.startswith("a <b>: 5 steps, ") and under == [
        "start",
        *(f"after step {k}" for k in range(1, 6)),
    ]
    for k, (bold, normal, _, new, wrong) in enumerate(shown):
        assert bold == {cell: str(int(GRID[cell]) + 1) for cell in range(12)}
        assert normal == {cell: str(int(path[k][cell]) + 1) for cell in range(12, 16) if path[k][cell] < 4}
        assert new == set((path[k] != path[max(k - 1, 0)]).nonzero().flatten().tolist())
        assert wrong == {cell for cell in normal if normal[cell] != str(int(GRID[cell]) + 1)}
    masked = process_name == "masked"
    assert len(shown[0][1]) == (0 if masked else 4) and ("replacement" in said) == (not masked)
    assert said.endswith("; solved") == (not shown[-1][4])


def test_a_strip_has_a_row_for_each_model_and_at_most_so_many_grids():
    model = load_model("sudoku4-masked-exact")
    rows = frames(sudoku_strips({"teacher": (model, 16), "student": (model, 2), "one": (model, 1)}, most=5))
    assert [under[-1] for *_, under in rows] == ["after step 16", "after step 2", "after step 1"]
    assert [len(shown) for _, shown, _ in rows] == [5, 3, 2] and rows[0][2][1] == "after step 4"
    assert all("of 16 cells wrong" in said for said, *_ in rows)
    [(_, shown, under)] = frames(sudoku_strips({"teacher": (model, 16)}, most=1))
    assert under == ["after step 16"] and len(shown[0][1]) == 16


@every_process
def test_a_model_made_with_clues_replaces_nothing(process_name, rng):
    world, process = get_world("sudoku"), Holding(get_process(process_name, 9))
    denoiser = NetworkDenoiser(tiny_network(process.process, 81, rng), process)
    recipe = get_recipe(f"sudoku-{process_name}-teacher")
    model = Model("untrained", recipe, denoiser, process, world, "as given", {})
    [solution], [held] = (part[:1] for part in world.puzzles("test"))
    [(said, shown, _)] = frames(sudoku_strips({"untrained": (model, 2)}, held, solution, solution))
    assert "replacement" not in said and f"{len(shown[-1][4])} of 41 cells wrong" in said
    assert len(shown[-1][1]) == 41


def test_a_puzzle_is_read_whatever_stands_for_open_cells():
    world = get_world("sudoku4")
    held, tokens, found = read_puzzle(world, "12 4\r\n3-.0\n_14_\n4..1")
    assert held.nonzero().flatten().tolist() == [0, 1, 3, 4, 9, 10, 12, 15]
    assert tokens[held].tolist() == [0, 1, 3, 2, 0, 3, 3, 0] and found.tolist() == [GRID.tolist()]
    assert len(read_puzzle(world, "." * 16)[2]) == 288


def test_a_large_puzzle_is_read_and_solved():
    world = get_world("sudoku")
    [solution], [held] = (part[:1] for part in world.puzzles("test"))
    cells = [str(int(s) + 1) if h else "." for s, h in zip(solution, held, strict=True)]
    found = read_puzzle(world, "\n".join("".join(cells[k : k + 9]) for k in range(0, 81, 9)))
    assert torch.equal(found[0], held) and torch.equal(found[1][held], solution[held])
    assert torch.equal(found[2], solution[None])


@pytest.mark.parametrize(
    "name, text, words",
    [
        ("sudoku4", "1" + "." * 14, "puzzle: 15 cells are not allowed; it must have 16"),
        ("sudoku", "", "puzzle: 0 cells are not allowed; it must have 81"),
        ("sudoku4", "5" + "." * 15, "puzzle: '5' is not allowed; a cell must be one of '1234'"),
        ("sudoku", "x" * 81, "puzzle: 'x' is not allowed; a cell must be one of '123456789'"),
        (
            "sudoku4",
            ".1......" * 2,
            "puzzle: the 1 in row 1, column 2 is not allowed; its row, column or box",
        ),
        ("sudoku4", "123....4" + "." * 8, "it has no solution, it must have one"),
        ("sudoku", "12345678." + "." * 17 + "9" + "." * 54, "it has no solution, it must have one"),
        ("sudoku", "." * 81, "it has several solutions, it must have one"),
    ],
)
def test_what_is_no_puzzle_is_refused_in_one_line(name, text, words):
    with pytest.raises(ValueError, match=re.escape(words)) as error:
        read_puzzle(get_world(name), text)
    assert str(error.value).startswith("puzzle: ") and "\n" not in str(error.value)
