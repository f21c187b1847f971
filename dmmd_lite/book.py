"""The book: every page run at one scale, and a static site built from what they showed.

    book/*.py ──run_page──▶ _build/pages/SCALE/ ──stage──▶ _build/stage/SCALE/ ──Jupyter Book──▶ _build/html

A page is run again only when something its output depends on has changed, the site is built again only when
something on it has. A build starts from an empty folder, because Sphinx repeats no warning about pages it has
seen before; a failed build leaves the last good site in place.
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

from dmmd_lite.pages import PageError, check_scale, run_page, up_to_date
from dmmd_lite.paths import source_root

MATHJAX = "tex-svg-full.js"  # of the wheel sphinx-mathjax-offline; `mathjax_path` in _config.yml


def toc_pages(root: Path) -> list[str]:
    """Page sources the table of contents lists, in its order, as paths from the root: ["book/intro.py", …].

    Raises ValueError if an entry is neither a page script nor a Markdown file.
    """
    import yaml

    toc = yaml.safe_load((root / "_toc.yml").read_text())
    chapters = [chapter for part in toc.get("parts", [toc]) for chapter in part.get("chapters", [])]
    pages = []
    for name in [toc["root"], *(chapter["file"] for chapter in chapters)]:
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

    root: the checkout, by default the one the package runs from. Returns the site's folder: `_build/html` at
    laptop scale, `_build/html-<scale>` otherwise. Raises ValueError for wrong input, PageError with a line
    for each page that failed, or with the build's warnings.
    """
    root = root or _root()
    if failures := [failure for failure in run_pages(scale, root).values() if failure]:
        raise PageError("\n".join(failures))
    site = root / "_build" / ("html" if scale == "laptop" else f"html-{scale}")
    stage = root / "_build" / "stage" / scale
    files = _site_files(root, scale)
    mark = _mark(files)
    stamp = stage / "fingerprint"
    if not (site / "index.html").exists() or not stamp.exists() or stamp.read_text() != mark:
        shutil.rmtree(stage, ignore_errors=True)
        for name, source in files.items():
            (stage / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, stage / name)
        _build_site(stage)
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
        if path.is_file() and not hidden and path.suffix not in (".py", ".ipynb", ".toml"):
            names.append(path.relative_to(root).as_posix())
    files = {name: root / name for name in names}
    mathjax = Path(find_spec("sphinx-mathjax-offline").origin).parent / "static" / "mathjax" / MATHJAX
    files[f"book/_static/mathjax/{MATHJAX}"] = mathjax
    for page in toc_pages(root):
        name = Path(page).with_suffix(".ipynb")
        files[name.as_posix()] = pages_dir(root, scale) / name.name
    return files


def _mark(files: dict[str, Path]) -> str:
    """SHA-256 over the site's sources and the versions of what builds it."""
    digest = hashlib.sha256()
    for package in ("jupyter-book", "sphinx", "myst-nb", "sphinx-book-theme", "pydata-sphinx-theme"):
        digest.update(f"{package} {metadata.version(package)}\0".encode())
    for name, path in files.items():
        digest.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\0".encode())
    return digest.hexdigest()


def _build_site(stage: Path) -> None:
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
