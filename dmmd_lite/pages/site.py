"""The book: every page run at one scale, and a static site built from what they showed.

    book/*.py ──run_page──▶ _build/pages/SCALE/ ──stage──▶ _build/stage/SCALE/ ──Jupyter Book──▶ _build/html

A page is run again only when something its output depends on has changed, the site is built again only when
something on it has. A build starts from an empty folder, because Sphinx repeats no warning about pages it has
seen before; a failed build leaves the last good site in place.

The site asks nothing of the network: formulas are drawn by MathJax from a Python wheel, and the records
behind the numbers lie on the site itself, `data/results/` (committed) and `records/` (computed by its pages).
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib import metadata
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path

from dmmd_lite.pages.footer import closing_section
from dmmd_lite.pages.run import PageError, run_page, up_to_date
from dmmd_lite.utils.paths import PACKAGE, data_dir, source_root
from dmmd_lite.utils.scales import check_scale

MATHJAX = "mathjax/tex-svg-full.js"  # of the wheel sphinx-mathjax-offline; `mathjax_path` in _config.yml
PAGE_LINK = re.compile(r"\]\(((?:api/)?\w+)\.(?:py|md)([)#])")  # from a page to the source of another
LARGEST_SITE, LARGEST_PAGE = 60_000_000, 4_000_000  # bytes


def toc_entries(root: Path) -> list[str]:
    """Everything the table of contents lists, in its order, as paths from the root: ["book/intro", …]."""
    import yaml

    toc = yaml.safe_load((root / "_toc.yml").read_text())
    chapters = [chapter for part in toc.get("parts", [toc]) for chapter in part.get("chapters", [])]
    return [toc["root"], *(chapter["file"] for chapter in chapters)]


def toc_pages(root: Path) -> list[str]:
    """Page sources the table of contents lists, in its order, as paths from the root: ["book/intro.py", …].

    Raises ValueError if an entry is neither a page script nor a Markdown file.
    """
    pages = []
    for name in toc_entries(root):
        if (root / f"{name}.py").is_file():
            pages.append(f"{name}.py")
        elif not (root / f"{name}.md").is_file():
            raise ValueError(f"_toc.yml: {name!r} does not exist; list .py or .md files, without the suffix")
    return pages


def run_pages(scale: str, root: Path | None = None) -> dict[str, str | None]:
    """Run every page of the table of contents into `_build/pages/<scale>/`, unchanged ones excepted.

    Prints a line per page. Returns page name -> None, or what went wrong. Raises ValueError before any page
    runs if the scale, a page or a preset is wrong.
    """
    check_scale(scale)
    root = root or _root()
    sources = [root / page for page in toc_pages(root)]
    out = pages_dir(root, scale)
    failures = dict.fromkeys(source.stem for source in sources)
    stale = [source for source in sources if not up_to_date(source, out, scale)]
    print(f"pages at {scale} scale", flush=True)
    for source in sources:
        if source not in stale:
            print(f"  {source.stem:32s} unchanged", flush=True)
    # Small pages share two cores; larger ones would share, and fill, one accelerator.
    workers = 2 if scale in ("smoke", "laptop") else 1
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        runs = {pool.submit(_timed_run, source, out, scale): source.stem for source in stale}
        for done in as_completed(runs):
            name = runs[done]
            try:
                print(f"  {name:32s} {done.result():.1f} s", flush=True)
            except Exception as error:
                failures[name] = str(error) if isinstance(error, PageError) else f"page {name}: {error!r}"
                print(f"  {name:32s} failed", flush=True)
    return failures


def _timed_run(source: Path, out: Path, scale: str) -> float:
    start = time.perf_counter()
    run_page(source, out, scale)
    return time.perf_counter() - start


def build_book(scale: str = "laptop", root: Path | None = None) -> Path:
    """Run the pages at a scale and build the site; warnings of the build count as errors.

    root: the checkout, by default the one the package runs from. Returns the site's folder, see `build_site`.
    Raises ValueError for wrong input, PageError with a line for each page that failed, or as `build_site`.
    """
    root = root or _root()
    if failures := [failure for failure in run_pages(scale, root).values() if failure]:
        raise PageError("\n".join(failures))
    return build_site(scale, root)


def build_site(scale: str, root: Path) -> Path:
    """Build the site from pages that have been run, unless nothing on it has changed.

    Returns its folder: `_build/html` at laptop scale, `_build/html-<scale>` otherwise. Raises PageError with
    the build's warnings, or if the site is too large (`LARGEST_SITE`, `LARGEST_PAGE`).
    """
    site = root / "_build" / ("html" if scale == "laptop" else f"html-{scale}")
    stage = root / "_build" / "stage" / scale
    files = _site_files(root, scale)
    mark = _mark(files)
    stamp = stage / "fingerprint"
    if not (site / "index.html").exists() or not stamp.exists() or stamp.read_text() != mark:
        shutil.rmtree(stage, ignore_errors=True)
        for name, source in files.items():
            _put(source, stage / name, root)
        if f"book/_static/{MATHJAX}" not in files:
            _use_remote_mathjax(stage / "_config.yml")
        run_jupyter_book(stage)
        check_size(stage / "_build" / "html")
        shutil.rmtree(site, ignore_errors=True)
        os.replace(stage / "_build" / "html", site)
        stamp.write_text(mark)
    print(f"open {(site / 'index.html').as_uri()}")
    return site


def pages_dir(root: Path, scale: str) -> Path:
    """Where the executed pages of a scale and their records lie."""
    return root / "_build" / "pages" / scale


def _root() -> Path:
    """The checkout; ValueError where the package is installed without one."""
    root = source_root()
    if root is None:
        raise ValueError("book: the installed package has no pages; run this in a checkout")
    return root


def _site_files(root: Path, scale: str) -> dict[str, Path]:
    """What the site is built from: path in the stage -> file."""
    names = ["_config.yml", "_toc.yml"]
    for path in sorted((root / "book").rglob("*")):
        hidden = any(part.startswith((".", "__")) for part in path.relative_to(root).parts)
        source = path.suffix in (".py", ".ipynb", ".toml")
        if path.is_file() and not hidden and not source:
            names.append(path.relative_to(root).as_posix())
    files = {name: root / name for name in names}
    if wheel := find_spec("sphinx-mathjax-offline"):
        files[f"book/_static/{MATHJAX}"] = Path(wheel.origin).parent / "static" / MATHJAX
    for page in toc_pages(root):
        name = Path(page).with_suffix(".ipynb")
        files[name.as_posix()] = executed = pages_dir(root, scale) / name.name
        if (computed := executed.with_suffix(".json")).is_file():
            files[f"extra/records/{computed.name}"] = computed
    for path in sorted((data_dir() / "results").glob("*.json")):
        files[f"extra/data/results/{path.name}"] = path
    return files


def _put(source: Path, target: Path, root: Path) -> None:
    """Copy a file into the stage. A page gets its closing section, and its links to other pages, which are
    to sources, as JupyterLab follows them, become links to documents."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.suffix != ".ipynb":
        shutil.copyfile(source, target)
        return
    import nbformat

    notebook = nbformat.read(source, as_version=4)
    computed = source.with_suffix(".json")
    page, run = root / "book" / f"{source.stem}.py", notebook.metadata["dmmd_lite"]
    section = closing_section(page, run, computed if computed.is_file() else None)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = PAGE_LINK.sub(r"](\1\2", cell.source)
    notebook.cells.append(nbformat.v4.new_markdown_cell(section))
    nbformat.write(notebook, target)


def _use_remote_mathjax(config: Path) -> None:
    """Leave MathJax to Sphinx's default, a script from the network, and say so."""
    import yaml

    values = yaml.safe_load(config.read_text())
    del values["sphinx"]["config"]["mathjax_path"]
    config.write_text(yaml.safe_dump(values, sort_keys=False))
    print("sphinx-mathjax-offline is not installed: readers need a network to see formulas", file=sys.stderr)


def check_size(site: Path) -> None:
    """PageError if a built site, or the largest of its pages, is over the limits."""
    sizes = {path: path.stat().st_size for path in site.rglob("*") if path.is_file()}
    largest = max((path for path in sizes if path.suffix == ".html"), key=sizes.get)
    if sizes[largest] > LARGEST_PAGE:
        raise PageError(f"site: {largest.name} has {sizes[largest]:,} bytes; {LARGEST_PAGE:,} are allowed")
    if (total := sum(sizes.values())) > LARGEST_SITE:
        raise PageError(f"site: it has {total:,} bytes; {LARGEST_SITE:,} are allowed")


def _mark(files: dict[str, Path]) -> str:
    """SHA-256 over the site's sources, the package it documents and the versions of what builds it."""
    digest = hashlib.sha256()
    for package in ("jupyter-book", "sphinx", "myst-nb", "sphinx-book-theme", "pydata-sphinx-theme"):
        digest.update(f"{package} {metadata.version(package)}\0".encode())
    modules = {path.relative_to(PACKAGE).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}
    for name, path in {**files, **modules}.items():
        digest.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\0".encode())
    return digest.hexdigest()


def run_jupyter_book(stage: Path) -> None:
    """Jupyter Book on the staged sources, strict; PageError with its warnings if there are any."""
    jupyter_book = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
    command = [*jupyter_book, "build", ".", "-n", "-W", "--keep-going"]
    done = subprocess.run(command, cwd=stage, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    output = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)  # without colours
    log = stage / "build.log"
    log.write_text(output)
    if done.returncode:
        lines = [line.strip() for line in output.splitlines() if line.strip()]
        told = [line for line in lines if re.search("WARNING: |ERROR: |Error: ", line)] or lines[-1:]
        raise PageError("\n".join(f"site: {line}" for line in [*told, f"the whole log is in {log}"]))
