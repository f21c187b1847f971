"""The book: every page is run at one scale, and a static site is built from the executed notebooks.

    book/*.py ──run_page──▶ _build/pages/SCALE/ ──stage──▶ _build/stage/SCALE/ ──Jupyter Book──▶ _build/html

A page is run again only when something that its output depends on has changed, and the site is built again
only when something on it has changed. A build starts from an empty folder, because Sphinx does not repeat
warnings about pages that it has seen before; a failed build leaves the last good site in place.

The site needs no network: formulas are drawn by MathJax from a Python wheel, and the records of the numbers
are part of the site, in `data/results/` (committed) and `records/` (computed by its pages).
"""

import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from dmmd_lite.pages.footer import closing_section
from dmmd_lite.pages.jupyter import completed
from dmmd_lite.pages.run import PACKAGES, PageError, run_page, up_to_date
from dmmd_lite.utils.extras import require
from dmmd_lite.utils.files import folder_lock, remove_leftovers, sha256_of, sha256_of_json, write_text
from dmmd_lite.utils.paths import PACKAGE, data_dir, source_root
from dmmd_lite.utils.scales import check_scale
from dmmd_lite.utils.signals import Interrupted, collect_signals

MATHJAX = (
    "mathjax/tex-svg-full.js"  # a file of the wheel sphinx-mathjax-offline; see _config.yml: mathjax_path
)
PAGE_LINK = re.compile(r"\]\(((?:api/)?\w+)\.(?:py|md)([)#])")  # a link from a page to the source of another
MAX_SITE_BYTES, MAX_PAGE_BYTES = 60_000_000, 4_000_000
# The build ends when the pipe at its standard input closes, also because the other end was killed.
BUILD = """
import os, threading
threading.Thread(target=lambda: os._exit(len(os.read(0, 1)) or 1), daemon=True).start()
from jupyter_book.cli.main import main
main()
"""
BUILDERS = ("jupyter-book", "sphinx", "myst-nb", "sphinx-book-theme", "pydata-sphinx-theme")


def toc_entries(root: Path) -> list[str]:
    """Return the entries of the table of contents, in order, as paths from the root: ["book/intro", …]."""
    import yaml

    toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    chapters = [chapter for part in toc.get("parts", [toc]) for chapter in part.get("chapters", [])]
    return [toc["root"], *(chapter["file"] for chapter in chapters)]


def toc_pages(root: Path) -> list[str]:
    """Return the page sources among the entries, in their order: ["book/intro.py", …].

    Errors: ValueError if an entry is neither a page script nor a Markdown file.
    """
    pages = []
    for name in toc_entries(root):
        if (root / f"{name}.py").is_file():
            pages.append(f"{name}.py")
        elif not (root / f"{name}.md").is_file():
            raise ValueError(f"_toc.yml: {name!r} does not exist; list .py or .md files, without the suffix")
    return pages


def run_pages(scale: str, root: Path | None = None) -> dict[str, str | None]:
    """Run every page of the table of contents that has changed, into `_build/pages/<scale>/`.

    Prints a line per page and returns {page name: None, or the message of its failure}. Errors: ValueError if
    the scale, a page or a preset is wrong, before any page runs; Interrupted after SIGINT or SIGTERM.
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
            remove_leftovers(out / source.stem)
            print(f"  {source.stem:32s} unchanged", flush=True)
    # Small pages run two at a time; larger ones would fill one accelerator together.
    workers = 2 if scale in ("smoke", "laptop") else 1
    with collect_signals() as asked, ThreadPoolExecutor(workers) as pool:
        runs = {pool.submit(_timed_run, source, out, scale): source.stem for source in stale}
        for done in completed(runs, asked):
            name = runs[done]
            try:
                print(f"  {name:32s} {done.result():.1f} s", flush=True)
            except Exception as error:
                failures[name] = str(error) if isinstance(error, PageError) else f"page {name}: {error!r}"
                print(f"  {name:32s} failed", flush=True)
    if asked:
        raise Interrupted("stopped while pages ran; resume with the same command", asked[0])
    return failures


def _timed_run(source: Path, out: Path, scale: str) -> float:
    start = time.perf_counter()
    run_page(source, out, scale)
    return time.perf_counter() - start


def build_book(scale: str = "laptop", root: Path | None = None) -> Path:
    """Run the pages at a scale and build the site; warnings of the build count as errors.

    Returns the site's folder, see `build_site`.

    Args:
    root: the checkout; None: the one that the package runs from.
    Errors: ValueError for wrong input; PageError with a line per page that failed; those of `build_site`.
    """
    root = root or _root()
    check_scale(scale)
    require(*PACKAGES, "jupyter_book")
    with folder_lock(pages_dir(root, scale)):
        if failures := [failure for failure in run_pages(scale, root).values() if failure]:
            raise PageError("\n".join(failures))
        return build_site(scale, root)


def build_site(scale: str, root: Path) -> Path:
    """Build the site from pages that have been run, unless nothing on it has changed.

    Returns its folder: `_build/html` at laptop scale, `_build/html-<scale>` otherwise. Errors: PageError with
    the build's warnings, or if the site is too large (`check_size`).
    """
    site = root / "_build" / ("html" if scale == "laptop" else f"html-{scale}")
    stage, files = root / "_build" / "stage" / scale, _site_files(root, scale)
    stamp, mark = stage / "fingerprint", _mark(files)
    if not (site / "index.html").exists() or not stamp.exists() or stamp.read_text(encoding="utf-8") != mark:
        shutil.rmtree(stage, ignore_errors=True)
        for name, source in files.items():
            _put(source, stage / name, root)
        if f"book/_static/{MATHJAX}" not in files:
            _use_remote_mathjax(stage / "_config.yml")
        run_jupyter_book(stage)
        check_size(stage / "_build" / "html")
        if site.exists():
            os.replace(site, stage / "replaced")
        os.replace(stage / "_build" / "html", site)
        shutil.rmtree(stage / "replaced", ignore_errors=True)
        write_text(stamp, mark)
    print(f"open {(site / 'index.html').as_uri()}")
    return site


def pages_dir(root: Path, scale: str) -> Path:
    """Return the folder of the executed pages of a scale and their records."""
    return root / "_build" / "pages" / scale


def _root() -> Path:
    """Return the checkout. ValueError if the package is installed without one."""
    root = source_root()
    if root is None:
        raise ValueError("book: the installed package has no pages; run this in a checkout")
    return root


def _site_files(root: Path, scale: str) -> dict[str, Path]:
    """Return the files that the site is built from: {path in the stage: file}."""
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
    """Copy a file into the stage. A page gets its closing section. Its links to other pages, which lead to
    sources, because JupyterLab follows those, become links to documents."""
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
    """Use Sphinx's default for MathJax, a script from the network, and print a warning."""
    import yaml

    values = yaml.safe_load(config.read_text(encoding="utf-8"))
    del values["sphinx"]["config"]["mathjax_path"]
    write_text(config, yaml.safe_dump(values, sort_keys=False))
    print("sphinx-mathjax-offline is not installed: readers need a network to see formulas", file=sys.stderr)


def check_size(site: Path) -> None:
    """Raise PageError if a built site, or the largest of its pages, is over the limits."""
    sizes = {path: path.stat().st_size for path in site.rglob("*") if path.is_file()}
    largest = max((path for path in sizes if path.suffix == ".html"), key=sizes.get)
    if sizes[largest] > MAX_PAGE_BYTES:
        raise PageError(f"site: {largest.name} has {sizes[largest]:,} bytes; {MAX_PAGE_BYTES:,} are allowed")
    if (total := sum(sizes.values())) > MAX_SITE_BYTES:
        raise PageError(f"site: it has {total:,} bytes; {MAX_SITE_BYTES:,} are allowed")


def _mark(files: dict[str, Path]) -> str:
    """Compute the SHA-256 of the site's sources, the package that it documents and the builders' versions."""
    modules = {path.relative_to(PACKAGE).as_posix(): sha256_of(path) for path in PACKAGE.rglob("*.py")}
    sources = {name: sha256_of(path) for name, path in files.items()}
    return sha256_of_json([{name: metadata.version(name) for name in BUILDERS}, sources, modules])


def run_jupyter_book(stage: Path) -> None:
    """Run Jupyter Book on the staged sources. PageError with its warnings if there are any; Interrupted."""
    command = [sys.executable, "-c", BUILD, "build", ".", "-n", "-W", "--keep-going"]
    log = stage / "build.log"
    with collect_signals() as asked, log.open("wb") as file:
        streams = {"stdin": subprocess.PIPE, "stdout": file, "stderr": subprocess.STDOUT}
        with subprocess.Popen(command, cwd=stage, start_new_session=True, **streams) as build:
            while build.poll() is None and not asked:  # the context then closes the pipe and waits
                time.sleep(0.1)
    if asked:
        raise Interrupted("stopped while the site was built; resume with the same command", asked[0])
    if build.returncode:
        output = re.sub(r"\x1b\[[0-9;]*m", "", log.read_text("utf-8", "replace"))  # without colours
        lines = [line.strip() for line in output.splitlines() if line.strip()]
        messages = [line for line in lines if re.search("WARNING: |ERROR: |Error: ", line)] or lines[-1:]
        raise PageError("\n".join(f"site: {line}" for line in [*messages, f"the whole log is in {log}"]))
