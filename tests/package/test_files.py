"""Files: a folder has one owner at a time."""

import os
import signal
import socket
import threading
import time

import pytest
from helpers import exit_codes, start_process

from dmmd_lite.utils.files import folder_lock


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
