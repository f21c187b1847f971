"""Pages run headless: strict parameters, complete results or none, every page of the book at smoke scale."""

import functools
import importlib.metadata
import json
import math
import os
import signal
import subprocess
import sys
import time
import tomllib

import pytest
from helpers import ROOT, contents, exit_codes, full_disk, start_command

from dmmd_lite.cli import main
from dmmd_lite.pages import run
from dmmd_lite.pages.run import PageError, about_run, fingerprint, run_page, up_to_date
from dmmd_lite.pages.site import pages_dir, toc_pages
from dmmd_lite.pages.source import (
    KERNEL,
    page_names,
    page_parameters,
    page_path,
    parse_value,
    read_page,
    resolve_parameters,
)
from dmmd_lite.pages.sweep import plan
from dmmd_lite.utils import records
from dmmd_lite.utils.files import write_json
from dmmd_lite.utils.records import Record, load_results, save_records
from dmmd_lite.utils.scales import SCALES

NESTED = functools.reduce(lambda inner, _: [inner], range(5000), [])
SOURCE = """# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A page

# %% tags=["parameters"]
scale: str = "laptop"  # how large
steps: int = 4  # sampling steps, n = 2 is enough
rate: float = 0.5
fast: bool = False
name: str = "a # b"
sizes: list[int] = [1, 2]  # widths
extra: dict = {"a": 1}

# %%
import os
import sys
from pathlib import Path

from dmmd_lite.utils.records import save_records

if name == "fail":
    raise RuntimeError("line one\\nthe page says no")
records = [{"name": "steps", "value": steps, "rate": type(rate).__name__, "scale": scale}]
threads = os.environ["OMP_NUM_THREADS"]
save_records("page", records, python=sys.executable, folder=Path.cwd().name, threads=threads)

# %%
import matplotlib.pyplot as plt

plt.plot([0, 1])
plt.show()
"""


@pytest.fixture
def page(tmp_path):
    """A small page with one parameter of every type."""
    path = tmp_path / "pages" / "page.py"
    path.parent.mkdir()
    path.write_text(SOURCE)
    path.with_name("scales.toml").write_text("[smoke.page]\nsteps = 2\nrate = 1\n")
    return path


def test_parameters_are_read_with_type_default_and_help(page):
    found = page_parameters(page)
    assert list(found) == ["scale", "steps", "rate", "fast", "name", "sizes", "extra"]
    assert found["steps"] == ("int", 4, "sampling steps, n = 2 is enough")
    assert found["name"] == ("str", "a # b", "")
    assert found["sizes"] == ("list[int]", [1, 2], "widths")


@pytest.mark.parametrize(
    "cell",
    ["steps = 4", "steps: int = 2 + 2", "steps: int", "import os", "steps: tensor = 4", "steps: int = 4.0"],
)
def test_parameters_cell_holds_typed_literals_only(page, cell):
    page.write_text(SOURCE.replace("steps: int = 4  # sampling steps, n = 2 is enough", cell))
    with pytest.raises(ValueError, match="^page page: parameter"):
        page_parameters(page)


@pytest.mark.parametrize(
    "content, words",
    [
        (b"\xff\xfe", "not text in UTF-8"),
        (b'# %% tags=["parameters"]\nsteps: int = (\n', "parameters: the cell is not Python"),
        (b'# %% tags=["parameters"]\nsteps: int = 1\0\n', "parameters: the cell is not Python"),
        (b'# %% tags=["parameters"]\nsteps: list = ' + b"[" * 9999, "parameters: the cell is not Python"),
        (b'# %% tags=["parameters"]\nsteps: int = ' + b"-" * 9999 + b"1", "parameters: "),
        (b'# %% tags=["parameters"]\na: int = 1\n# %% tags=["parameters"]\na: int = 2', "2 cells"),
        (b'# %% tags=["parameters"]\na: str = "\xe2\x80\xa8"; import os', "parameters: "),
        (b'# %% {"tags": 5}\nsteps: int = 1\n', "its head or that of a cell cannot be read"),
        (b'# %% tags="parameters"\nsteps: int = 1\n', "its head or that of a cell cannot be read"),
        (b"# ---\n# jupyter:\n#   kernelspec: 5\n# ---\n", "its head or that of a cell cannot be read"),
        (b"# %%\nprint(1)\n", "parameter steps: does not exist"),
    ],
)
def test_a_broken_page_is_one_line_and_nothing_is_written(page, tmp_path, content, words):
    page.write_bytes(content)
    with pytest.raises(ValueError, match=words) as error:
        run_page(page, tmp_path / "out", parameters={"steps": 1})
    assert str(error.value).startswith("page page: ") and "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "table", [b"[smoke", b"\xff", b"smoke = 5", b"[smoke]\npage = 5", b"[smoke.page]\nx = 1"]
)
def test_broken_presets_are_one_line(page, table):
    page.with_name("scales.toml").write_bytes(table)
    with pytest.raises(ValueError, match="^page page: [^\n]*$"):
        resolve_parameters(page, "smoke")


def test_values_come_from_the_scale_then_the_caller(page):
    assert resolve_parameters(page) == {}
    assert resolve_parameters(page, "smoke") == {"scale": "smoke", "steps": 2, "rate": 1.0}
    assert resolve_parameters(page, "gpu", {"steps": 8}) == {"scale": "gpu", "steps": 8}
    assert resolve_parameters(page, "smoke", {"steps": 8})["steps"] == 8


def test_an_int_is_a_float(page):
    assert isinstance(resolve_parameters(page, parameters={"rate": 2})["rate"], float)


@pytest.mark.parametrize(
    "scale, values, words",
    [
        ("laptop", {"step": 4}, ["page page", "step", "steps"]),
        ("laptop", {"steps": "four"}, ["page page", "steps", "'four'", "whole number"]),
        ("laptop", {"steps": True}, ["steps", "True", "whole number"]),
        ("laptop", {"steps": 4.0}, ["steps", "4.0", "whole number"]),
        ("laptop", {"rate": True}, ["rate", "True", "finite number"]),
        ("laptop", {"rate": math.nan}, ["rate", "nan", "finite number"]),
        ("laptop", {"fast": 1}, ["fast", "1", "True or False"]),
        ("laptop", {"sizes": {"a": 1}}, ["sizes", "a list"]),
        ("laptop", {"sizes": [4, "eight"]}, ["sizes.1", "'eight'", "whole number"]),
        ("laptop", {"sizes": [True]}, ["sizes.0", "True", "whole number"]),
        ("laptop", {"sizes": [4.5]}, ["sizes.0", "4.5", "whole number"]),
        ("laptop", {"extra": [1]}, ["extra", "[1]", "a dictionary"]),
        ("laptop", {"extra": {"a": [math.nan]}}, ["extra", "nan", "JSON"]),
        ("laptop", {"extra": {1: 2}}, ["extra", "{1: 2}", "JSON"]),
        ("laptop", {"extra": {"a": Record}}, ["extra", "Record", "JSON"]),
        ("laptop", {"extra": {"a": NESTED}}, ["extra", "JSON"]),
        ("laptop", {"name": "\ud800"}, ["name", "JSON"]),
        ("laptop", {"steps": 10**30}, ["steps", "64 bits"]),
        ("laptop", {"rate": 10**400}, ["rate", "finite number"]),
        ("laptop", [4], ["parameters", "a dictionary"]),
        (None, {}, ["scale", "None"]),
        ("huge", {}, ["scale", "huge", *SCALES]),
    ],
)
def test_wrong_input_is_one_line_and_writes_nothing(page, tmp_path, scale, values, words):
    with pytest.raises(ValueError) as error:
        run_page(page, tmp_path / "out", scale, values)
    message = str(error.value)
    assert "\n" not in message and all(word in message for word in words)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "values", [{"page": 5}, {"out": None}, {"out": "a\0"}, {"threads": 0}, {"threads": 2.5}]
)
def test_arguments_of_a_run_have_their_types(page, tmp_path, values):
    [name] = values
    with pytest.raises(ValueError, match=f"^{name}: [^\n]*not allowed"):
        run_page(**{"page": page, "out": tmp_path / "out", **values})
    assert not (tmp_path / "out").exists()


def test_paths_may_begin_at_the_home_folder(page, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert page_path("~/pages/page.py") == page
    [run] = plan("~/pages/page.py", {}, "~/out")
    assert run.page == page and run.folder.parent == tmp_path / "out" / "page"


def test_a_notebook_is_not_a_page_and_the_message_says_what_to_do(tmp_path):
    (tmp_path / "a.ipynb").write_text("{}")
    with pytest.raises(ValueError, match=r"a.ipynb' is a notebook; .*jupytext --to py:percent a.ipynb"):
        run_page(tmp_path / "a.ipynb", tmp_path / "out")


def test_a_package_without_pages_says_so(monkeypatch):
    monkeypatch.setattr("dmmd_lite.pages.source.source_root", lambda: None)
    with pytest.raises(ValueError, match="'coins' does not exist; .*path of a page script.*has no pages"):
        page_path("coins")


def test_unknown_page_lists_the_pages(tmp_path):
    with pytest.raises(ValueError, match="nosuchpage.*intro"):
        run_page("nosuchpage", tmp_path / "out")
    with pytest.raises(ValueError, match="nosuch.py"):
        run_page(tmp_path / "nosuch.py", tmp_path / "out")


@pytest.mark.parametrize(
    "arguments",
    [
        ["page", "nosuchpage"],
        ["page", "PAGE", "--scale", "huge"],
        ["page", "PAGE", "-p", "steps", "four"],
        ["page", "PAGE", "-p", "steps"],
        ["page", "PAGE", "-p", "steps", "4", "-p", "steps", "8"],
        ["page"],
        ["nosuchcommand"],
        ["book", "--scale", "huge"],
    ],
)
def test_command_line_refuses_in_one_line_with_code_2(page, tmp_path, capsys, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    try:
        out = ["--out", "out"] if arguments[0] == "page" else []
        code = main([str(page) if word == "PAGE" else word for word in arguments] + out)
    except SystemExit as stop:
        code = stop.code
    captured = capsys.readouterr()
    assert code == 2
    assert captured.err.count("\n") == 1 and not captured.out
    assert sorted(tmp_path.rglob("*")) == before


def test_command_line_values_are_literals_where_they_can_be():
    texts = ["4", "0.5", "true", "False", "[1, 2]", "{'a': 1}", '"4"', "plain words", "None", "[" * 5000]
    assert [parse_value(text) for text in texts] == [
        4, 0.5, True, False, [1, 2], {"a": 1}, "4", "plain words", None, "[" * 5000
    ]  # fmt: skip


def test_a_run_writes_notebook_and_records_and_is_reused(page, tmp_path):
    out = tmp_path / "out"
    notebook = run_page(page, out, "smoke")
    assert sorted(path.name for path in out.iterdir()) == [".page.lock", "page.ipynb", "page.json"]
    saved = json.loads((out / "page.json").read_text())
    assert saved["records"] == [{"name": "steps", "value": 2, "rate": "float", "scale": "smoke"}]
    assert saved["folder"] == "pages" and saved["threads"] == "1"
    assert saved["python"] == sys.executable, "the kernel is another interpreter"
    content = json.loads(notebook.read_text())
    values = {"scale": "smoke", "steps": 2, "rate": 1.0}
    run = content["metadata"]["dmmd_lite"]
    assert run["parameters"] == values and run["fingerprint"] == fingerprint(page, "smoke", values)
    assert str(tmp_path) not in json.dumps(content["metadata"]), "machine path in the notebook's metadata"
    outputs = [output for cell in content["cells"] for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs), "the figure is lost"

    stamp = notebook.stat().st_mtime_ns
    assert run_page(page, out, "smoke", reuse=True) == notebook
    assert notebook.stat().st_mtime_ns == stamp

    with pytest.raises(PageError, match="^page page: RuntimeError: the page says no"):
        run_page(page, out, "smoke", {"name": "fail"})
    assert notebook.stat().st_mtime_ns == stamp, "a failed run touched the good one"
    files = [".page.lock", "page.failed.ipynb", "page.ipynb", "page.json"]
    assert sorted(path.name for path in out.iterdir()) == files

    assert up_to_date(page, out, "smoke") and not up_to_date(page, out, "gpu")
    (out / "page.json").unlink()
    assert not up_to_date(page, out, "smoke"), "a run without its records counts as complete"


def test_notes_of_records_in_another_folder_count_for_nothing(tmp_path):
    notebook = tmp_path / "page.ipynb"
    for names, counts in [
        ({"page.json": "0"}, True),
        ({}, True),
        ({"../page.json": "0"}, False),
        (None, False),
    ]:
        write_json(notebook, {"metadata": {"dmmd_lite": {"fingerprint": "1", "records": names}}})
        assert bool(about_run(notebook)) == counts


TEXT = "quote \" and ' and \\\\ and {brace}\nline two\ttab \u2028 é 😀 $(x) %d"


def test_a_copied_page_of_another_kernel_runs_here_and_leaves_the_records_of_the_original(page, tmp_path):
    """Colab, VS Code and conda name kernels that this machine may not have."""
    out = tmp_path / "out"
    run_page(page, out)
    before = (out / "page.json").read_bytes()
    head = "# ---\n# jupyter:\n#   kernelspec: {display_name: R, language: R, name: ir}\n# ---\n"
    copied = page.with_name("copied.py")
    copied.write_text(
        head + SOURCE.split("# ---\n")[2] + '\nsave_records("page", [{"name": name, "value": extra}])\n'
    )
    values = {
        "name": TEXT,
        "extra": {TEXT: [TEXT, -0.0, 1e300, None, True, {}], "": 2**63},
        "steps": -(2**63),
    }
    run_page(copied, out, parameters=values)
    saved = json.loads((out / "copied.json").read_text())
    assert saved["page"] == "copied" and saved["records"] == [{"name": TEXT, "value": values["extra"]}]
    assert (out / "page.json").read_bytes() == before
    assert json.loads((out / "copied.ipynb").read_text())["metadata"]["dmmd_lite"]["parameters"] == values


@pytest.mark.parametrize(
    "kernel",
    ["{name: python3, display_name: Python 3}", "{display_name: .venv, language: python, name: venv}"],
)
def test_a_page_has_this_kernel_whatever_tool_wrote_it(page, kernel):
    page.write_text(f"# ---\n# jupyter:\n#   colab: {{}}\n#   kernelspec: {kernel}\n# ---\n# %%\n1\n")
    assert read_page(page).metadata.kernelspec == KERNEL


@pytest.mark.parametrize("form", ["address", "pipe"])
def test_plain_papermill_runs_a_page(page, tmp_path, form):
    """Both commands of book/sweeps.md work. papermill does not refuse parameters that do not exist."""
    out, text = tmp_path / "out.ipynb", None
    if form == "address":
        group = importlib.metadata.entry_points(group="papermill.io")
        if "jupytext://" not in group.names:
            pytest.skip("the package was installed before papermill could find it; install it again")
        source = f"jupytext://{page}"
    else:
        convert = [sys.executable, "-m", "jupytext", "--to", "ipynb", "--output", "-", str(page)]
        text, source = subprocess.run(convert, capture_output=True, text=True, check=True).stdout, "-"
    command = [sys.executable, "-m", "papermill", source, str(out), "-p", "steps", "6"]
    environment = {**os.environ, "DMMD_PAGE_OUT": str(tmp_path / "records")}
    (tmp_path / "records").mkdir()
    done = subprocess.run(command, input=text, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    saved = json.loads((tmp_path / "records" / "page.json").read_text())
    assert saved["records"][0]["value"] == 6
    assert json.loads(out.read_text())["metadata"]["papermill"]["exception"] is None


def test_papermill_finds_the_reader_by_its_entry_point(page):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    [(scheme, target)] = project["entry-points"]["papermill.io"].items()
    reader = importlib.metadata.EntryPoint(scheme, target, "papermill.io").load()
    cells = json.loads(reader.read(f"{scheme}{page}"))["cells"]
    assert ["parameters"] in [cell["metadata"].get("tags") for cell in cells]
    with pytest.raises(ValueError, match="nosuch.py"):
        reader.read(f"{scheme}{page.with_name('nosuch.py')}")


def test_fingerprint_follows_what_the_output_depends_on(page, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "PACKAGE", tmp_path / "package")
    monkeypatch.setattr(run, "data_dir", lambda: tmp_path / "data")
    files = {"module": tmp_path / "package" / "module.py", "data": tmp_path / "data" / "models" / "a.json"}
    for path in files.values():
        path.parent.mkdir(parents=True)
        path.write_text("1")
    marks = [fingerprint(page, "smoke", {"steps": 2})]
    marks.append(fingerprint(page, "smoke", {"steps": 3}))
    marks.append(fingerprint(page, "gpu", {"steps": 2}))
    for path in [*files.values(), page]:
        path.write_text(path.read_text() + "\n")
        marks.append(fingerprint(page, "smoke", {"steps": 2}))
    assert len(set(marks)) == len(marks)
    assert fingerprint(page, "smoke", {"steps": 2}) == marks[-1]


@pytest.mark.slow
def test_a_page_that_is_asked_to_stop_stops_at_once_and_leaves_nothing(page, tmp_path):
    page.write_text(
        SOURCE.replace("import os\n", "import os, time\nopen('begun', 'w').close()\ntime.sleep(300)\n")
    )
    for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGINT):
        process = start_command(["page", str(page), "--out", str(tmp_path / "out")], tmp_path / "output")
        while not page.with_name("begun").exists():
            time.sleep(0.05)
        page.with_name("begun").unlink()
        os.kill(process.pid, number)
        killed = number == signal.SIGKILL
        assert exit_codes(process) == [-number if killed else 128 + number]
        left = [path.name for path in (tmp_path / "out").iterdir() if path.name != ".page.lock"]
        assert len(left) == killed, left
        words = "" if killed else "dmmd-lite: page page: stopped, and nothing was written\n"
        assert (tmp_path / "output").read_text() == words


def test_a_disk_that_is_full_is_one_line_and_the_last_run_stays(page, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["page", str(page), "--out", str(out)]) == 0
    before = contents(out)
    capsys.readouterr()
    with full_disk(left=3000):
        assert main(["page", str(page), "--out", str(out), "-p", "steps", "5"]) == 1
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1 and "File too large" in printed
    after = contents(out)
    after.pop(str(out / ".page.lock")), before.pop(str(out / ".page.lock"))
    assert after == before


def test_records_are_saved_only_where_a_run_asks(tmp_path, monkeypatch):
    monkeypatch.delenv("DMMD_PAGE_OUT", raising=False)
    save_records("page", [])
    monkeypatch.setenv("DMMD_PAGE_OUT", str(tmp_path))
    record = Record("coverage", 0.5, None, None, 8, "test images")
    save_records("page", [record, {"value": 1}], claim=True)
    assert [path.name for path in tmp_path.iterdir()] == ["page.json"]
    expected = {"page": "page", "records": [record.to_dict(), {"value": 1}], "claim": True}
    assert json.loads((tmp_path / "page.json").read_text()) == expected


def test_results_load_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "data_dir", lambda: tmp_path)
    (tmp_path / "results").mkdir()
    record = Record("coverage", 0.5, None, None, 8, "test images")
    write_json(tmp_path / "results" / "known.json", {"page": "known", "records": [record.to_dict()]})
    assert load_results("known") == [record]
    write_json(tmp_path / "results" / "other.json", {"page": "other", "records": [{"colour": "red"}]})
    with pytest.raises(ValueError, match="other.json: .*record key: 'colour' is not allowed"):
        load_results("other")
    for content in (
        "",
        '{"page": "bad", "rec',
        "[]",
        "{}",
        '{"records": [5]}',
        '{"records": [{"name": "a"}]}',
    ):
        (tmp_path / "results" / "bad.json").write_text(content)
        with pytest.raises(ValueError, match=r"^results: .*bad.json: [^\n]*$"):
            load_results("bad")
    with pytest.raises(ValueError, match="'unknown'.*known"):
        load_results("unknown")


def test_table_of_contents_lists_every_page():
    assert sorted(path.removeprefix("book/").removesuffix(".py") for path in toc_pages(ROOT)) == page_names()


def test_scale_presets_name_pages_and_parameters_that_exist():
    table = tomllib.loads((ROOT / "book" / "scales.toml").read_text())
    assert set(table) <= set(SCALES)
    for scale, presets in table.items():
        assert set(presets) <= set(page_names()), f"[{scale}.…] names a page that does not exist"
    for name in page_names():
        for scale in SCALES:
            assert resolve_parameters(name, scale).get("scale", "laptop") in ("laptop", scale)


@pytest.mark.slow
@pytest.mark.parametrize("name", page_names())
def test_page_runs_at_smoke_scale(name, smoke_pages):
    assert smoke_pages.get(name, "not in the table of contents") is None
    out = pages_dir(ROOT, "smoke")
    run = json.loads((out / f"{name}.ipynb").read_text())["metadata"]["dmmd_lite"]
    assert run["scale"] == "smoke"
    for file in run["records"]:
        saved = json.loads((out / file).read_text())
        assert saved["page"] == name and file == f"{name}.json"
        assert saved["records"], "the page saved no record"
        for record in saved["records"]:
            assert record["name"] and math.isfinite(record["value"])
