"""The command line: what it writes, and one line with exit code 2 for everything that it refuses."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from dataclasses import fields

import numpy as np
import pytest
import torch
from helpers import ROOT, contents, full_disk, save_random_model

import dmmd_lite
from dmmd_lite.cli import main
from dmmd_lite.recipes.catalogue import RECIPES
from dmmd_lite.recipes.recipe import Recipe
from dmmd_lite.recipes.world_settings import WORLD_SETTINGS
from dmmd_lite.training.state import CHECKPOINT
from dmmd_lite.utils.extras import EXTRAS
from dmmd_lite.utils.records import Record

COST = {"parameters", "tokens", "flop", "hours_at_400_tflops", "core_hours", "memory_gb"}
COMMANDS = ["recipes", "train", "sample", "evaluate", "page", "doctor"]


@pytest.fixture
def folder(tmp_path, monkeypatch, rng):
    """The working directory, with a student in `student/` and a teacher of images in `images/`."""
    monkeypatch.setenv("DMMD_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("DMMD_DATA_DIR", raising=False)
    monkeypatch.delenv("DMMD_DOWNLOAD", raising=False)
    monkeypatch.chdir(tmp_path)
    for name, recipe in (("student", "coins-masked-dmmd-2"), ("images", "digits-uniform-teacher")):
        (tmp_path / name).mkdir()
        save_random_model(recipe, tmp_path / name / "model", rng)
    return tmp_path


def run(*arguments):
    return main([str(a) for a in arguments])


@pytest.mark.parametrize("command", [[], *([c] for c in COMMANDS)])
def test_help(command, capsys):
    with pytest.raises(SystemExit) as stop:
        run(*command, "--help")
    assert stop.value.code == 0
    assert "usage: dmmd-lite" in capsys.readouterr().out


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        run("--version")
    assert stop.value.code == 0 and capsys.readouterr().out == f"dmmd-lite {dmmd_lite.__version__}\n"


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["sweep", "--help"]])
def test_help_and_version_load_no_large_library(arguments):
    """Therefore they answer in a fraction of a second."""
    script = f"""
import sys
from dmmd_lite.cli import main
try:
    main({arguments})
except SystemExit as stop:
    loaded = {{"torch", "numpy", "pandas", "matplotlib", "sklearn"}} & set(sys.modules)
    sys.exit(stop.code or ", ".join(loaded) or 0)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_recipes(capsys):
    assert run("recipes") == 0
    assert capsys.readouterr().out.split() == sorted(RECIPES)
    assert run("recipes", "--json") == 0
    assert json.loads(capsys.readouterr().out) == sorted(RECIPES)


def test_the_recipes_of_a_scale_say_their_hours(capsys):
    assert run("recipes", "--scale", "desk", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert {name.split("-")[0] for name in found} == {
        w for w, row in WORLD_SETTINGS.items() if "desk" in row.scales
    }
    teacher = found["books27-masked-teacher"]
    assert set(teacher) == COST | {"updates"} and teacher["updates"] == 36_000
    assert run("recipes", "--scale", "desk") == 0
    (line,) = (x for x in capsys.readouterr().out.splitlines() if x.startswith("books27-masked-teacher "))
    assert line.split() == ["books27-masked-teacher", "36,000", "492,891", f"{teacher['core_hours']:.2g}"]


@pytest.mark.parametrize("name", ["coins-masked-exact", "digits-uniform-dmmd-8"])
def test_a_recipe_is_printed_with_its_cost(name, capsys):
    for form in ([], ["--json"]):
        assert run("recipes", name, "--scale", "paper", *form) == 0
        shown = json.loads(capsys.readouterr().out)
        assert Recipe.from_dict(shown["recipe"]) == RECIPES[name]("paper")
        assert set(shown["cost"]) == COST


def test_a_trained_model_can_be_sampled_and_measured(folder, capsys):
    arguments = ["coins-masked-teacher", "--scale", "smoke", "--seed", 3, "--set", "training.steps=4"]
    assert run("train", *arguments, "--out", "run") == 0
    assert capsys.readouterr().out.strip() == "run/model.safetensors"
    assert json.loads((folder / "run" / "model.json").read_text())["seed"] == 3
    assert run("sample", "run", "--out", "samples.txt", "--num", 5) == 0
    assert run("evaluate", "run") == 0
    assert not (folder / "cache").exists()


def test_samples_as_numbers(folder, capsys):
    arguments = ["sample", "student", "--num", 6, "--seed", 3, "--temperature", 0.7, "--top-p", 0.9]
    for name in ("first", "second"):
        assert run(*arguments, "--out", f"{name}.npz") == 0
    assert "6 samples in 2 steps" in capsys.readouterr().out
    first, second = np.load("first.npz"), np.load("second.npz")
    assert first["tokens"].shape == (6, 2) and first["tokens"].dtype == np.int64
    assert (first["tokens"] == second["tokens"]).all()
    assert {key: first[key].item() for key in first if key not in ("tokens", "evaluations")} == {
        "steps": 2,
        "seed": 3,
        "temperature": 0.7,
        "top_p": 0.9,
        "model": "coins-masked-dmmd-2",
    }
    made = first["evaluations"] * 6  # evaluations of all 6 sequences; each needs one or two
    assert made == pytest.approx(round(made.item())) and made in range(6, 13)


@pytest.mark.slow
def test_compiled_samples_are_the_same(folder, monkeypatch):
    compiled, compile_one = [], torch.nn.Module.compile

    def noted(layer, **options):
        compiled.append(options)
        compile_one(layer, **options)

    monkeypatch.setattr(torch.nn.Module, "compile", noted)
    for options in ([], ["--compile"]):
        assert run("sample", "student", "--num", 20, *options, "--out", f"samples{len(options)}.txt") == 0
        assert bool(compiled) == bool(options)
    assert (folder / "samples0.txt").read_text() == (folder / "samples1.txt").read_text()


def test_what_cannot_be_compiled_is_refused(folder, capsys, monkeypatch):
    wanted = ["sample", "coins-masked-exact", "--num", 4, "--compile", "--out", "coins.txt"]
    assert run(*wanted) == 2
    assert "compile: True is not allowed for coins-masked-exact, which has no" in capsys.readouterr().err
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda layer, **options: layer.register_forward_hook(fail)
    )
    wanted[1] = "student"
    assert run(*wanted) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "dmmd-lite: compile: True is not allowed here: no compiler"
    assert not (folder / "coins.txt").exists()


def fail(*arguments):
    raise RuntimeError("no compiler\nwas found")


def test_samples_as_text_and_pictures(folder):
    assert run("sample", "student", "--num", 4, "--steps", 3, "--out", "coins.txt") == 0
    lines = (folder / "coins.txt").read_text().splitlines()
    assert len(lines) == 4 and all(len(line) == 2 and set(line) <= set("HT") for line in lines)
    assert run("sample", "images", "--num", 3, "--steps", 2, "--out", "images.png") == 0
    assert (folder / "images.png").read_bytes().startswith(b"\x89PNG")
    assert run("sample", "images", "--num", 3, "--steps", 2, "--out", "images.txt") == 0
    assert np.loadtxt("images.txt", dtype=int).shape == (3, 64)


def test_exact_models_are_sampled_by_name(folder):
    assert run("sample", "coins-uniform-exact", "--num", 4, "--steps", 50, "--out", "coins.txt") == 0
    assert set((folder / "coins.txt").read_text().split()) <= {"HH", "TT", "HT", "TH"}


def test_evaluation_gives_complete_records(folder, capsys):
    metrics = ["total_variation", "sample_entropy", "output_entropy"]
    assert run("evaluate", "student", "--num", 64, "--seed", 5, "--metrics", ",".join(metrics), "--json") == 0
    shown = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)  # no NaN, no Infinity
    records = [Record.from_dict(values) for values in shown]
    assert [r.name for r in records] == metrics
    for values, record in zip(shown, records, strict=True):
        assert set(values) == {field.name for field in fields(Record)}
        assert (record.model, record.world, record.weights) == ("coins-masked-dmmd-2", "coins", "ema")
        assert (record.steps, record.seed, record.n > 0) == (2, 5, True)
        assert record.low <= record.value <= record.high
        assert record.reference
        assert record.provenance["sha256"] and record.provenance["measured"]["torch"] == torch.__version__
    assert [r.evaluations is None for r in records] == [True, False, True]
    assert run("evaluate", "student", "--num", 64) == 0
    assert len(capsys.readouterr().out.splitlines()) == 5


def test_a_greedy_tail_is_recorded_and_refused_for_metrics_of_exact_distributions(folder, capsys):
    assert run("evaluate", "student", "--metrics", "sample_entropy", "--greedy-tail", "--json") == 0
    (record,) = json.loads(capsys.readouterr().out)
    assert record["details"]["greedy_tail"] is True
    assert run("evaluate", "student", "--metrics", "kl", "--greedy-tail") == 2
    assert "greedy_tail: True is not allowed for ['kl'], which draw no samples" in capsys.readouterr().err


def test_a_recipe_is_measured_at_a_training_seed(folder, capsys):
    arguments = ["evaluate", "parity-masked-teacher", "--scale", "smoke", "--train-seed", 3, "--json"]
    assert run(*arguments, "--metrics", "kl", "--steps", 1) == 0
    (record,) = json.loads(capsys.readouterr().out)
    assert record["provenance"]["training_seed"] == 3 and record["seed"] == 0


def test_doctor(folder, capsys):
    assert run("doctor") == 0
    assert str(folder / "cache") in capsys.readouterr().out
    assert run("doctor", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["torch"] == torch.__version__ and found["cache"] == str(folder / "cache")
    assert isinstance(found["released_models"], list)


def test_doctor_lists_data_sets_and_tokenizer(folder, monkeypatch, capsys):
    files = [
        "own_train.parquet",
        "own_test.parquet",
        "gpt2_tokenizer/vocab.json",
        "gpt2_tokenizer/merges.txt",
    ]
    (folder / "data" / "gpt2_tokenizer").mkdir(parents=True)
    for name in files[:3]:
        (folder / "data" / name).touch()
    monkeypatch.setenv("DMMD_DATA_DIR", str(folder / "data"))
    for complete in (False, True):
        if complete:
            (folder / "data" / files[3]).touch()
        assert run("doctor", "--json") == 0
        found = json.loads(capsys.readouterr().out)
        assert found["local_data_sets"] == ["own"]
        assert found["local_tokenizer"] == (["vocab.json", "merges.txt"] if complete else [])


SMOKE = ["coins-masked-teacher", "--scale", "smoke"]
TRAIN, SAMPLE, EVALUATE = ["train", *SMOKE, "--out", "run"], ["sample", *SMOKE], ["evaluate", *SMOKE]
REFUSED = [
    ([], "the following arguments are required: COMMAND"),
    (["distil"], "invalid choice: 'distil'"),
    (["recipes", "coins"], "recipe: 'coins' is not allowed"),
    (["recipes", "--scale", "huge"], "scale: 'huge' is not allowed; choose one of"),
    (["recipes", SMOKE[0], "--scale", "huge"], "scale: 'huge' is not allowed; choose one of"),
    (["train", "coins", "--out", "run"], "recipe: 'coins' is not allowed"),
    (["train", *SMOKE], "the following arguments are required: --out"),
    (["train", "coins-masked-exact", "--out", "run"], "it has nothing to train"),
    ([*TRAIN, "--device", "tpu"], "device: 'tpu' is not allowed; choose one of .*'auto', 'cpu'"),
    ([*TRAIN, "--seed", "x"], "argument --seed: invalid int value: 'x'"),
    ([*TRAIN, "--set", "training.steps"], "set: 'training.steps' is not allowed; write key=value"),
    ([*TRAIN, "--set", "training.stepz=3"], "key: 'training.stepz' is not allowed; choose from"),
    (
        [*TRAIN, "--set", "training.steps=many"],
        "training.steps: 'many' is not allowed; it must be a whole number of at",
    ),
    ([*TRAIN, "--set", "training.steps=2.5"], "training.steps: 2.5 is not allowed; it must be a whole"),
    ([*TRAIN, "--set", "training.steps=0"], "steps: 0 is not allowed"),
    ([*TRAIN, "--set", "training.compile=1"], "training.compile: 1 is not allowed; it must be True or False"),
    ([*TRAIN, "--set", "training.clip=tight"], "training.clip: 'tight' is not allowed"),
    ([*TRAIN, "--set", "training.lr.denoiser=x"], "lr.denoiser: 'x' is not allowed"),
    ([*TRAIN, "--set", "training.lr.student=1"], "lr: .* must name exactly the players"),
    ([*TRAIN, "--set", "training.ema.student=0.5"], "ema: .* is not allowed; the players are"),
    ([*TRAIN, "--set", "training.batch_size=7", "training.accumulation=2"], "batch_size: 7 is not allowed"),
    ([*TRAIN, "--set", "network.width=31"], "width: 31 is not allowed"),
    ([*TRAIN, "--set", "network.widht=32"], "network: .* is not allowed; the keys are"),
    ([*TRAIN, "--set", "world=moon"], "world: 'moon' is not allowed; choose one of"),
    ([*TRAIN, "--set", "role=pupil"], "role: 'pupil' is not allowed; choose one of"),
    ([*TRAIN, "--set", "validation=taste"], "validation: 'taste' is not allowed; choose from"),
    ([*TRAIN, "--set", "loss=mse"], "loss: 'mse' is not allowed; choose one of"),
    (["train", *SMOKE, "--out", "file"], "out: 'file' is not allowed; .* is a file, name a folder"),
    (["train", *SMOKE, "--out", "file/run"], "out: 'file/run' is not allowed"),
    (["train", *SMOKE, "--out", "damaged"], "checkpoint: .* is damaged"),
    ([*SAMPLE, "--out", "a.jpg"], "out: 'a.jpg' is not allowed; it must end in one of"),
    ([*SAMPLE, "--out", "nowhere/a.npz"], "out: 'nowhere/a.npz' is not allowed; its folder does not exist"),
    ([*SAMPLE, "--out", "a.png"], "out: 'a.png' is not allowed; coins is text"),
    ([*SAMPLE, "--out", "a.npz", "--steps", "0"], "steps: 0 is not allowed; it must be a whole number"),
    ([*SAMPLE, "--out", "a.npz", "--steps", "two"], "argument --steps: invalid int value: 'two'"),
    ([*SAMPLE, "--out", "a.npz", "--num", "0"], "num: 0 is not allowed"),
    ([*SAMPLE, "--out", "a.npz", "--temperature", "-1"], "temperature: -1.0 is not allowed"),
    ([*SAMPLE, "--out", "a.npz", "--temperature", "nan"], "temperature: nan is not allowed"),
    ([*SAMPLE, "--out", "a.npz", "--top-p", "0"], "top_p: 0.0 is not allowed"),
    ([*SAMPLE, "--out", "a.npz", "--top-p", "1.5"], "top_p: 1.5 is not allowed"),
    ([*SAMPLE, "--out", "a.npz", "--top-p", "nan"], "top_p: nan is not allowed"),
    ([*SAMPLE, "--out", "a.npz", "--device", "cuda:99"], "device: 'cuda:99' is not allowed; choose one of"),
    (
        ["sample", "./nowhere", "--out", "a.npz"],
        "model: './nowhere' is not allowed; the folder holds neither model.json nor config.json",
    ),
    (
        ["sample", "damaged", "--out", "a.npz"],
        "model: 'damaged' is not allowed; the folder holds neither model.json nor config.json",
    ),
    (["sample", "broken", "--out", "a.npz"], "truncated or altered"),
    ([*EVALUATE, "--metrics", "beauty"], "metrics: 'beauty' is not a metric for coins; choose from"),
    ([*EVALUATE, "--metrics", "frechet"], "metrics: 'frechet' does not apply to coins; choose from"),
    ([*EVALUATE, "--steps", "0"], "steps: 0 is not allowed"),
    (["evaluate", "images", "--metrics", "kl"], "metrics: 'kl' does not apply to digits; choose from"),
    (["evaluate", "images", "--metrics", "fid"], "metrics: 'fid' does not apply to digits; choose from"),
    (["evaluate", "images", "--features", "beauty"], "features: 'beauty' is not allowed; choose from"),
    (
        ["evaluate", "images", "--features", "resnet20"],
        "no cifar10_resnet/resnet20.safetensors",
    ),
    (["evaluate", "images", "--features", "resnet20:nowhere"], "features: 'nowhere' is not a file"),
    (["evaluate", "images", "--features", "glyphs-classifier"], "it reads images of 16x16x1, not 8x8x1"),
    (["evaluate", "images", "--num", "31"], "samples: 31 are not allowed; .* 32 features needs 32"),
    ([*EVALUATE, "--features", "resnet20"], "features: 'resnet20' is not allowed; none of the metrics"),
    (
        [*TRAIN, "--set", "world=glyphs@1"],
        "levels: 1 is not allowed; it must be a whole",
    ),
    ([*TRAIN, "--set", "world=coins@4"], "world: 'coins' is not allowed with levels; choose one of"),
    (
        ["train", "cifar10-uniform-teacher", "--scale", "smoke", "--out", "run"],
        "cifar10: no cifar10_.*DMMD_DATA",
    ),
    *(
        ([*TRAIN, "--set", f"training.{change}"], f"training.{name}: .* is not allowed; it must")
        for name, change in [
            ("steps", "steps=NaN"),
            ("steps", f"steps={10**30}"),
            ("batch_size", f"batch_size={10**30}"),
            ("betas.0", "betas=[1,2]"),
            ("betas.0", "betas=[1,0.5]"),
            ("ema.denoiser", "ema.denoiser=1.5"),
            ("ema.denoiser", "ema.denoiser=1"),
            ("warmup", "warmup=-1"),
            ("validate_every", "validate_every=-1"),
            ("lr", "lr=true"),
            ("lr.denoiser", "lr.denoiser=true"),
            ("clip", "clip=0"),
        ]
    ),
    *(
        ([*TRAIN, "--set", f"floor={value}"], r"floor: .* is not allowed; it must lie in \(0, 1\)")
        for value in ("NaN", "0", "-1", "Infinity")
    ),
    *(
        (["train", "coins-masked-dmmd-2", "--scale", "smoke", "--out", "run", "--set", change], words)
        for change, words in [
            ("method.delta=NaN", "method.delta: nan is not allowed; it must be a finite number"),
            (f"method.steps={10**30}", "method.steps: 1000.* is not allowed; it must be a whole number"),
            ("method.target=3", "method.target: 3 is not allowed; choose one of"),
            ("loss=x", "loss: 'x' is not allowed; choose one of"),
            ("output=x", "output: 'x' is not allowed; choose one of"),
            ("training.lr.nobody=1", "training.lr: .* must name exactly the players"),
            ("network.width=31", "width: 31 is not allowed"),
        ]
    ),
    (
        ["train", "coins-uniform-dmmd-2", "--scale", "smoke", "--out", "run", "--set", "method.target=soft"],
        "target",
    ),
    (
        [*TRAIN, "--set", "training.steps=7", "--set", "training.steps=8"],
        "set: 'training.steps' is there twice",
    ),
    ([*TRAIN, "--set", "training.steps=7", "training.steps=8"], "set: 'training.steps' is there twice"),
    ([*TRAIN, "--set", f"network.width={'[' * 100_000}"], "width: .* is not allowed"),
    ([*TRAIN, "--set=--"], "set: '--' is not allowed"),
    ([*TRAIN, "--out", "another"], "out: 'another' is not allowed; the option is there twice"),
    ([*TRAIN, "--seed", "-1"], "seed: -1 is not allowed; it must be a whole number of at least 0"),
    ([*TRAIN, "--seed", str(10**30)], "seed: 1000.* is not allowed; it must be a whole number of at least 0"),
    (["train", *SMOKE, "--out", ""], "out: '' is not allowed; it must be a path"),
    (["train", *SMOKE, "--out", "/proc/run"], "out: '/proc/run' is not allowed; '/proc' cannot be written"),
    (["train", *SMOKE, "--out", "loop/run"], "out: 'loop/run' is not allowed"),
    (["train", *SMOKE, "--out", "~nobody-of-this-name/run"], "out: .* is not allowed; it must be a path"),
    ([*SAMPLE, "--out", "a_folder.npz"], "out: 'a_folder.npz' is not allowed; it is a folder"),
    ([*SAMPLE, "--out", "/proc/a.npz"], "out: '/proc' is not allowed; '/proc' cannot be written"),
    ([*SAMPLE, "--out", "a.npz", "--seed", str(10**30)], "seed: 1000.* is not allowed"),
    ([*SAMPLE, "--out", "a.npz", "--num", str(10**30)], "num: 1000.* is not allowed"),
    ([*EVALUATE, "--metrics", ",,,"], "metrics: '' is not a metric for coins"),
    ([*EVALUATE, "--metrics", ""], "metrics: '' is not a metric for coins"),
    ([*EVALUATE, "--metrics", "kl", "--metrics", "total_variation"], "metrics: .* the option is there twice"),
    ([*EVALUATE, "--features=--"], "features: '--' is not allowed"),
    (["page", "no-such-page", "--out", "run"], "page: 'no-such-page' does not exist; .* or one of"),
    (["page", "coins", "--scale", "huge", "--out", "run"], "scale: 'huge' does not exist"),
    (["page", "coins", "-p", "no_such", "1", "--out", "run"], "parameter no_such: does not exist"),
]


@pytest.mark.parametrize("arguments, words", REFUSED, ids=[" ".join(a)[:99] for a, _ in REFUSED])
def test_what_cannot_be_done_is_one_line_and_changes_nothing(arguments, words, folder, capsys):
    (folder / "file").write_text("a file")
    (folder / "damaged").mkdir()
    (folder / "damaged" / CHECKPOINT).write_bytes(b"not a checkpoint")
    (folder / "broken").mkdir()
    weights = (folder / "student" / "model.safetensors").read_bytes()
    (folder / "broken" / "model.safetensors").write_bytes(weights[:-1])
    (folder / "broken" / "model.json").write_bytes((folder / "student" / "model.json").read_bytes())
    (folder / "a_folder.npz").mkdir()
    (folder / "loop").symlink_to("loop")
    before = contents(folder)
    assert run(*arguments) == 2
    output = capsys.readouterr()
    (line,) = output.err.splitlines()
    assert line.startswith("dmmd-lite: ") and output.out == ""
    assert re.search(words, line), line
    assert {name: text for name, text in contents(folder).items() if not name.endswith("/.lock")} == before


def test_a_loss_that_explodes_is_one_line_and_code_1(folder, capsys):
    assert run(*TRAIN, "--set", "training.lr.denoiser=1e38") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("dmmd-lite: loss term denoiser/")


@pytest.mark.parametrize("allocate", [lambda: torch.empty(10**15), lambda: np.empty(10**15)])
def test_memory_that_runs_out_is_one_line_and_code_1(allocate, capsys, monkeypatch):
    monkeypatch.setattr("dmmd_lite.cli._doctor", lambda _: allocate())
    assert main(["doctor"]) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("dmmd-lite: memory ran out: ") and printed.count("\n") == 1


@pytest.mark.parametrize("ending", [".npz", ".png", ".txt"])
def test_samples_that_do_not_fit_on_the_disk_leave_the_old_ones(ending, folder, capsys):
    out = folder / f"samples{ending}"
    command = ["sample", "images" if ending == ".png" else "student", "--steps", "1", "--out", out, "--num"]
    assert run(*command, 4) == 0
    before = contents(folder)
    capsys.readouterr()
    with full_disk(left=100):
        assert run(*command, 64) == 1
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1 and str(out) in printed.err and not printed.out
    assert contents(folder) == before


def test_every_change_of_a_recipe_counts(folder, capsys):
    given = ["--set", "training.steps=3", "--set", "training.batch_size=8", "training.log_every=1"]
    assert run(*TRAIN, *given) == 0
    training = json.loads((folder / "run" / "model.json").read_text())["recipe"]["training"]
    assert [training[name] for name in ("steps", "batch_size", "log_every")] == [3, 8, 1]


def test_a_home_folder_is_found(folder, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(folder))
    assert run(*TRAIN[:-1], "~/run", "--set", "training.steps=2") == 0
    assert run("sample", "~/run", "--num", 2, "--out", "~/samples.npz") == 0
    assert (folder / "run" / "model.json").is_file() and (folder / "samples.npz").is_file()
    assert not (folder / "~").exists()


WITHOUT = """
import sys
sys.modules.update(dict.fromkeys(sys.argv[1].split(",")))  # as if these were not installed
from dmmd_lite.cli import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize(
    "module, package, arguments",
    [
        ("sklearn", "scikit-learn", ["train", "digits-masked-teacher", "--scale", "smoke", "--out", "run"]),
        ("sklearn", "scikit-learn", ["evaluate", "digits-masked-teacher", "--scale", "smoke"]),
        (
            "matplotlib",
            "matplotlib",
            ["sample", "digits-masked-teacher", "--scale", "smoke", "--out", "a.png"],
        ),
        ("PIL", "pillow", ["sample", "digits-masked-teacher", "--scale", "smoke", "--out", "a.png"]),
        ("papermill", "papermill", ["page", "coins", "--out", "run"]),
        ("jupytext", "jupytext", ["page", "coins", "--out", "run"]),
        ("pyarrow", "pyarrow", ["sweep", "coins", "-p", "seed", "1", "--out", "run"]),
        ("pandas", "pandas", ["sweep", "coins", "-p", "seed", "1", "--out", "run"]),
        ("jupyter_book", "jupyter-book", ["book"]),
        (
            "transformers",
            "transformers",
            ["evaluate", "docstrings-ar-baseline", "--scale", "smoke", "--judge", "hf:x", "--num", "4"],
        ),
    ],
)
def test_a_missing_package_is_named_before_any_work(module, package, arguments, folder):
    before = contents(folder)
    command = [sys.executable, "-c", WITHOUT, module, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2 and done.stdout == "", line
    assert (
        line.startswith("dmmd-lite: ") and package in line and ("pip install" in line or "needs" in line)
    ), line
    assert contents(folder) == before


def test_every_optional_package_is_one_of_an_extra():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for package, extra in EXTRAS.values():
        indirect = {"ipython", "jupyter-client", "nbformat", "huggingface-hub", "transformers"}
        names = {re.split(r"[><=\[]", line)[0] for line in project.get(extra, [])}
        assert package in names | indirect


def test_output_fits_a_terminal_of_few_characters(folder):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "dmmd_lite", "sample", "student", "--out", "→.jpg"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 2 and done.stderr.startswith(r"dmmd-lite: out: '\u2192.jpg' is not allowed")


def test_a_reader_that_leaves_is_no_traceback():
    command = [sys.executable, "-m", "dmmd_lite", "recipes"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == "" and process.wait() == 1


@pytest.mark.parametrize("delay", [0.0, 0.1, 0.3, 0.6, 1.0])
def test_an_interrupt_at_any_moment_is_one_line(delay, folder):
    """From the moment that the handler is there: the command line is imported, PyTorch is, a model is read,
    samples are drawn."""
    script = "import signal, sys, dmmd_lite.__main__ as door; install = signal.signal\n"
    script += "signal.signal = lambda *given: (install(*given), print(flush=True))\nsys.exit(door.main())"
    arguments = ["sample", "student", "--num", "2000000", "--steps", "2", "--out", "a.npz"]
    command = [sys.executable, "-c", script, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    lines = [
        line for line in errors.replace("\r", "\n").splitlines() if line and not line.startswith("sampling")
    ]
    assert lines == ["dmmd-lite: interrupted"]
    assert not (folder / "a.npz").exists()
