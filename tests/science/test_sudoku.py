"""Sudoku: exact grids of 4 x 4, puzzles of one solution, splits that are the same everywhere."""

import math
import time
from random import Random

import pytest
import torch
from helpers import every_process, make_process, tiny_network

from dmmd_lite.denoisers.base import NetworkDenoiser
from dmmd_lite.denoisers.exact import ExactDenoiser, log_posterior
from dmmd_lite.metrics.exact_laws import exact_metrics, outcome_law
from dmmd_lite.metrics.suite import evaluate_samples
from dmmd_lite.models.evaluation import evaluate
from dmmd_lite.models.model import Model
from dmmd_lite.processes import Holding, get_process
from dmmd_lite.recipes.catalogue import get_recipe
from dmmd_lite.sampling import sample
from dmmd_lite.utils.rng import generator_for
from dmmd_lite.worlds import get_world, sudoku
from dmmd_lite.worlds.sudoku import CLUES, Sudoku, valid_cells
from dmmd_lite.worlds.sudoku_puzzles import CELLS, PEERS, dig, make_puzzle, random_grid, solve


def test_there_are_288_grids_of_4_by_4():
    world = get_world("sudoku4")
    assert world.outcomes.shape == (288, 16) and len(world.outcomes.unique(dim=0)) == 288
    assert world.entropy() == pytest.approx(math.log(288))
    for unit in (
        lambda g: g,
        lambda g: g.mT,
        lambda g: g.unflatten(1, (2, 2)).unflatten(3, (2, 2)).transpose(2, 3),
    ):
        groups = unit(world.outcomes.view(288, 4, 4)).reshape(288, 4, 4)
        assert (groups.sort(-1).values == torch.arange(4)).all()


@every_process
def test_its_posterior_is_the_share_of_grids(process_name, rng):
    """By counting grids, free and with clues."""
    world = get_world("sudoku4")
    plain, (_, t) = make_process(process_name, 4)
    process = Holding(plain)
    x = world.sample(20, rng)
    held = torch.rand(x.shape, generator=rng) < 0.2
    z = process.corrupt(process.hold(x, held), t.expand(20), rng)
    found = log_posterior(world, z, t.expand(20), process, floor=0).exp()
    for row in range(20):
        weight = torch.ones(288, dtype=torch.float64)
        for cell in range(16):
            q = plain.likelihood(process.classes(z[row : row + 1, cell : cell + 1]), t.expand(1))[0, 0]
            weight *= (
                (world.outcomes[:, cell] == x[row, cell]).double()
                if held[row, cell]
                else q[world.outcomes[:, cell]]
            )
        for cell in range(16):
            share = torch.zeros(4).double().index_add(0, world.outcomes[:, cell], weight / weight.sum())
            torch.testing.assert_close(found[row, cell], share, rtol=0, atol=1e-12)


def brute_force(puzzle):
    """The number of solutions by plain backtracking, up to 2."""
    if 0 not in puzzle:
        return 1
    cell, found = puzzle.index(0), 0
    for digit in range(1, 10):
        if all(puzzle[peer] != digit for peer in PEERS[cell]):
            found += brute_force([*puzzle[:cell], digit, *puzzle[cell + 1 :]])
            if found > 1:
                break
    return found


def test_the_solver_agrees_with_plain_backtracking():
    random = Random(5)
    for _ in range(12):
        grid = random_grid(random)
        puzzle = [digit if random.random() < 0.42 else 0 for digit in grid]
        found = solve(puzzle)
        assert len(found) == min(2, brute_force(puzzle)) and grid in solve(puzzle, most=5000)
        assert all(valid_cells(torch.tensor([s]) - 1).all() for s in found)
    assert solve([1, 1] + [0] * 79) == []


@pytest.mark.parametrize(
    "puzzle, number",
    [
        (".....5.8....6.1.43..........1.5........1.6...3.......553.....61........4.........", 0),
        ("8..........36......7..9.2...5...7.......457.....1...3...1....68..85...1..9....4..", 1),
        ("..............3.85..1.2.......5.7.....4...1...9.......5......73..2.1........4...9", 1),
        ("4.....8.5.3..........7......2.....6.....8.4......1.......6.3.7.5..2.....1.4......", 1),
    ],
)
def test_the_solver_is_quick_for_hard_puzzles(puzzle, number):
    """Of processor time; a search that branches on the digits of cells alone takes minutes for the first."""
    start = time.process_time()
    assert len(solve([int(cell.replace(".", "0")) for cell in puzzle])) == number
    assert time.process_time() - start < 10


def test_digging_leaves_one_solution_or_says_that_it_cannot():
    random = Random(6)
    for clues in (40, 30):
        puzzle, grid = make_puzzle(clues, random)
        assert sum(digit > 0 for digit in puzzle) == clues and solve(puzzle) == [grid]
    assert dig(grid, 10, random) is None


@pytest.mark.parametrize("level", CLUES)
def test_held_out_puzzles_have_one_solution_and_their_number_of_clues(level):
    world = Sudoku(level)
    x, held = world.puzzles("test")
    assert x.shape == held.shape == (2000, CELLS) and (held.sum(1) == CLUES[level]).all()
    assert valid_cells(x).all() and len(x.unique(dim=0)) == 2000
    for row in range(0, 2000, 100):
        puzzle = torch.where(held[row], x[row] + 1, 0).tolist()
        assert solve(puzzle) == [(x[row] + 1).tolist()]


def test_puzzles_are_made_in_the_cache_the_same_from_the_same_seed(tmp_path, monkeypatch):
    """A chunk that is there is kept, so that an interrupted run resumes; others come from their number."""
    monkeypatch.setenv("DMMD_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(sudoku, "CHUNK", 5)
    monkeypatch.setattr(sudoku, "CHUNKS", {"train": range(3), "valid": range(3, 4), "test": range(49, 51)})
    first = Sudoku("easy")
    x, held = first.sample_held(40, generator_for("cpu", 1))
    assert valid_cells(x).all() and (held.sum(1) == 40).all()
    kept = {path.name: path.read_bytes() for path in sorted((tmp_path / "sudoku").glob("*.txt"))}
    assert list(kept) == [f"easy-0{chunk}.txt" for chunk in range(3)]
    (tmp_path / "sudoku" / "easy-01.txt").unlink()
    again = Sudoku("easy").sample_held(40, generator_for("cpu", 1))
    assert torch.equal(again[0], x) and torch.equal(again[1], held)
    assert kept == {path.name: path.read_bytes() for path in sorted((tmp_path / "sudoku").glob("*.txt"))}


def test_the_shipped_puzzles_are_those_of_the_generator(tmp_path):
    """The first ones of the test set, made again."""
    random, world = Random("easy-49"), Sudoku("easy")
    x, held = world.puzzles("test")
    for row in range(5):
        puzzle, grid = make_puzzle(CLUES["easy"], random)
        assert torch.equal(x[row] + 1, torch.tensor(grid)) and torch.equal(
            held[row], torch.tensor(puzzle) > 0
        )


def test_cells_that_repeat_a_digit_are_wrong():
    grid = get_world("sudoku").puzzles("test")[0][:1].clone()
    assert valid_cells(grid).all()
    grid[0, 0] = grid[0, 1]
    wrong = ~valid_cells(grid)[0]
    assert wrong[0] and wrong[1] and not wrong.all()


def test_open_cells_repeat_nothing_and_grids_may_be_small(rng):
    """By comparing every two cells."""
    tokens = torch.randint(5, (200, 16), generator=rng)
    units = [(k // 4, 4 + k % 4, 8 + k // 8 * 2 + k % 4 // 2) for k in range(16)]
    for row, found in zip(tokens.tolist(), valid_cells(tokens).tolist(), strict=True):
        for cell in range(16):
            others = [k for k in range(16) if k != cell and row[k] == row[cell] < 4]
            repeated = any(a == b for k in others for a, b in zip(units[k], units[cell], strict=True))
            assert found[cell] != repeated
    assert valid_cells(get_world("sudoku4").outcomes).all()


def test_levels_and_splits_are_checked():
    with pytest.raises(ValueError, match="level: 'evil' is not allowed"):
        Sudoku("evil")
    with pytest.raises(ValueError, match="split: 'dev' is not allowed"):
        Sudoku("easy").puzzles("dev")


def test_solved_puzzles_and_valid_cells_are_counted(rng):
    """Solutions, solutions with one wrong digit, and random digits."""
    world = get_world("sudoku")
    x = world.puzzles("test")[0][:200].clone()
    x[50:100, 7] = (x[50:100, 7] + 1) % 9
    x[100:] = torch.randint(9, (100, 81), generator=rng)
    found = {r.name: r for r in evaluate_samples(x, world, ["solved", "valid_cells", "valid_grids"])}
    assert found["solved"].value == found["valid_grids"].value == 50 / 200
    assert found["valid_cells"].value == pytest.approx(float(valid_cells(x).double().mean()))
    assert found["solved"].details == {"split": "test"} and found["solved"].low > 0.15
    other = world.puzzles("test")[0][200:210]
    solved, _, grids = evaluate_samples(other, world, list(found))
    assert solved.value == 0 < solved.high and grids.value == 1


def test_a_model_is_measured_on_the_puzzles_of_a_split(tmp_path, rng):
    """Clues are held; the first puzzles of the split are those to solve."""
    model = Model("m", get_recipe("sudoku-masked-teacher"), *parts_of("sudoku", rng), "as given", {})
    records = evaluate(model, ["solved", "valid_cells"], steps=2, num=30)
    assert [r.n for r in records] == [30, 30] and records[0].value == 0
    x, held = model.world.puzzles("test")
    drawn = model.sample(30, 2, held=held[:30], tokens=x[:30]).tokens
    assert records[1].value == pytest.approx(float(valid_cells(drawn).double().mean()))
    with pytest.raises(ValueError, match="num: 2001 is not allowed; the test split has 2000 easy puzzles"):
        evaluate(model, ["solved"], steps=2, num=2001)


def parts_of(name, rng):
    """A random denoiser of a world with held positions, its process and the world."""
    world = get_world(name)
    process = Holding(get_process("masked", world.vocab_size))
    return NetworkDenoiser(tiny_network(process.process, world.length, rng), process), process, world


@every_process
@pytest.mark.parametrize("steps", (1, 6))
def test_the_law_over_outcomes_is_that_of_samples(process_name, steps, rng):
    """A denoiser that likes one digit per cell, against the frequencies of its samples; and what is left."""
    world, process = get_world("sudoku4"), get_process(process_name, 4)
    denoiser = ExactDenoiser(world, process, floor=0.01)
    law = outcome_law(denoiser, process, world, steps, 4096, rng)
    assert law.shape == ((1 if (process_name, steps) == ("masked", 1) else 16), 289)
    torch.testing.assert_close(law.sum(-1), torch.ones(len(law)).double())
    drawn = sample(denoiser, process, 20_000, 16, steps, generator=rng).tokens
    valid = (drawn.unsqueeze(1) == world.outcomes).all(-1).any(1).double()
    error = float(law[:, -1].std() / 4 if len(law) > 1 else 0) + float(valid.std()) / 20_000**0.5
    assert abs(float(law[:, -1].mean()) - float(1 - valid.mean())) < 5 * error + 1e-6
    if len(law) == 1:  # all cells are uniform and independent
        torch.testing.assert_close(law[0, :-1], torch.full((288,), 4.0**-16).double(), rtol=1e-4, atol=0)


def test_the_metrics_of_laws_apply_to_listed_worlds(rng):
    world, process = get_world("sudoku4"), get_process("masked", 4)
    records = exact_metrics(ExactDenoiser(world, process), process, world, 1)
    expected = 288 * 4.0**-16
    assert [r.name for r in records] == ["total_variation", "kl", "invalid_mass"]
    assert records[0].value == pytest.approx(1 - expected) == records[2].value
    assert records[0].low is None and records[0].n == 0
    many = exact_metrics(ExactDenoiser(world, process), process, world, 16, noise_draws=256)
    assert many[2].value < 0.6 and many[2].low < many[2].value < many[2].high
