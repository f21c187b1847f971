"""Records say by which commit they were made, and data are found, from wherever the code lies."""

import subprocess

from helpers import ROOT

from dmmd_lite.utils import paths
from dmmd_lite.utils.provenance import commit, machine


def test_the_commit_is_that_of_the_checkout():
    head = ["git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD"]
    done = subprocess.run(head, capture_output=True, text=True)
    expected = done.stdout.strip() if done.returncode == 0 else "unknown"
    assert commit().removesuffix("+changes") == expected == machine()["commit"].removesuffix("+changes")


def test_a_copy_outside_the_checkout_knows_no_commit(monkeypatch, tmp_path):
    monkeypatch.setattr("dmmd_lite.utils.provenance.source_root", lambda: tmp_path)
    assert commit() == "unknown"


def test_the_package_finds_its_checkout_and_its_data():
    assert paths.PACKAGE == ROOT / "dmmd_lite" and paths.source_root() == ROOT
    assert paths.data_dir() == ROOT / "data" and (paths.data_dir() / "models").is_dir()
