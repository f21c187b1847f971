"""Running a page headless: its own kernel, records beside the notebook.

The notebook tools are imported where they are used, so that importing this module needs the package's core
dependencies only.
"""

import hashlib
import json
import os
import platform
import tempfile
import time
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from dmmd_lite.pages.jupyter import kernel_manager
from dmmd_lite.pages.source import page_path, read_page, resolve_parameters
from dmmd_lite.utils.errors import Failure
from dmmd_lite.utils.paths import PACKAGE, data_dir, external_data_dir
from dmmd_lite.utils.records import RESULTS_READ


class PageError(Failure):
    """A page that failed while it ran, or a site that did not build. The message has one line per failure."""


def fingerprint(page: str | Path, scale: str, values: dict) -> str:
    """SHA-256 over all a page's output depends on.

    That is: its source, scale and resolved parameters, the package, the shipped data, names and sizes of
    the user's data files, and the versions of Python and of the libraries that draw and measure.
    """
    digest = hashlib.sha256()

    def add(label, content: bytes):
        digest.update(f"{label}\0{len(content)}\0".encode() + content)

    add("page", page_path(page).read_bytes())
    add("run", json.dumps([scale, values], sort_keys=True).encode())
    add("python", platform.python_version().encode())
    for name in ("torch", "numpy", "matplotlib", "pandas", "pillow", "scikit-learn"):
        add(name, metadata.version(name).encode())
    for path in sorted(PACKAGE.rglob("*.py")):
        add(path.relative_to(PACKAGE), _sha256(path))
    for path in sorted(data_dir().rglob("*")):
        if path.is_file():
            add(path.relative_to(data_dir()), _sha256(path))
    external = external_data_dir()
    for path in sorted(external.rglob("*")) if external else []:
        if path.is_file():
            add(path.relative_to(external), str(path.stat().st_size).encode())
    return digest.hexdigest()


def _sha256(path: Path) -> bytes:
    """A file's digest, read again only where its size or its time has changed: sweeps ask many times."""
    found = path.stat()
    return _digest(path, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=4096)
def _digest(path: Path, size: int, time_ns: int) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()


def run_page(
    page: str | Path,
    out: str | Path,
    scale: str = "laptop",
    parameters: dict | None = None,
    reuse: bool = False,
    threads: int | None = None,
) -> Path:
    """Run a page and write `<out>/<page>.ipynb`, and `<out>/<page>.json` if the page saves records.

    page: a name such as "coins", or a path to a page script. parameters: values that go before the scale's.
    reuse: keep what an earlier run left in `out` if nothing it depends on has changed (see `fingerprint`).
    threads: of the page's kernel (see `kernel_manager`).
    Returns the notebook's path. Raises ValueError, before anything is run or written, if the input is wrong,
    and PageError if a cell fails; the results of an earlier run then stay, and `<out>/<page>.failed.ipynb`
    shows how far this one came.
    """
    path = page_path(page)
    values = resolve_parameters(path, scale, parameters)
    mark = fingerprint(path, scale, values)
    out = Path(out).resolve()
    target, failed = out / f"{path.stem}.ipynb", out / f"{path.stem}.failed.ipynb"
    if reuse and _carries(target, mark):
        return target

    import nbformat
    import papermill
    from papermill.log import logger

    logger.setLevel("ERROR")  # it guesses at the parameters and warns about what is checked above
    out.mkdir(parents=True, exist_ok=True)
    # The page writes into a folder of its own; its files move out together when it has succeeded.
    with tempfile.TemporaryDirectory(prefix=f".{path.stem}-", dir=out) as folder:
        partial = Path(folder, target.name)
        start = time.perf_counter()
        try:
            notebook = papermill.execute_notebook(
                read_page(path),
                partial,
                parameters=values,
                progress_bar=False,
                iopub_timeout=60,  # seconds for late output; a busy machine misses the usual 4
                kernel_manager_class=kernel_manager(folder, path.parent, threads),
            )
        except Exception as error:
            if partial.exists():
                os.replace(partial, failed)
            raise PageError(f"page {path.stem}: {_last_line(error)} (see {failed})") from error
        noted = Path(folder, RESULTS_READ)
        results = sorted(set(noted.read_text().split())) if noted.is_file() else []
        noted.unlink(missing_ok=True)
        records = sorted(file.name for file in Path(folder).iterdir() if file != partial)
        notebook.metadata.pop("papermill", None)
        notebook.metadata["dmmd_lite"] = {
            "fingerprint": mark,
            "page": path.stem,
            "scale": scale,
            "parameters": values,
            "records": records,
            "results": results,
            "seconds": round(time.perf_counter() - start, 1),
        }
        nbformat.write(notebook, partial)
        for name in [*records, target.name]:
            os.replace(Path(folder, name), out / name)
    failed.unlink(missing_ok=True)
    return target


def up_to_date(
    page: str | Path, out: str | Path, scale: str = "laptop", parameters: dict | None = None
) -> bool:
    """Whether `run_page` with `reuse` would find its work done. Raises ValueError for wrong input."""
    path = page_path(page)
    values = resolve_parameters(path, scale, parameters)
    return _carries(Path(out) / f"{path.stem}.ipynb", fingerprint(path, scale, values))


def _carries(notebook: Path, mark: str) -> bool:
    """Whether a notebook carries this fingerprint and the records it was saved with still lie beside it."""
    if not notebook.is_file():
        return False
    run = json.loads(notebook.read_text())["metadata"].get("dmmd_lite", {})
    if run.get("fingerprint") != mark:
        return False
    return all((notebook.parent / name).exists() for name in run["records"])


def _last_line(error: Exception) -> str:
    """The last line of a traceback, from the page's kernel where the error comes from there."""
    name, value = getattr(error, "ename", type(error).__name__), getattr(error, "evalue", str(error))
    return f"{name}: {(value.strip().splitlines() or [''])[-1]}"
