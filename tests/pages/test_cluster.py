"""Sweeps on a real Dask cluster, a scheduler and two workers on loopback."""

import json
import signal
import subprocess
import sys
from threading import Thread

import pytest
from helpers import exit_codes, start_command
from pyarrow import parquet
from test_sweep import SOURCE, begun, notebooks, wait_until

from dmmd_lite.cli import main
from dmmd_lite.pages.run import PageError
from dmmd_lite.pages.sweep import sweep

pytest.importorskip("distributed", reason="Dask is not installed; pip install distributed runs this test")
pytestmark = pytest.mark.slow
RUNS = 24


@pytest.fixture
def cluster(tmp_path):
    """A scheduler's address, and the processes of its two workers, which have one thread each."""
    file = tmp_path / "scheduler.json"
    options = ["--host", "127.0.0.1", "--no-dashboard"]
    processes = []

    def start(*arguments):
        with (tmp_path / f"dask{len(processes)}").open("w") as output:
            command = [sys.executable, "-m", "dask", *arguments, *options]
            processes.append(subprocess.Popen(command, stdout=output, stderr=output))

    start("scheduler", "--port", "0", "--scheduler-file", str(file))
    wait_until(lambda: file.exists() and file.read_text())
    address = json.loads(file.read_text())["address"]
    for k in range(2):
        worker = ["--nthreads", "1", "--no-nanny", "--name", str(k), "--local-directory", str(tmp_path)]
        start("worker", address, *worker)
    yield address, processes[1:]
    for process in processes:
        process.kill()
        process.wait()


@pytest.fixture
def page(tmp_path):
    """The small page of `test_sweep`."""
    path = tmp_path / "pages" / "tiny.py"
    path.parent.mkdir()
    path.write_text(SOURCE)
    return path


def test_nothing_is_lost_or_repeated_when_the_sweep_and_a_worker_are_killed(page, cluster, tmp_path):
    address, workers = cluster
    out, log = tmp_path / "out", tmp_path / "log"
    grid = ["-p", "number", *map(str, range(RUNS)), "-p", "log", str(log), "-p", "wait", "0.3"]
    command = ["sweep", str(page), *grid, "--out", str(out), "--cluster", address]

    first = start_command(command, tmp_path / "output")
    wait_until(lambda: len(notebooks(out)) >= RUNS // 6)
    first.kill()
    assert exit_codes(first) == [-signal.SIGKILL]
    before, starts = notebooks(out), begun(log).total()
    assert len(before) < RUNS, "the sweep was through before it was killed"

    def kill_a_worker():
        wait_until(lambda: begun(log).total() >= starts + RUNS // 6)
        workers[0].kill()

    killer = Thread(target=kill_a_worker)
    killer.start()
    assert main(command) == 0
    killer.join()
    assert workers[0].wait() == -signal.SIGKILL and workers[1].poll() is None
    after, runs = notebooks(out), range(RUNS)
    assert len(after) == RUNS and before.items() <= after.items()
    again = begun(log).total() - RUNS
    assert set(begun(log)) == set(runs) and again <= 1, "more than the killed run began again"
    table = parquet.read_table(out / "tiny.parquet").to_pylist()
    assert [(row["p_number"], row["steps"]) for row in table] == [(n, k) for n in runs for k in (1, 2)]
    print(f"{RUNS} results; {len(before)} when the sweep was killed; {again} begun again")


def test_failed_runs_and_workers_of_another_kind_are_named(page, cluster, tmp_path, capsys, monkeypatch):
    address, _ = cluster
    grid = {"end": ["raise", ""], "number": [1]}
    with pytest.raises(PageError) as error:
        sweep(page, grid, tmp_path / "out", cluster=address)
    first, raised = str(error.value).splitlines()
    assert first.startswith("1 of 2 runs failed") and "RuntimeError: the page says no (see " in raised
    monkeypatch.setattr("dmmd_lite.pages.run.PACKAGE", tmp_path)  # as if the workers had other code
    with pytest.raises(PageError, match="(?s)2 of 2 runs failed.*are not those that the sweep began with"):
        sweep(page, grid, tmp_path / "other", cluster=address)


@pytest.mark.parametrize(
    "address, words", [("elsewhere:1", "tcp://HOST:PORT"), ("tcp://127.0.0.1:1", "no Dask")]
)
def test_wrong_addresses_are_refused(page, tmp_path, capsys, monkeypatch, address, words):
    monkeypatch.setattr("dmmd_lite.pages.sweep.CONNECT_SECONDS", 1)
    assert main(["sweep", str(page), "--out", str(tmp_path / "out"), "--cluster", address]) == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1 and words in errors and address in errors
    assert not (tmp_path / "out").exists()
