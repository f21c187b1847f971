"""`make lab`: a real JupyterLab server opens pages as notebooks, with a kernel for them."""

import json
import os
import re
import subprocess
import sys
import time
import urllib.request

import pytest
from helpers import ROOT

from dmmd_lite.pages.run import run_page

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ask(tmp_path_factory):
    """A function that returns the server's answer for a path of its interface."""
    folder = tmp_path_factory.mktemp("lab")
    settings = {"JUPYTER_CONFIG_DIR": str(folder / "config"), "JUPYTER_RUNTIME_DIR": str(folder / "runtime")}
    [assignment, command] = re.search(
        r"\n\t(JUPYTER_CONFIG_PATH=\S+) \$\(BIN\)/jupyter (.*)", (ROOT / "Makefile").read_text()
    ).groups()
    name, value = assignment.split("=")
    environment = {**os.environ, **settings, name: value.strip('"').replace("$(CURDIR)", str(ROOT))}
    options = ["--no-browser", "--ip=127.0.0.1", "--port=0", "--IdentityProvider.token=secret"]
    options += ["--allow-root"] * (os.geteuid() == 0)
    jupyter = [sys.executable, "-c", "from jupyter_core.command import main; main()"]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [*jupyter, *command.split(), *options], cwd=ROOT, env=environment, stderr=log
        )
    end = time.monotonic() + 120
    while not (found := re.search(r"http://127\.0\.0\.1:(\d+)/", (folder / "log").read_text())):
        assert server.poll() is None and time.monotonic() < end, (folder / "log").read_text()
        time.sleep(0.2)

    def answer(path):
        request = urllib.request.Request(
            f"http://127.0.0.1:{found[1]}/{path}", headers={"Authorization": "token secret"}
        )
        with urllib.request.urlopen(request, timeout=60) as reply:
            return json.loads(reply.read())

    yield answer
    server.terminate()
    server.wait(60)


def test_python_files_open_as_notebooks(ask):
    settings = ask("lab/api/settings/@jupyterlab/docmanager-extension:plugin")
    assert settings["schema"]["properties"]["defaultViewers"]["default"]["python"] == "Jupytext Notebook"


def test_a_page_is_a_notebook_with_a_kernel(ask):
    page = ask("api/contents/book/intro.py?type=notebook&content=1")
    assert page["type"] == "notebook"
    tags = [tag for cell in page["content"]["cells"] for tag in cell["metadata"].get("tags", [])]
    assert "parameters" in tags
    assert page["content"]["metadata"]["kernelspec"]["name"] in ask("api/kernelspecs")["kernelspecs"]


def test_the_first_page_runs_in_a_minute_from_what_ships(tmp_path, monkeypatch):
    """The page runs at the size that a reader sees, with an empty cache, and trains nothing into it."""
    monkeypatch.setenv("DMMD_CACHE_DIR", str(tmp_path / "cache"))
    about = json.loads(run_page("intro", tmp_path / "out").read_text())["metadata"]["dmmd_lite"]
    assert about["scale"] == "laptop" and about["seconds"] < 60
    assert not list((tmp_path / "cache").glob("models/*"))
