"""Runs of the command line: killed, signalled, and in several processes, they end in the same bits."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
import torch
from helpers import exit_codes, start_command
from safetensors.torch import load_file

from dmmd_lite.cli import main
from dmmd_lite.training.state import CHECKPOINT

STEPS, LOG_EVERY = 80, 5


def command(recipe, out, steps=STEPS):
    """Return the arguments of a run of small steps that saves, logs and validates often."""
    sizes = {"network.width": 8, "network.depth": 1, "training.batch_size": 8, "start": ""}
    often = {"steps": steps, "checkpoint_every": 7, "log_every": LOG_EVERY, "validate_every": 30}
    changes = sizes | {f"training.{key}": value for key, value in often.items()}
    to_set = [f"{key}={value}" for key, value in changes.items()]
    return ["train", recipe, "--scale", "smoke", "--out", str(out), "--device", "cpu", "--set", *to_set]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return runs that were never interrupted, by recipe."""
    folders = {}
    for recipe in ("coins-masked-dmmd-1", "coins-masked-teacher"):
        folders[recipe] = tmp_path_factory.mktemp(recipe)
        assert main(command(recipe, folders[recipe])) == 0
    return folders


def logged_steps(folder):
    """Return the steps of the lines with losses."""
    file = folder / "log.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    whole = [json.loads(line) for line in lines if line.endswith("}")]
    return [line["step"] for line in whole if "lr" in line]


def wait_for(step, folder, *processes):
    """Wait until the run in a folder has logged a step, or a process has ended."""
    while max([0, *logged_steps(folder)]) < step and all(p.is_alive() for p in processes):
        time.sleep(0.002)


def assert_same_run(folder, other):
    """Compare weights, averages, optimisers, random states and the saved model bit by bit."""
    first, second = load_file(folder / CHECKPOINT), load_file(other / CHECKPOINT)
    assert first.keys() == second.keys()
    assert [key for key in first if not torch.equal(first[key], second[key])] == []
    model = "model.safetensors"
    assert (folder / model).read_bytes() == (other / model).read_bytes()


def test_killed_three_times_and_resumed_ends_in_the_same_bits(whole, tmp_path, rng):
    recipe, killed = "coins-masked-dmmd-1", 0
    for after in torch.randint(1, STEPS // 2, (3,), generator=rng).sort().values.tolist():
        process = start_command(command(recipe, tmp_path), tmp_path / "output")
        wait_for(after, tmp_path, process)
        process.kill()
        killed += exit_codes(process) == [-signal.SIGKILL]
    assert killed > 0
    assert main(command(recipe, tmp_path)) == 0
    assert_same_run(tmp_path, whole[recipe])
    assert logged_steps(tmp_path) == list(range(LOG_EVERY, STEPS + 1, LOG_EVERY))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signalled_runs_save_and_resume_to_the_same_bits(number, whole, tmp_path):
    recipe, output = "coins-masked-teacher", tmp_path / "output"
    process = start_command(command(recipe, tmp_path), output)
    wait_for(LOG_EVERY, tmp_path, process)
    os.kill(process.pid, number)
    assert exit_codes(process) == [128 + number]
    (line,) = output.read_text().splitlines()
    stopped = int(line.removeprefix("dmmd-lite: stopped at step ").split()[0])
    assert line.endswith(f"of {STEPS}; resume with the same command")
    assert logged_steps(tmp_path)[-1] == stopped < STEPS
    assert main(command(recipe, tmp_path)) == 0
    assert_same_run(tmp_path, whole[recipe])
    expected = set(range(LOG_EVERY, STEPS + 1, LOG_EVERY)) | {stopped}
    assert logged_steps(tmp_path) == sorted(expected)


def test_a_second_run_in_a_folder_is_refused_until_the_first_one_ends(whole, tmp_path, capsys):
    """The recipe in the folder is another one's and its teacher is missing: nothing of it is trained."""
    first, recipe = tmp_path / "run", "coins-masked-dmmd-1"
    process = start_command(command(recipe, first), tmp_path / "output")
    wait_for(LOG_EVERY, first, process)
    os.kill(process.pid, signal.SIGSTOP)  # so that it cannot end before it is asked for
    assert main(command("coins-uniform-dmmd-1", first)) == main(command(recipe, first)) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and all(f"process {process.pid} of" in line for line in lines)
    process.kill()
    assert exit_codes(process) == [-signal.SIGKILL]
    assert main(command(recipe, first)) == 0
    assert_same_run(first, whole[recipe])
    assert logged_steps(first) == list(range(LOG_EVERY, STEPS + 1, LOG_EVERY))


def test_another_recipe_is_refused_before_its_teacher_is_trained(whole, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DMMD_CACHE_DIR", str(tmp_path / "cache"))
    student = ["train", "digits-masked-dmmd-4", "--scale", "smoke", "--device", "cpu"]
    assert main([*student, "--out", str(whole["coins-masked-teacher"])]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "(recipe.name: 'coins-masked-teacher' there, 'digits-masked-dmmd-4' here; " in line
    assert not (tmp_path / "cache").exists()


def start_ranks(arguments, folder):
    """Start two processes of one run, with the environment that `torchrun` would give them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [
        start_command(arguments, folder / f"output{rank}", RANK=str(rank), LOCAL_RANK=str(rank), **shared)
        for rank in range(2)
    ]


def test_two_processes_stop_together_and_resume_to_the_same_bits(tmp_path):
    """A signal to one process stops both; afterwards each resumes with its part of the data."""
    folders = [tmp_path / "whole", tmp_path / "stopped"]
    for folder in folders:
        folder.mkdir()
        ranks = start_ranks(command("coins-masked-teacher", folder, steps=30), folder)
        if folder.name == "stopped":
            wait_for(LOG_EVERY, folder, *ranks)
            os.kill(ranks[1].pid, signal.SIGTERM)
            assert exit_codes(*ranks) == [143, 143]
            ranks = start_ranks(command("coins-masked-teacher", folder, steps=30), folder)
        assert exit_codes(*ranks) == [0, 0]
    assert_same_run(*folders)
    tensors = load_file(folders[0] / CHECKPOINT)
    states = [*tensors["random/noise"], *tensors["random/data"]]
    assert len({state.numpy().tobytes() for state in states}) == 4


RANK_SCRIPT = """
import os, sys
from safetensors.torch import save_file
from dmmd_lite import cli
from dmmd_lite.models import loading

def train(*arguments, train=loading.train, **options):
    result = train(*arguments, **options)
    for name, player in result.raw.items():
        save_file(player.state_dict(), f"{name}{os.environ['RANK']}.safetensors")
    return result

loading.train = train
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_torchrun_leaves_equal_weights_on_all_ranks(tmp_path):
    """The cache is empty, so that the processes also train the student's start together."""
    (tmp_path / "script.py").write_text(RANK_SCRIPT)
    torchrun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        "script.py",
    ]
    arguments = ["train", "coins-masked-dmmd-1", "--scale", "smoke", "--device", "cpu", "--out", "run"]
    environment = {**os.environ, "DMMD_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(
        [*torchrun, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    for player in ("denoiser", "generator", "auxiliary"):
        first, second = (load_file(tmp_path / f"{player}{rank}.safetensors") for rank in range(2))
        assert [key for key in first if not torch.equal(first[key], second[key])] == []
    assert (tmp_path / "run" / "model.safetensors").is_file()


PART_SCRIPT = """
import sys
import torch
import torch.distributed as dist
from torch.nn.functional import cross_entropy
from dmmd_lite.networks.transformer import Transformer
from dmmd_lite.training.loop import train
from dmmd_lite.training.options import TrainingOptions
from dmmd_lite.training.state import rank_and_size

dist.init_process_group("gloo")
rank, size = rank_and_size()
seed, V, L, batch, steps = int(sys.argv[1]), 7, 6, 8, 12
whole = torch.randint(V, (steps, batch, L), generator=torch.Generator().manual_seed(seed))
at = iter(range(steps))

def data(n, generator):
    return whole[next(at)][rank * n : (rank + 1) * n]

class Plain:
    def __init__(self):
        torch.manual_seed(seed + rank)  # the first process's weights are used
        self.players = {"net": Transformer(V, V, L, width=32, depth=1, heads=2)}

    def losses(self, step, x, generator):
        logits = self.players["net"](x, torch.full((len(x),), 0.5))
        return {"net": {"loss": cross_entropy(logits.flatten(0, 1), x.flip(1).flatten())}}

options = TrainingOptions(steps, batch, {"net": 1e-3}, ema={"net": 0.9}, log_every=1, warmup=2)
train(Plain(), data, options, f"run{size}")
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one_with_the_same_global_batch(tmp_path):
    """Losses agree to 1e-5: both see the same sequences in every update, and the method draws nothing."""
    (tmp_path / "script.py").write_text(PART_SCRIPT)
    seed = str(torch.randint(10**6, (1,)).item())
    for processes in (1, 2):
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command_line = [*torchrun, f"--nproc-per-node={processes}", "script.py", seed]
        done = subprocess.run(command_line, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
    logs = [
        [json.loads(line)["net/loss"] for line in (tmp_path / f"run{n}/log.jsonl").read_text().splitlines()]
        for n in (1, 2)
    ]
    assert len(logs[0]) == len(set(logs[0])) == 12
    assert logs[1] == pytest.approx(logs[0], abs=1e-5)
