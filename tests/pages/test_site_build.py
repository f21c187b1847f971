"""The sources of the site, without building it: size, fallback without MathJax, complete references."""

import os
import re
import signal
from importlib.util import find_spec
from pathlib import Path

import nbformat
import pytest
import yaml
from helpers import ROOT, contents, exit_codes, gone, start_process, wait_until
from pybtex.database import parse_file

from dmmd_lite.metrics.suite import METRICS
from dmmd_lite.pages import site
from dmmd_lite.pages.run import PageError
from dmmd_lite.pages.sphinx_markdown import to_markdown
from dmmd_lite.utils.paths import PACKAGE
from dmmd_lite.utils.signals import Interrupted

ARXIV = re.compile(r"(?<![\d.])\d{4}\.\d{5}(?!\d)")
REFERENCE = "".join(path.read_text() for path in sorted((ROOT / "book" / "api").glob("*.md")))


@pytest.mark.parametrize(("page", "total"), [(4_000_001, 4_000_001), (10, 60_000_001)])
def test_a_site_that_is_too_large_is_refused(tmp_path, monkeypatch, page, total):
    (tmp_path / "index.html").write_bytes(b" " * page)
    (tmp_path / "rest.js").write_bytes(b" " * (total - page))
    with pytest.raises(PageError, match="bytes"):
        site.check_size(tmp_path)
    (tmp_path / "index.html").write_bytes(b" ")
    (tmp_path / "rest.js").write_bytes(b" ")
    site.check_size(tmp_path)


LINKS = "# One\n[a](one.py), [b](words.md#here), [c](api/rng.md), [d](https://x.org/one.py), [e](#below)"


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A checkout with one page that has been run, and the real configuration."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(LINKS)])
    notebook.metadata["dmmd_lite"] = {"scale": "smoke", "seconds": 1.0, "results": ["coins"]}
    for name in ("book", "_build/pages/smoke"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "_config.yml").write_text((ROOT / "_config.yml").read_text())
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: book/one\n")
    (tmp_path / "book" / "one.py").write_text("from dmmd_lite.utils.rng import pick\n")
    (tmp_path / "book" / "words.md").write_text("# Words\n")
    nbformat.write(notebook, tmp_path / "_build/pages/smoke/one.ipynb")
    (tmp_path / "_build/pages/smoke/one.json").write_text("{}")
    return tmp_path


@pytest.fixture
def staged(checkout, monkeypatch) -> Path:
    """The folder of the files that the site of that checkout is built from."""

    def build(stage):
        (stage / "_build" / "html").mkdir(parents=True)
        (stage / "_build" / "html" / "index.html").write_text("")

    monkeypatch.setattr(site, "run_jupyter_book", build)
    site.build_site("smoke", checkout)
    return checkout / "_build" / "stage" / "smoke"


def test_the_stage_holds_pages_records_and_mathjax(staged):
    names = {path.relative_to(staged).as_posix() for path in staged.rglob("*") if path.is_file()}
    records = {f"extra/data/results/{path.name}" for path in (ROOT / "data" / "results").glob("*.json")}
    assert records and records < names
    assert {"book/one.ipynb", "book/words.md", "extra/records/one.json"} < names
    assert f"book/_static/{site.MATHJAX}" in names and "book/one.py" not in names
    first, last = (cell.source for cell in nbformat.read(staged / "book" / "one.ipynb", as_version=4).cells)
    assert first.endswith("[a](one), [b](words#here), [c](api/rng), [d](https://x.org/one.py), [e](#below)")
    assert last.startswith("## How this page was made") and "_modules/dmmd_lite/utils/rng.html" in last


@pytest.mark.parametrize("page", sorted((ROOT / "book").glob("*.py")), ids=lambda path: path.stem)
def test_links_between_pages_are_to_files_that_jupyterlab_finds(page):
    text = "\n".join(line for line in page.read_text().splitlines() if line.startswith("#"))
    links = [link for link in re.findall(r"\]\(([^)#\s]+)[)#]", text) if "://" not in link]
    assert all((page.parent / link).is_file() for link in links), links


def test_the_site_is_built_again_only_when_something_on_it_changed(staged, checkout, monkeypatch):
    def fail(stage):
        raise PageError("site: built again")

    monkeypatch.setattr(site, "run_jupyter_book", fail)
    built = site.build_site("smoke", checkout)
    (checkout / "book" / "words.md").write_text("# Other words\n")
    with pytest.raises(PageError, match="built again"):
        site.build_site("smoke", checkout)
    assert (built / "index.html").exists(), "the last good site is gone"


def build_for_ever(stage):
    """Run, in the place of Jupyter Book, a program that writes its process number and sleeps."""
    site.BUILD = site.BUILD.replace(
        "main()", "open('begun', 'w').write(str(os.getpid()))\nthreading.Event().wait()"
    )
    try:
        site.run_jupyter_book(stage)
    except Interrupted as error:
        return error.signal


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_build_ends_with_the_process_that_asked_for_it(tmp_path, number):
    process, begun = start_process(build_for_ever, tmp_path, output=tmp_path / "output"), tmp_path / "begun"
    wait_until(lambda: begun.exists() and begun.read_text())
    os.kill(process.pid, number)
    assert exit_codes(process) == [number if number == signal.SIGTERM else -number]
    wait_until(lambda: gone(int(begun.read_text())), 30)


def test_a_site_that_is_built_replaces_the_old_one_at_once(staged, checkout, monkeypatch):
    """A build that fails, or is stopped, leaves the old one; nothing half-written is taken for a site."""
    (checkout / "book" / "words.md").write_text("# Other words\n")
    before = contents(checkout / "_build" / "html-smoke")
    monkeypatch.setattr(site, "run_jupyter_book", lambda _: (_ for _ in ()).throw(Interrupted("stopped", 2)))
    with pytest.raises(Interrupted):
        site.build_site("smoke", checkout)
    assert contents(checkout / "_build" / "html-smoke") == before


def test_without_its_wheel_mathjax_comes_from_the_network_with_a_warning(checkout, monkeypatch, capsys):
    monkeypatch.setattr(site, "find_spec", lambda name: None if "mathjax" in name else find_spec(name))

    def build(stage):
        settings = yaml.safe_load((stage / "_config.yml").read_text())["sphinx"]["config"]
        assert "mathjax_path" not in settings and settings["html_static_path"]
        (stage / "_build" / "html").mkdir(parents=True)
        (stage / "_build" / "html" / "index.html").write_text("")

    monkeypatch.setattr(site, "run_jupyter_book", build)
    site.build_site("smoke", checkout)
    assert "sphinx-mathjax-offline is not installed" in capsys.readouterr().err


def test_the_configuration_and_the_build_name_the_same_mathjax():
    settings = yaml.safe_load((ROOT / "_config.yml").read_text())["sphinx"]["config"]
    assert settings["mathjax_path"] == site.MATHJAX


def test_the_reference_documents_every_module():
    documented = re.findall(r"^\.\. automodule:: (\S+)$", REFERENCE, re.MULTILINE)
    modules = {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        for path in PACKAGE.rglob("*.py")
    }
    assert sorted(documented) == sorted(modules)


def test_the_bibliography_holds_every_preprint_that_is_named():
    entries = parse_file(ROOT / "book" / "references.bib").entries
    known = {entry.fields["eprint"] for entry in entries.values()}
    sources = [*PACKAGE.rglob("*.py"), *(ROOT / "book").glob("*.py"), ROOT / "README.md"]
    named = {number for path in sources for number in ARXIV.findall(path.read_text())}
    assert named and named <= known
    pages = [*(ROOT / "book").glob("*.py"), *(ROOT / "book").glob("*.md")]
    cited = re.findall(r"\{cite:p\}`([^`]+)`", "".join(path.read_text() for path in pages))
    assert cited and set(cited) <= set(entries)


def test_the_glossary_knows_every_metric():
    text = (ROOT / "book" / "glossary.md").read_text()
    terms = set(re.findall(r"^([A-Za-z_0-9-][^\n{}`#]*)\n  \S", text, re.MULTILINE))
    assert set(METRICS) <= terms


DOCSTRING = """What it does, x_hat and |g|^2 included: [B, L, V] < 3 * y.

steps: k, the number of steps,
    at least 1.
times, weight: of "the_loss" and `code_with * stars`.
Returns nothing.

    a = b * c

Deviations
----------
- one, with costs of $5 and $6
"""


def test_docstrings_become_markdown():
    text = to_markdown(DOCSTRING)
    assert "- `steps`: k, the number of steps,\nat least 1." in text
    assert "- `times, weight`: of" in text and "`code_with * stars`" in text
    assert "\n\nReturns nothing." in text and "\n    a = b * c\n" in text
    assert "**Deviations**" in text and "---" not in text
    assert r"\[B, L, V\] \< 3 \* y" in text and r"\$5" in text and "x_hat" in text
