"""README: its commands and its Python code run, with smaller trainings, and everything that it names exists.

A command or a block of a kind that is not known here fails, because it would not be checked.
"""

import ast
import inspect
import re
import shlex
import tomllib
from functools import partial

import pytest
import torch
from helpers import ROOT

import dmmd_lite
from dmmd_lite import Transformer, cli, distil, fit_teacher, get_recipe, get_world, text_world
from dmmd_lite.pages.sweep import plan
from dmmd_lite.recipes.catalogue import RECIPES
from dmmd_lite.worlds import WORLDS
from dmmd_lite.worlds.text import TextWorld

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
SHELL = "".join(text for language, text in BLOCKS if not language)
PYTHON = [text for language, text in BLOCKS if language == "python"]
PROSE = re.sub(r"^```.*?^```$", "", README, flags=re.MULTILINE | re.DOTALL)
COMMANDS = [shlex.split(line, comments=True) for line in SHELL.splitlines() if line.strip()]
INLINE = [shlex.split(code) for code in re.findall(r"`((?:make|dmmd-lite|source|conda|pip) [^`]+)`", PROSE)]
TINY = {"width": 16, "depth": 1, "heads": 2, "time_width": 8}
SMALLER = {  # what makes commands take seconds: replacements in their arguments
    r"(?<=^train )": "--scale smoke ",
    r"(?<=training.steps=)\d+": "4",
    r"(?<=--num )\d+": "64",
}


def package_commands() -> list[list[str]]:
    """Return the arguments of every `dmmd-lite` command, in the order of the README."""
    found = [words for words in INLINE + COMMANDS if words[0].endswith("dmmd-lite")]
    return [words[1:] for words in found]


def test_every_command_is_of_a_kind_that_is_checked_here():
    kinds = {words[0].removeprefix(".venv/bin/") for words in INLINE + COMMANDS}
    assert kinds == {"make", "dmmd-lite", "torchrun", "source", "conda", "pip"}
    assert {language for language, _ in BLOCKS} == {"", "python", "text"} and len(PYTHON) == 3


def test_the_commands_of_the_package_run_one_after_the_other(tmp_path, monkeypatch, capsys):
    """The order is that of the README, because a command may use the files of an earlier one."""
    monkeypatch.chdir(tmp_path)
    ran = set()
    for arguments in package_commands():
        name = arguments[0]
        if len(arguments) > 1 or name in ("recipes", "doctor"):
            ran.add(name)
            if name == "sweep":
                parsed = cli.make_parser().parse_args(arguments)
                grid = {key: [cli.parse_value(v) for v in values] for key, *values in parsed.grid}
                assert len(plan(parsed.page, grid, parsed.out)) == 4
            else:
                line = shlex.join(arguments)
                for pattern, smaller in SMALLER.items():
                    line = re.sub(pattern, smaller, line)
                code = cli.main(shlex.split(line))
                assert code == 0, capsys.readouterr().err
        else:
            cli.make_parser().parse_args([name, "intro", "--out", "out"])
    assert ran == {"recipes", "train", "sample", "evaluate", "sweep", "doctor"}
    assert (tmp_path / "digits.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "runs" / "mine" / "model.safetensors").is_file()


def test_the_other_commands_name_what_is_there():
    makefile, environments = (ROOT / "Makefile").read_text(), (ROOT / "environment.yml").name
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for words in INLINE + COMMANDS:
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", makefile, re.MULTILINE), words
        elif words[0] == "conda":
            assert words == ["conda", "env", "create", "-f", environments]
        elif words[0] == "source":
            assert words == ["source", ".venv/bin/activate"] and "BIN := .venv/bin" in makefile
        elif words[0] == "pip":
            [extra] = re.findall(r"\.\[(\w+)\]", words[-1])
            assert extra in extras


def test_torchrun_starts_a_training_of_the_command_line():
    from torch.distributed.run import get_args_parser

    seen = 0
    for words in COMMANDS:
        if words[0] == "torchrun":
            rest = words[1:] if words[-1] != "..." else [*words[1:-1], ".venv/bin/dmmd-lite"]
            parsed = get_args_parser().parse_args(rest)
            assert parsed.training_script == ".venv/bin/dmmd-lite"
            if parsed.training_script_args:
                ours = cli.make_parser().parse_args(parsed.training_script_args)
                get_recipe(ours.recipe, ours.scale)
                seen += 1
    assert seen == 1


def shorter(text: str, **replaced: str) -> str:
    """Return a block with some of its literals replaced. Each of them must be in it."""
    for old, new in replaced.values():
        assert old in text, f"the README has no {old!r}"
        text = text.replace(old, new)
    return text


def test_sampling_and_measuring_from_python(capsys):
    exec(shorter(PYTHON[0], num=("num=1000", "num=64")), names := {})
    assert names["tokens"].shape == (16, 64) and 0 <= names["tokens"].min() and names["tokens"].max() <= 16
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["frechet", "coverage"]


@pytest.mark.parametrize("start", ["tokens", "network"])
def test_distilling_from_data_or_from_a_network(start, tmp_path, monkeypatch, rng):
    monkeypatch.chdir(tmp_path)
    few = {"updates": 4, "batch_size": 8}
    monkeypatch.setattr(dmmd_lite, "fit_teacher", partial(fit_teacher, network=TINY, **few))
    monkeypatch.setattr(dmmd_lite, "distil", partial(distil, **few))
    text = PYTHON[1]
    if start == "network":
        trained = re.search(r"^teacher = fit_teacher.*\n", text, re.MULTILINE)[0]
        loaded = ('from_pretrained("mine-8-steps")', 'from_pretrained("mine-8-steps", network=my_network)')
        text = shorter(text, teacher=(trained, ""), adapted=("# teacher = ", "teacher = "), loaded=loaded)
    names = {
        "my_tokens": torch.randint(5, (300, 6), generator=rng),
        "my_network": Transformer(6, 5, 6, **TINY),
    }
    exec(text, names)
    student = names["student"]
    assert student.recipe.method.steps == 8 and student.recipe.role == "dmmd"
    assert {path.name for path in (tmp_path / "mine-8-steps").iterdir()} >= {"config.json", "README.md"}
    assert (names["teacher"].recipe.name == "mine") == (start == "network")


def test_a_network_in_the_loop_itself(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {
        "V": 5,
        "my_network": Transformer(5, 5, 6, **TINY),
        "my_tokens": lambda n, generator: torch.randint(5, (n, 6), generator=generator),
    }
    less = {"device": ('"cuda"', '"cpu"'), "steps": ("steps=2000", "steps=4"), "size": ("size=64", "size=8")}
    exec(shorter(PYTHON[2], **less), names)
    tokens = torch.zeros(2, 6, dtype=torch.long)
    assert names["student"](tokens, torch.ones(2)).shape == (2, 6, 5)
    assert names["result"].steps == 4


def test_the_call_of_text_world_fits_its_signature():
    [call] = re.findall(r"`(text_world\([^`]*\))\.sample`", PROSE)
    node = ast.parse(call, mode="eval").body
    values = {keyword.arg: ast.literal_eval(keyword.value) for keyword in node.keywords}
    bound = inspect.signature(text_world).bind(*map(ast.literal_eval, node.args), **values)
    assert values and values.items() <= bound.arguments.items()
    assert callable(TextWorld.sample)


def test_the_tables_of_worlds_are_true():
    rows = re.findall(r"^\| (`.+?) \| ([\d, ×]+) \|", README, re.MULTILINE)
    worlds = [
        pair
        for names, sizes in rows
        for pair in zip(re.findall(r"`(\w+)`", names), 3 * sizes.split(", "), strict=False)
    ]
    assert len(worlds) == 12
    for name, size in worlds:
        length, levels = (int(number.replace(",", "")) for number in re.split(r" × |,(?!\d)", size))
        assert name in WORLDS
        world = get_world(name)
        assert (world.length, world.vocab_size) == (length, levels), name


def test_files_and_models_that_are_named_exist():
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", README) if "://" not in link]
    assert links and all((ROOT / link).exists() for link in links)
    models = re.findall(r"\b(?:digits|cifar10)-(?:masked|uniform)-[\w-]*\w", README)
    assert models and set(models) <= set(RECIPES)
