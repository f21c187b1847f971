"""Kills and full disks: what was stopped at any moment is completed by the same command, to the same bits.

`--kills 20` repeats every disturbance as often, at other moments.
"""

import itertools
import json
import os
import random
import signal
import sys
import time
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest
from helpers import ROOT, exit_codes, full_disk, start_process, wait_until
from pyarrow import parquet
from safetensors.torch import load_file

from dmmd_lite.__main__ import main
from dmmd_lite.pages import site

pytestmark = pytest.mark.slow

SIGNALS = {signal.SIGKILL: (-9,), signal.SIGTERM: (-15, 143), signal.SIGINT: (130,)}  # and their exit codes
TIMES = ("seconds", "run_seconds", "date")  # fields in which undisturbed runs differ
PAGE = """# %% tags=["parameters"]
number: int = 0

# %%
from dmmd_lite.utils.records import save_records

record = {"name": "total", "value": number / 3, "low": None, "high": None, "n": 1}
save_records("tiny", [{**record, "steps": steps} for steps in range(200)])
"""
COMMANDS = {
    "train": "train coins-masked-dmmd-2 --scale smoke --out OUT/run"
    " --set training.checkpoint_every=4 training.log_every=3",
    "page": "page OUT/book/tiny.py -p number 7 --out OUT/run",
    "sweep": "sweep OUT/book/tiny.py -p number 1 2 --jobs 2 --out OUT/run",
    "book": "book --scale smoke",
}


def fake_jupyter_book(stage: Path) -> None:
    """Make a site of the staged files in a moment."""
    (stage / "_build" / "html").mkdir(parents=True)
    for path in stage.glob("book/*.ipynb"):
        (stage / "_build" / "html" / f"{path.stem}.html").write_text(path.stem)
    (stage / "_build" / "html" / "index.html").write_text("index")


def run(name: str, folder: Path, left: int | None = None) -> int:
    """Run a command whose files all lie below a folder, a book of two pages included.

    left: the number of bytes beyond which no file can grow, nor one that a kernel of the command writes.
    """
    (folder / "book").mkdir(parents=True, exist_ok=True)
    (folder / "book" / "tiny.py").write_text(PAGE)
    (folder / "book" / "other.py").write_text(PAGE.replace("/ 3", "/ 5"))
    (folder / "_config.yml").write_text((ROOT / "_config.yml").read_text())
    (folder / "_toc.yml").write_text("format: jb-book\nroot: book/tiny\nchapters:\n- file: book/other\n")
    site._root, site.run_jupyter_book = lambda: folder, fake_jupyter_book
    os.environ["DMMD_CACHE_DIR"] = str(folder / "cache")
    sys.argv = ["dmmd-lite", *COMMANDS[name].replace("OUT", str(folder)).split()]
    with nullcontext() if left is None else full_disk(left):
        return main()


def count_writes(meet) -> None:
    """Call meet(their number so far) before this process flushes or moves a file."""
    numbers = itertools.count(1)

    def counted(function):
        return lambda *arguments: (meet(next(numbers)), function(*arguments))[1]

    os.fsync, os.replace = counted(os.fsync), counted(os.replace)


def run_and_count(name: str, folder: Path) -> int:
    """Run a command and note how many writes it made and how long it took."""
    start, numbers = time.monotonic(), []
    count_writes(numbers.append)
    code = run(name, folder)
    folder.with_suffix(".facts").write_text(json.dumps([len(numbers), time.monotonic() - start]))
    return code


def run_until_write(name: str, folder: Path, last: int, number: int) -> int:
    """Run a command that gets a signal in the middle of one of its writes."""
    count_writes(lambda count: os.kill(os.getpid(), number) if count == last else None)
    return run(name, folder)


def outcome(folder: Path) -> dict[str, object]:
    """Return all files below a folder without the times in them."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file() and not path.name.endswith((".lock", "fingerprint")):
            found[str(path.relative_to(folder))] = content(path)
    return found


def content(path: Path):
    if path.suffix == ".safetensors":
        return {key: value.tolist() for key, value in load_file(path).items()}
    if path.suffix == ".parquet":
        return [without_times(row) for row in parquet.read_table(path).to_pylist()]
    if path.suffix == ".jsonl":
        *_, last = map(json.loads, path.read_text().splitlines())  # a run that stops writes one more line
        return without_times(last)
    if path.suffix in (".json", ".ipynb"):
        whole = json.loads(path.read_text())
        return without_times(whole.get("metadata", {}).get("dmmd_lite", whole))
    return path.read_bytes()


def without_times(value):
    if isinstance(value, dict):
        return {key: without_times(v) for key, v in value.items() if key not in TIMES}
    return [without_times(v) for v in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A function of a command's name: (what it leaves, how many writes it makes, how long it takes)."""
    known = {}

    def get(name: str) -> tuple[dict, int, float]:
        if name not in known:
            folder = tmp_path_factory.mktemp("undisturbed") / "files"
            process = start_process(run_and_count, name, folder, output=folder.with_suffix(".output"))
            assert exit_codes(process) == [0], folder.with_suffix(".output").read_text()
            known[name] = outcome(folder), *json.loads(folder.with_suffix(".facts").read_text())
        return known[name]

    return get


def check_rest(name: str, folder: Path, expected: dict, lines: int) -> None:
    """The disturbed command left no traceback, and the same command completes what it began."""
    words = folder.with_suffix(".output").read_text()
    assert "Traceback" not in words and words.count("dmmd-lite: ") == lines, words
    process = start_process(run, name, folder, output=folder.with_suffix(".again"))
    assert exit_codes(process) == [0], folder.with_suffix(".again").read_text()
    found = outcome(folder)
    assert sorted(found) == sorted(expected)
    assert found == expected


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_gets_a_signal_is_completed_by_the_next(name, undisturbed, tmp_path, request):
    expected, writes, seconds = undisturbed(name)
    for repetition in range(request.config.getoption("--kills")):
        random_moments = random.Random(f"{name} {repetition}")
        number = [*SIGNALS][(repetition + len(name)) % len(SIGNALS)]
        folder = tmp_path / f"files{repetition}"
        output = folder.with_suffix(".output")
        if repetition % 2:
            process = start_process(run, name, folder, output=output)
            wait_until(folder.exists)
            time.sleep(random_moments.uniform(0, seconds))
            with suppress(ProcessLookupError):  # it has ended
                os.kill(process.pid, number)
        else:
            last = random_moments.randint(1, writes)
            process = start_process(run_until_write, name, folder, last, number, output=output)
        [code] = exit_codes(process)
        assert code in (0, *SIGNALS[number]), (code, number, output.read_text())
        check_rest(name, folder, expected, code in (130, 143))


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_whose_disk_is_full_is_completed_by_the_next(name, undisturbed, tmp_path, request):
    expected, _, _ = undisturbed(name)
    for repetition in range(request.config.getoption("--kills")):
        left = int(10 ** random.Random(f"{name} {repetition}").uniform(2.5, 4.7))
        folder = tmp_path / f"files{repetition}"
        output = folder.with_suffix(".output")
        process = start_process(run, name, folder, left, output=output)
        [code] = exit_codes(process)
        assert code in (0, 1), output.read_text()
        check_rest(name, folder, expected, code)
