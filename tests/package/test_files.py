"""Files: a folder has one owner at a time, and files are replaced whole or not at all."""

import errno
import json
import os
import signal
import socket
import threading
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from helpers import contents, exit_codes, full_disk, start_process

from dmmd_lite.models.store import save_model
from dmmd_lite.models.task import task_of
from dmmd_lite.pages.display import save
from dmmd_lite.recipes.catalogue import get_recipe
from dmmd_lite.training.state import TrainingResult
from dmmd_lite.utils.errors import Failure
from dmmd_lite.utils.files import (
    append_line,
    atomic_write,
    folder_lock,
    write_json,
    write_tensors,
    write_text,
)


def hold(folder):
    with folder_lock(folder):
        time.sleep(300)


def enter(folder, errors):
    try:
        with folder_lock(folder):
            errors.append(None)
    except ValueError as error:
        errors.append(str(error))


def test_a_folder_has_one_owner_and_is_free_again_when_that_is_killed(tmp_path):
    owner, seen = start_process(hold, tmp_path / "run", output=tmp_path / "output"), []
    while not (tmp_path / "run" / ".lock").exists() or not (tmp_path / "run" / ".lock").read_text():
        time.sleep(0.01)
    enter(tmp_path / "run", seen)
    who = f"process {owner.pid} of {socket.gethostname()}, since 20"
    assert seen[0].startswith(f"out: {str(tmp_path / 'run')!r} is not allowed now; {who}")
    assert "\n" not in seen[0]
    enter(tmp_path / "other", seen)
    owner.kill()
    assert exit_codes(owner) == [-signal.SIGKILL]
    enter(tmp_path / "run", seen)
    assert seen[1:] == [None, None]


@pytest.mark.parametrize("kind", ["a file", "below a file", "a loop of links", "with a folder as its lock"])
def test_a_folder_that_cannot_be_owned_is_refused_in_one_line(kind, tmp_path):
    place = tmp_path / "place"
    if kind == "a loop of links":
        place.symlink_to(place)
    elif kind == "with a folder as its lock":
        (place / ".lock").mkdir(parents=True)
    else:
        place.write_text("")
    before = contents(tmp_path)
    with pytest.raises(ValueError, match="out: .*place.* is not allowed; it cannot be made") as error:
        with folder_lock(place / "inner" if kind == "below a file" else place):
            pass
    assert "\n" not in str(error.value) and contents(tmp_path) == before


def test_the_owner_may_enter_again_and_another_thread_may_not(tmp_path):
    seen = []
    with folder_lock(tmp_path):
        enter(tmp_path, seen)
        thread = threading.Thread(target=enter, args=(tmp_path, seen))
        thread.start()
        thread.join()
    enter(tmp_path, seen)
    assert seen[0] is seen[2] is None and f"process {os.getpid()} " in seen[1]
    with pytest.raises(KeyError), folder_lock(tmp_path):
        raise KeyError
    enter(tmp_path, seen)
    assert seen[3] is None


def write_array(path, content):
    with atomic_write(path) as part:
        np.savez(part, content)


def write_figure(path, content):
    with atomic_write(path) as part:
        save(plt.figure(), part)


def write_model(path, content):
    task, network = task_of(get_recipe("coins-masked-teacher", "smoke")), torch.nn.Module()
    network.network = torch.nn.Linear(content.size, 1)
    save_model(
        path.with_suffix(""),
        task,
        TrainingResult({"denoiser": network}, {}, 7, 0.5, 1.0, 20),
        "denoiser",
        3,
        {},
    )


WRITERS = {
    "text.txt": lambda path, content: write_text(path, str(content.tolist())),
    "facts.json": lambda path, content: write_json(path, content.tolist()),
    "log.jsonl": lambda path, content: append_line(path, str(content.tolist())),
    "weights.safetensors": lambda path, content: write_tensors(path, {"a": torch.from_numpy(content)}),
    "samples.npz": write_array,
    "figure.png": write_figure,
    "model.safetensors": write_model,
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_one_line_and_the_last_good_file_stays(tmp_path, name):
    write, path = WRITERS[name], tmp_path / "folder" / name
    path.parent.mkdir()
    write(path, np.zeros(8))
    before = contents(tmp_path)
    with full_disk(left=100), pytest.raises(Failure) as error:
        write(path, np.zeros(2000))
    assert "\n" not in str(error.value) and "cannot be written (" in str(error.value)
    assert f"{path.parent / path.stem}" in str(error.value)
    after = contents(tmp_path)
    if name == "log.jsonl":
        assert after.keys() == before.keys() and after[str(path)].startswith(before[str(path)])
    else:
        assert after == before


@pytest.mark.parametrize("name", [name for name in WRITERS if name != "log.jsonl"])
def test_files_can_be_read_by_those_who_may_read_the_folder(tmp_path, name):
    WRITERS[name](tmp_path / "folder" / name, np.zeros(8))
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "folder").iterdir()}
    assert modes == {(tmp_path / "folder").stat().st_mode & 0o666}


def test_files_are_on_the_disk_before_they_replace_others(tmp_path, monkeypatch):
    """After a power cut either file is whole: its content is flushed before the move, the folder after it."""
    done, replace, fsync = [], os.replace, os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda opened: (done.append(os.readlink(f"/proc/self/fd/{opened}")), fsync(opened))
    )
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append("move"), replace(a, b)))
    write_model(tmp_path / "model.safetensors", np.zeros(8))
    names = [Path(item).name for item in done]
    assert names == ["model.safetensors", "model.json", "move", "move", tmp_path.name]


def die_while_writing(path):
    with atomic_write(path) as part:
        part.write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)


def test_what_a_killed_process_left_is_removed_by_the_next_writer_and_no_other(tmp_path):
    path = tmp_path / "a[1].txt"
    process = start_process(die_while_writing, path, output=tmp_path.with_suffix(".output"))
    assert exit_codes(process) == [-signal.SIGKILL] and len(list(tmp_path.iterdir())) == 1
    write_text(tmp_path / "a1.txt", "other")
    assert len(list(tmp_path.iterdir())) == 2, "the writer of another file removed it"
    with atomic_write(path) as part, atomic_write(tmp_path / "b.txt") as other:
        part.write_text("whole")
        other.write_text("whole")
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {
        "a1.txt": "other", "a[1].txt": "whole", "b.txt": "whole"
    }  # fmt: skip


def test_part_files_of_another_host_are_left_alone(tmp_path, monkeypatch):
    """Its processes have the same numbers."""
    with monkeypatch.context() as there:
        there.setattr(socket, "gethostname", lambda: "another")
        writer = atomic_write(tmp_path / "a.txt")
        writer.__enter__().write_text("theirs")
    monkeypatch.setattr(os, "kill", lambda process, signal: (_ for _ in ()).throw(ProcessLookupError))
    write_text(tmp_path / "a.txt", "ours")
    assert (tmp_path / "a.txt").read_text() == "ours"
    writer.__exit__(None, None, None)
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"a.txt": "theirs"}


def test_disks_that_cannot_flush_folders_or_change_modes_are_written(tmp_path, monkeypatch):
    """As some network disks and memory cards."""
    flush = os.fsync

    def fsync(file):
        if os.path.isdir(f"/proc/self/fd/{file}"):
            raise OSError(errno.EINVAL, "Invalid argument")
        flush(file)

    def refused(*arguments, **options):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "chmod", refused)
    monkeypatch.setattr(Path, "chmod", refused)
    write_json(tmp_path / "a.json", {"a": 1})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": 1} and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("number", (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS))
def test_a_disk_without_locks_is_warned_of(number, tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def flock(*arguments):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.warns(UserWarning, match="its disk has no locks"), folder_lock(tmp_path / "run"):
        (tmp_path / "run" / "file").write_text("written")
    assert (tmp_path / "run" / "file").is_file()
