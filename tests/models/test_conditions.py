"""Prompts and files with blanks: what is held is kept, what is wrong is one line and writes nothing."""

import numpy as np
import pytest
import torch

from dmmd_lite.cli import main
from dmmd_lite.models.conditions import file_condition, prompt_condition
from dmmd_lite.models.loading import load_model
from dmmd_lite.worlds import get_world

MODEL = "markov-masked-dmmd-8"


def run(*arguments):
    return main(["sample", MODEL, "--steps", "2", *map(str, arguments)])


def test_a_prompt_begins_every_sample(tmp_path):
    out = tmp_path / "out.txt"
    assert run("--num", 5, "--prompt", "once upon a time", "--out", out) == 0
    lines = out.read_text().splitlines()
    assert len(lines) == 5 and all(line.startswith("once upon a time") for line in lines)
    assert len(set(lines)) > 1


def test_lines_with_blanks_are_completed_several_times(tmp_path):
    file, out = tmp_path / "in.txt", tmp_path / "out.npz"
    file.write_text("the __e\n\n___ and ___\n")
    assert run("--num", 3, "--infill", file, "--out", out) == 0
    world = get_world("markov")
    rows = world.show(torch.from_numpy(np.load(out)["tokens"]))
    assert len(rows) == 6
    assert all(row.startswith("the ") and row[6] == "e" for row in rows[:3])
    assert all(row[3:8] == " and " for row in rows[3:])


def test_arrays_are_completed(tmp_path, rng):
    world = get_world("markov")
    tokens = world.sample(4, rng)
    held = torch.rand(tokens.shape, generator=rng) < 0.5
    np.savez(tmp_path / "in.npz", held=held.numpy(), tokens=tokens.numpy())
    found = file_condition(world, tmp_path / "in.npz")
    assert torch.equal(found[0], held) and torch.equal(found[1], tokens)
    drawn = load_model(MODEL).sample(4, 2, held=found[0], tokens=found[1]).tokens
    assert torch.equal(drawn[held], tokens[held])


def test_worlds_read_their_own_texts():
    molecules = get_world("molecules")
    held, tokens = prompt_condition(molecules, "C[nH]")
    assert held[0].tolist() == [True] * 2 + [False] * 22 and molecules.show(tokens) == ["C[nH]"]
    for name in ("coins", "docstrings", "sudoku4", "sudoku"):
        world = get_world(name)
        x = world.sample(1, torch.Generator().manual_seed(0), "test")
        assert world.parse(world.show(x)[0]) == x[0].tolist()
    with pytest.raises(
        ValueError, match="^text: 'ab' is not allowed for digits, whose tokens are no characters"
    ):
        get_world("digits").parse("ab")


@pytest.mark.parametrize(
    "world, text, words",
    [
        ("markov", "", "infill: .* is not allowed; it has no line"),
        ("markov", "a_B", "infill: line 1: text: 'B' is not allowed for markov; 'B' is none of"),
        ("markov", "a\n" + "b" * 65, "infill: 65 tokens in line 2 are not allowed; it must have at most 64"),
        ("molecules", "CC_Br", "infill: line 1: smiles: 'Br' is not allowed; 'Br' is none of"),
        ("sudoku", "11" + "_" * 79, "infill: puzzle 1 is not allowed; it has no solution"),
        ("sudoku4", "12\n11__", "infill: sequence 2 is not allowed; no outcome of sudoku4 has these tokens"),
        ("coins", "H_\nHT", "infill: sequence 2 is not allowed; no outcome of coins"),
        ("sudoku", "_" * 81, "infill: puzzle 1 is not allowed; it has several solutions, it must have one"),
    ],
)
def test_lines_that_cannot_be_completed_are_refused(world, text, words, tmp_path):
    (tmp_path / "in.txt").write_text(text)
    with pytest.raises(ValueError, match=words) as error:
        file_condition(get_world(world), tmp_path / "in.txt")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "arrays, words",
    [
        ({"held": np.ones((1, 64), bool)}, "infill: .* is not allowed"),
        ({"held": np.ones((1, 64)), "tokens": np.zeros((1, 64), int)}, "held is float64"),
        ({"held": np.ones((1, 3), bool), "tokens": np.zeros((1, 3), int)}, r"they must be \[n, 64\]"),
        ({"held": np.ones((1, 64), bool), "tokens": np.full((1, 64), 27)}, "infill: token 27 is not allowed"),
        ({"held": np.array([object()]), "tokens": np.zeros((1, 64), int)}, "infill: .* is not allowed"),
    ],
)
def test_arrays_that_are_no_conditions_are_refused(arrays, words, tmp_path):
    np.savez(tmp_path / "in.npz", **arrays)
    with pytest.raises(ValueError, match=words):
        file_condition(get_world("markov"), tmp_path / "in.npz")


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--prompt", ""], "prompt: '' is not allowed"),
        (["--prompt", "a" * 65], "prompt: 65 tokens"),
        (["--infill", "missing.txt"], "infill: 'missing.txt' is not allowed"),
        (["--prompt", "a", "--infill", "b.txt"], "not allowed with argument"),
    ],
)
def test_the_command_line_refuses_before_it_samples(arguments, words, tmp_path, capsys):
    assert run(*arguments, "--out", tmp_path / "out.txt") == 2
    message = capsys.readouterr().err
    assert words in message and message.count("\n") == 1 and not list(tmp_path.iterdir())


def test_a_puzzle_of_one_solution_is_taken(tmp_path):
    x, held = get_world("sudoku").puzzles("test")
    line = "".join(str(int(d) + 1) if clue else "_" for d, clue in zip(x[0], held[0], strict=True))
    (tmp_path / "in.txt").write_text(line + "\n")
    found = file_condition(get_world("sudoku"), tmp_path / "in.txt")
    assert torch.equal(found[0][0], held[0]) and torch.equal(found[1][0][held[0]], x[0][held[0]])


def test_an_autoregressive_model_holds_nothing():
    model = load_model("docstrings-ar-judge")
    with pytest.raises(ValueError, match="held: not allowed for an autoregressive model"):
        model.sample(1, held=torch.ones(128, dtype=torch.bool), tokens=torch.zeros(128, dtype=torch.long))


@pytest.mark.parametrize(
    "world, text, words",
    [
        ("coins", "", "prompt: '' is not allowed; it must have at least one token"),
        ("coins", "HX", "prompt: text: 'HX' is not allowed for coins; 'X' is none of"),
        ("coins", "HHH", "prompt: 3 tokens in line 1 are not allowed; it must have at most 2"),
        ("coins", "HT", "prompt: sequence 1 is not allowed; no outcome of coins has these tokens"),
        ("sudoku4", "1231", "prompt: sequence 1 is not allowed; no outcome of sudoku4 has these tokens"),
        ("molecules", "CX", "prompt: smiles: 'CX' is not allowed; 'X' is none of"),
    ],
)
def test_prompts_that_nothing_begins_with_are_refused(world, text, words):
    with pytest.raises(ValueError, match=words) as error:
        prompt_condition(get_world(world), text)
    assert "\n" not in str(error.value)
