"""Running a page headless, in a kernel that only this run uses; records are written beside the notebook.

The notebook tools are imported where they are used, so that importing this module needs the package's core
dependencies only.
"""

import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from dmmd_lite.pages.jupyter import kernel_manager
from dmmd_lite.pages.source import page_path, read_page, resolve_parameters
from dmmd_lite.utils.errors import Failure
from dmmd_lite.utils.files import sha256_of, sha256_of_json
from dmmd_lite.utils.paths import PACKAGE, data_dir, external_data_dir
from dmmd_lite.utils.records import RESULTS_READ

LIBRARIES = ("torch", "numpy", "matplotlib", "pandas", "pillow", "scikit-learn")  # they draw and measure


class PageError(Failure):
    """A page that failed while it ran, or a site that did not build. The message has one line per failure."""


def fingerprint(page: str | Path, scale: str, values: dict) -> str:
    """Compute the SHA-256 of everything that a page's output depends on.

    That is: its source, scale and resolved parameters, the package, the shipped data, names and sizes of
    the user's data files, and the versions of Python and of the libraries that draw and measure.
    """
    content = {
        "page": sha256_of(page_path(page)),
        "run": [scale, values],
        "python": platform.python_version(),
        "libraries": {name: metadata.version(name) for name in LIBRARIES},
        "package": _facts(PACKAGE, "*.py", _sha256),
        "data": _facts(data_dir(), "*", _sha256),
        "external": _facts(external_data_dir(), "*", lambda path: path.stat().st_size),
    }
    return sha256_of_json(content)


def _facts(folder: Path | None, pattern: str, fact: Callable[[Path], object]) -> dict[str, object]:
    """Return {path from the folder: fact(path)} for all files that match a pattern; {} without a folder."""
    found = folder.rglob(pattern) if folder else []
    return {path.relative_to(folder).as_posix(): fact(path) for path in found if path.is_file()}


def _sha256(path: Path) -> str:
    """Compute a file's SHA-256. Sweeps ask often, so it is cached as long as size and time are the same."""
    found = path.stat()
    return _cached_sha256(path, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=4096)
def _cached_sha256(path: Path, size: int, time_ns: int) -> str:
    return sha256_of(path)


def run_page(
    page: str | Path,
    out: str | Path,
    scale: str = "laptop",
    parameters: dict | None = None,
    reuse: bool = False,
    threads: int | None = None,
) -> Path:
    """Run a page, write `<out>/<page>.ipynb`, and `<out>/<page>.json` if the page saves records.

    Returns the notebook's path.

    Args:
    page: a name such as "coins", or a path to a page script.
    parameters: values that replace those of the scale.
    reuse: keep the results of an earlier run if nothing that they depend on has changed (`fingerprint`).
    threads: threads of the page's kernel (`kernel_manager`).
    Errors: ValueError for wrong input, before anything is run or written; PageError if a cell fails. In the
    latter case the results of an earlier run stay, and `<out>/<page>.failed.ipynb` shows the cells up to the
    failure.
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

    logger.setLevel("ERROR")  # papermill guesses at the parameters and warns about those checked above
    out.mkdir(parents=True, exist_ok=True)
    # The page writes into a temporary folder; all its files are moved out together once it has succeeded.
    with tempfile.TemporaryDirectory(prefix=f".{path.stem}-", dir=out) as folder:
        partial = Path(folder, target.name)
        start = time.perf_counter()
        try:
            notebook = papermill.execute_notebook(
                read_page(path),
                partial,
                parameters=values,
                progress_bar=False,
                iopub_timeout=60,  # seconds for late output; a busy machine exceeds the default of 4
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
    """Return whether `run_page` with `reuse` would keep the earlier results. ValueError for wrong input."""
    path = page_path(page)
    values = resolve_parameters(path, scale, parameters)
    return _carries(Path(out) / f"{path.stem}.ipynb", fingerprint(path, scale, values))


def _carries(notebook: Path, mark: str) -> bool:
    """Return whether a notebook carries this fingerprint and the records of its run still lie beside it."""
    if not notebook.is_file():
        return False
    run = json.loads(notebook.read_text())["metadata"].get("dmmd_lite", {})
    if run.get("fingerprint") != mark:
        return False
    return all((notebook.parent / name).exists() for name in run["records"])


def _last_line(error: Exception) -> str:
    """Return the last line of a traceback: the kernel's traceback if the error happened there."""
    name, value = getattr(error, "ename", type(error).__name__), getattr(error, "evalue", str(error))
    return f"{name}: {(value.strip().splitlines() or [''])[-1]}"
