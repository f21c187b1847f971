"""Sweeps: wrong ones are refused, each point runs once, a failure stops no other run, all can be resumed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from helpers import contents, exit_codes, gone, start_command, wait_until
from pyarrow import parquet

from dmmd_lite.cli import main
from dmmd_lite.pages.sweep import plan, sweep
from dmmd_lite.report.sweeps import swept_metrics
from dmmd_lite.utils.files import folder_lock

SOURCE = """# %% tags=["parameters"]
number: int = 0  # which run
rate: float = 0.5
widths: list[int] = [1]
log: str = ""  # a file that gets a line from every run that begins
wait: float = 0.0  # seconds
end: str = ""  # "raise", or "die" with the kernel

# %%
import os
import signal
import time
from pathlib import Path

from dmmd_lite.utils.records import save_records

if log:
    with open(log, "a") as file:
        file.write(f"{number} {os.getpid()}\\n")
time.sleep(wait)
if end == "raise":
    raise RuntimeError("line one\\nthe page says no")
if end == "die":
    os.kill(os.getpid(), signal.SIGKILL)
threads = os.environ["OMP_NUM_THREADS"] + os.environ["MKL_NUM_THREADS"]
record = {"name": "total", "value": number + rate, "low": number, "high": number + 1, "n": 1}
records = [{**record, "steps": steps, "threads": threads, "folder": Path.cwd().name} for steps in (1, 2)]
save_records("tiny", records if number >= 0 else [])
"""


@pytest.fixture
def page(tmp_path):
    """A small page that needs no more than its kernel."""
    path = tmp_path / "pages" / "tiny.py"
    path.parent.mkdir()
    path.write_text(SOURCE)
    path.with_name("scales.toml").write_text("[smoke.tiny]\nrate = 0.25\n")
    return path


def begun(log: Path) -> Counter:
    """Return how often each number stands in a log."""
    lines = log.read_text().splitlines() if log.exists() else []
    return Counter(int(line.split()[0]) for line in lines)


def notebooks(out: Path) -> dict[Path, int]:
    """Return the notebooks of runs that are done, with the time each was written."""
    return {path: path.stat().st_mtime_ns for path in out.glob("tiny/*/tiny.ipynb")}


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["-p", "numbr", "1", "2"], ["numbr", "number"]),
        (["-p", "number", "1", "two"], ["number", "'two'", "whole number"]),
        (["-p", "number", "1", "2.5"], ["number", "2.5", "whole number"]),
        (["-p", "number", "1", "-p", "rate", "fast"], ["rate", "'fast'", "finite number"]),
        (["-p", "number"], ["number", "no value"]),
        (["-p", "number", "1", "-p", "number", "2"], ["'number'", "twice"]),
        (["-p", "rate", "1", "1.0"], ["rate=1.0", "twice"]),
        (["--scale", "huge"], ["scale", "'huge'"]),
        (["--jobs", "0"], ["jobs", "0"]),
        (["--jobs", "two"], ["jobs", "two"]),
        (["--threads", "0"], ["threads", "0"]),
        (["--jobs", "2", "--cluster", "tcp://127.0.0.1:1"], ["--cluster", "--jobs"]),
        (["--out", "pages/tiny.py"], ["out", "pages/tiny.py"]),
    ],
)
def test_wrong_input_is_one_line_code_2_and_nothing_written(
    page, tmp_path, monkeypatch, capsys, arguments, words
):
    monkeypatch.chdir(tmp_path)
    before = contents(tmp_path)
    assert main(["sweep", str(page), "--out", "out/deep", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1 and not printed.out and all(word in printed.err for word in words)
    assert contents(tmp_path) == before


def test_unknown_pages_are_refused(tmp_path):
    with pytest.raises(ValueError, match="nosuchpage.*intro"):
        sweep("nosuchpage", {}, tmp_path / "out")
    assert contents(tmp_path) == {}


def test_the_runs_of_a_grid(page, tmp_path):
    runs = plan(page, {"number": [1, 2], "rate": [0, 0.5]}, tmp_path / "out", "smoke")
    assert [run.label for run in runs] == [
        "number=1 rate=0.0",
        "number=1 rate=0.5",
        "number=2 rate=0.0",
        "number=2 rate=0.5",
    ]
    assert len({run.folder for run in runs}) == len({run.mark for run in runs}) == 4
    assert all(run.folder.parent == tmp_path / "out" / "tiny" for run in runs)
    long = plan(page, {"log": ["/" * 500, "/" * 501]}, tmp_path / "out")
    assert len({run.folder for run in long}) == 2 and all(len(run.folder.name) < 100 for run in long)
    [alone] = plan(page, {}, tmp_path / "out")
    assert alone.parameters == {} and alone.folder not in {run.folder for run in runs}


def test_every_run_leaves_its_notebook_and_all_of_them_one_table(page, tmp_path, capsys):
    grid = {"number": [2, -9], "widths": [[1], [2, 3]]}
    target = sweep(page, grid, tmp_path / "out", "smoke", jobs=2, threads=3, draw=swept_metrics)
    assert target == tmp_path / "out" / "tiny.parquet"
    table = parquet.read_table(target).to_pylist()
    assert len({row["run"] for row in table}) == 4
    assert {row["notebook"] for row in table} == {f"tiny/{row['run']}/tiny.ipynb" for row in table}
    assert all((target.parent / row["notebook"]).is_file() and row["run_seconds"] > 0 for row in table)
    saved = [row for row in table if row["name"] == "total"]
    empty = [row for row in table if row["name"] is None]
    assert {(row["p_number"], row["p_widths"]) for row in empty} == {(-9, "[1]"), (-9, "[2, 3]")}
    assert sorted((row["p_number"], row["p_widths"], row["steps"]) for row in saved) == [
        (2, "[1]", 1), (2, "[1]", 2), (2, "[2, 3]", 1), (2, "[2, 3]", 2)
    ]  # fmt: skip
    for row in saved:
        assert (row["value"], row["p_rate"], row["run_scale"]) == (2.25, 0.25, "smoke")
        assert (row["threads"], row["folder"]) == ("33", "pages")
    assert target.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in target.parent.iterdir() if path.name.startswith(".")] == []
    messages = capsys.readouterr().out.splitlines()
    assert messages[0] == "tiny: 4 runs, 0 done before"
    assert [line.split()[0] for line in messages[1:5]] == ["1/4", "2/4", "3/4", "4/4"]

    before = notebooks(target.parent)
    sweep(page, grid | {"number": [-9, 2]}, tmp_path / "out", "smoke")
    assert notebooks(target.parent) == before and "4 runs, 4 done before" in capsys.readouterr().out
    sweep(page, {"number": [2], "widths": [[1]]}, tmp_path / "out", "smoke")
    assert notebooks(target.parent) == before and parquet.read_table(target).num_rows == 2


def test_failed_runs_stop_no_other_and_are_named(page, tmp_path, capsys):
    out, log = tmp_path / "out", tmp_path / "log"
    grid = ["-p", "end", "raise", "die", '""', "-p", "log", str(log)]
    arguments = ["sweep", str(page), *grid, "--out", str(out)]
    assert main([*arguments, "--jobs", "1"]) == 1
    printed = capsys.readouterr()
    first, raised, died = printed.err.splitlines()
    assert first == "dmmd-lite: 2 of 3 runs failed; the same command tries them again"
    assert raised.startswith("end=raise") and "RuntimeError: the page says no (see " in raised
    assert died.startswith("end=die") and "DeadKernelError" in died
    for line in (raised, died):
        shown = json.loads(Path(line.split("(see ")[1].removesuffix(")")).read_text())
        assert shown["cells"]
    assert [line.split()[-3].strip(",") for line in printed.out.splitlines()[1:]] == [
        "failed",
        "failed",
        "done",
    ]
    assert parquet.read_table(out / "tiny.parquet").num_rows == 2
    kept = notebooks(out)

    page.write_text(SOURCE.replace('if end == "die"', "if False"))
    assert main([*arguments, "--jobs", "1"]) == 1, "another page is another sweep"
    assert kept.keys() < (now := notebooks(out)).keys() and not kept.items() & now.items()
    assert begun(log)[0] == 6


@pytest.mark.slow
def test_a_sweep_resumes_after_it_was_killed_and_interrupted(page, tmp_path, capsys):
    """The sweep is killed, then asked to stop, then resumed; every run is done once."""
    out, log = tmp_path / "out", tmp_path / "log"
    arguments = ["sweep", page, "--out", out, "-p", "number", *range(6), "-p", "log", log, "-p", "wait", 1.0]
    arguments = [*map(str, arguments), "--jobs", "2"]
    for number, code in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 128 + signal.SIGINT)):
        before, starts = notebooks(out), begun(log).total()
        process = start_command(arguments, tmp_path / f"output{number}")
        wait_until(lambda known=before: len(notebooks(out)) > len(known))
        wait_until(lambda known=starts: begun(log).total() > known + 1)
        os.kill(process.pid, number)
        assert exit_codes(process) == [code]
        assert before.items() <= notebooks(out).items(), "what was done was done again"
        kernels = [int(line.split()[1]) for line in log.read_text().splitlines()]
        wait_until(lambda pids=tuple(kernels): all(map(gone, pids)), 30)
    words = (tmp_path / f"output{signal.SIGINT}").read_text().splitlines()
    assert len([line for line in words if "/" not in line]) == 2, "it prints more than its own lines"
    assert "resume with the same command" in words[-1] and "Kernel died" not in "".join(words)
    assert not list(out.glob("tiny/*/*.failed.ipynb")), "an interrupted run counts as failed"
    assert parquet.read_table(out / "tiny.parquet").num_rows == 2 * len(notebooks(out))
    before, already = notebooks(out), begun(log)
    assert 0 < len(before) < 6

    assert main(arguments) == 0
    after = notebooks(out)
    assert len(after) == 6 and before.items() <= after.items()
    again = begun(log) - already
    assert len(again) == again.total() == 6 - len(before), "what was done was done again"
    table = parquet.read_table(out / "tiny.parquet").to_pylist()
    assert sorted((row["p_number"], row["steps"]) for row in table) == [
        (n, k) for n in range(6) for k in (1, 2)
    ]
    assert not list(out.rglob("*.part")), "a killed run left its folder"


def test_what_a_killed_process_left_beside_a_run_that_is_done_goes(page, tmp_path):
    """It was killed when all files had moved, so that no later run writes there."""
    arguments = ["sweep", str(page), "--out", str(tmp_path / "out"), "-p", "number", "1"]
    assert main(arguments) == 0
    before, [run] = notebooks(tmp_path / "out"), (tmp_path / "out" / "tiny").glob("number*")
    script = "import os, sys; from dmmd_lite.utils.files import atomic_files\n"
    script += "with atomic_files(sys.argv[1], 'tiny.ipynb'): os._exit(9)"
    assert subprocess.run([sys.executable, "-c", script, str(run / "tiny")]).returncode == 9
    assert len(list(run.glob(".tiny.*.part"))) == 1
    assert main(arguments) == 0
    assert not list(run.glob(".tiny.*.part")) and notebooks(tmp_path / "out") == before


@pytest.mark.parametrize("command, lock", [("page", "out/.tiny.lock"), ("sweep", "out/tiny/.lock")])
def test_one_run_or_sweep_of_a_page_works_in_a_folder(page, tmp_path, monkeypatch, capsys, command, lock):
    monkeypatch.chdir(tmp_path)
    lock = tmp_path / lock
    with folder_lock(lock.parent, lock.name), ThreadPoolExecutor(1) as another:
        before = contents(tmp_path)
        assert another.submit(main, [command, str(page), "--out", "out", "-p", "number", "1"]).result() == 2
        assert contents(tmp_path) == before
    printed = capsys.readouterr()
    assert f"process {os.getpid()} of " in printed.err
    assert printed.err.count("\n") == 1 and not printed.out


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    path.write_bytes({"empty": b"", "half": content[: len(content) // 2], "binary": b"\xff\0"}[how])


@pytest.mark.parametrize("how", ["empty", "half", "binary"])
def test_a_point_with_a_damaged_file_is_run_again(page, tmp_path, capsys, how):
    grid, log = {"number": [1, 2, 3], "log": [str(tmp_path / "log")]}, tmp_path / "log"
    target = sweep(page, grid, tmp_path / "out")
    rows = parquet.read_table(target).select(["p_number", "value"]).to_pylist()
    first, second, _ = sorted(notebooks(tmp_path / "out"))
    damage(first, how)
    damage(second.with_suffix(".json"), how)
    sweep(page, grid, tmp_path / "out")
    assert begun(log) == {1: 2, 2: 2, 3: 1} and "3 runs, 1 done before" in capsys.readouterr().out
    assert parquet.read_table(target).select(["p_number", "value"]).to_pylist() == rows


def test_a_grid_of_hundreds_of_points_is_planned_at_once(tmp_path, monkeypatch):
    """What all points depend on, such as the code and the data, is read once."""
    read = []
    monkeypatch.setattr("dmmd_lite.pages.sweep.surroundings_sha256", lambda: read.append(1) or "same")
    grid = {"sampling_seed": list(range(30)), "n": list(range(100, 110))}
    plan("fig4_sampling_temperature", grid, tmp_path)
    start = time.process_time()
    runs = plan("fig4_sampling_temperature", grid, tmp_path)
    assert len(runs) == 300 and len(read) == 2
    assert time.process_time() - start < 1


MISSING = """# %% tags=["parameters"]
number: int = 0  # which run

# %%
from dmmd_lite.utils.records import save_records
from dmmd_lite.models.loading import load_model

made = load_model("parity-masked-dmmd-1", "smoke").provenance
record = {"name": "seconds", "value": made["training"]["seconds"], "low": None, "high": None, "n": 1}
save_records("missing", [{**record, "sha256": made["sha256"]}])
"""


@pytest.mark.slow
def test_eight_pages_at_once_train_a_missing_model_once(tmp_path, monkeypatch):
    """A second training of the student would leave another time, one of its start another folder."""
    monkeypatch.setenv("DMMD_CACHE_DIR", str(tmp_path / "cache"))
    path = tmp_path / "pages" / "missing.py"
    path.parent.mkdir()
    path.write_text(MISSING)
    sweep(path, {"number": list(range(8))}, tmp_path / "out", jobs=8)
    found = [json.loads(file.read_text())["records"][0] for file in (tmp_path / "out").rglob("missing.json")]
    assert len(found) == 8 and len({(r["value"], r["sha256"]) for r in found}) == 1
    logs = list((tmp_path / "cache" / "models").glob("*/log.jsonl"))
    logged = [[line for line in log.read_text().splitlines() if "seconds" in line] for log in logs]
    assert len(logs) == 2 and all(len(lines) == 1 for lines in logged), "20 steps leave one line"
