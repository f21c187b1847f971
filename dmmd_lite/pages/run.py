"""Running a page headless, in a kernel that only this run uses; records are written beside the notebook.

The notebook tools are imported where they are used, so that importing this module needs the package's core
dependencies only.
"""

import json
import os
import platform
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

from dmmd_lite.pages.jupyter import completed, kernel_manager
from dmmd_lite.pages.source import page_path, read_page, resolve_parameters
from dmmd_lite.utils.checks import Between, checked
from dmmd_lite.utils.errors import Failure
from dmmd_lite.utils.extras import require
from dmmd_lite.utils.files import atomic_files, folder_lock, remove_leftovers, sha256_of, sha256_of_json
from dmmd_lite.utils.paths import PACKAGE, data_dir, external_data_dir
from dmmd_lite.utils.records import RESULTS_READ
from dmmd_lite.utils.signals import Interrupted, collect_signals

PACKAGES = ("papermill", "jupytext", "nbformat", "jupyter_client")  # that run a page
LIBRARIES = ("torch", "numpy", "matplotlib", "pandas", "pillow", "scikit-learn")  # they draw and measure
Threads = Annotated[int, Between(1, 1024)]


class PageError(Failure):
    """A page that failed while it ran, or a site that did not build. The message has one line per failure."""


def fingerprint(page: str | Path, scale: str, values: dict, surroundings: str | None = None) -> str:
    """Compute the SHA-256 of everything that a page's output depends on: its source, scale and resolved
    parameters, and its surroundings (None: as they are now)."""
    return sha256_of_json([sha256_of(page_path(page)), scale, values, surroundings or surroundings_sha256()])


def surroundings_sha256() -> str:
    """Compute the SHA-256 of what the output of every page depends on.

    That is: the package, the shipped data, names and sizes of the user's data files, and the versions of
    Python and of the libraries that draw and measure.
    """
    content = {
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


@checked
def run_page(
    page: str | Path,
    out: str | Path,
    scale: str = "laptop",
    parameters: dict[str, Any] | None = None,
    reuse: bool = False,
    threads: Threads | None = None,
) -> Path:
    """Run a page, write `<out>/<page>.ipynb`, and `<out>/<page>.json` if the page saves records.

    Returns the notebook's path. All files appear together once the page has succeeded.

    Args:
    page: a name such as "coins", or a path to a page script.
    parameters: values that replace those of the scale.
    reuse: keep the results of an earlier run if nothing that they depend on has changed (`fingerprint`).
    threads: threads of the page's kernel (`kernel_manager`).
    Errors: ValueError for wrong input, and while another run of the page writes to the same folder, before
    anything is run or written; PageError if a cell fails: the results of an earlier run stay, and
    `<out>/<page>.failed.ipynb` shows the cells up to the failure; Interrupted after SIGINT or SIGTERM.
    """
    require(*PACKAGES)
    path = page_path(page)
    values = resolve_parameters(path, scale, parameters)
    mark = fingerprint(path, scale, values)
    out = Path(os.path.abspath(out))
    target, failed = out / f"{path.stem}.ipynb", out / f"{path.stem}.failed.ipynb"
    if reuse and carries(target, mark):
        remove_leftovers(out / path.stem)  # of a process that was killed when all was written
        return target

    import nbformat
    import papermill
    from papermill.log import logger

    logger.setLevel("CRITICAL")  # papermill guesses at the parameters, and its errors are raised as well
    with (
        folder_lock(out, page_lock(path)),
        atomic_files(out / path.stem, target.name) as folder,
        collect_signals() as asked,
        ThreadPoolExecutor(1) as pool,  # in the main thread, the notebook tools would handle signals
    ):
        partial, kernels = folder / target.name, kernel_manager(path, folder, threads)
        start = time.perf_counter()
        work = pool.submit(
            papermill.execute_notebook,
            read_page(path),
            partial,
            parameters=values,
            progress_bar=False,
            iopub_timeout=60,  # seconds for late output; a busy machine exceeds the default of 4
            kernel_manager_class=kernels,
        )
        for _ in completed([work], asked):
            pass
        error = None if work.cancelled() else work.exception()
        if asked and (work.cancelled() or error):
            raise Interrupted(f"page {path.stem}: stopped, and nothing was written", asked[0])
        if error and kernels.stopped:
            raise PageError(f"page {path.stem}: stopped, and nothing was written")
        if error:
            shown = _read(partial)  # a disk that is full leaves half a notebook
            if shown:
                os.replace(partial, failed)
            words = f" (see {failed})" if shown else ""
            raise PageError(f"page {path.stem}: {_last_line(error)}{words}") from error
        notebook, noted = work.result(), folder / RESULTS_READ
        results = sorted(set(noted.read_text(encoding="utf-8").split())) if noted.is_file() else []
        noted.unlink(missing_ok=True)
        notebook.metadata.pop("papermill", None)
        notebook.metadata["dmmd_lite"] = {
            "fingerprint": mark,
            "page": path.stem,
            "scale": scale,
            "parameters": values,
            "records": {file.name: sha256_of(file) for file in sorted(folder.iterdir()) if file != partial},
            "results": results,
            "seconds": round(time.perf_counter() - start, 1),
        }
        nbformat.write(notebook, partial)
    failed.unlink(missing_ok=True)
    return target


def page_lock(page: Path) -> str:
    """Return the name of the file that a run of a page locks in its folder."""
    return f".{page.stem}.lock"


@checked
def up_to_date(page: str | Path, out: str | Path, scale: str = "laptop") -> bool:
    """Return whether `run_page` with `reuse` would keep the earlier results. ValueError for wrong input."""
    path = page_path(page)
    values = resolve_parameters(path, scale)
    return carries(out / f"{path.stem}.ipynb", fingerprint(path, scale, values))


def carries(notebook: Path, mark: str) -> bool:
    """Return whether a notebook is whole and carries this fingerprint, and the records of its run still lie
    beside it as they were written."""
    run = about_run(notebook)
    if run.get("fingerprint") != mark:
        return False
    records = {notebook.with_name(name): digest for name, digest in run["records"].items()}
    return all(file.is_file() and sha256_of(file) == digest for file, digest in records.items())


def about_run(notebook: Path) -> dict:
    """Return what `run_page` noted in the metadata of a notebook; {} for one that is missing, damaged or of
    another origin, or whose records lie in another folder."""
    found = _read(notebook).get("metadata", {}).get("dmmd_lite", {})
    records = found.get("records") if isinstance(found, dict) else None
    beside = isinstance(records, dict) and all(Path(name).name == name for name in records)
    return found if beside else {}


def _read(notebook: Path) -> dict:
    """Return a notebook as JSON; {} for one that is missing or damaged."""
    try:
        content = json.loads(notebook.read_text(encoding="utf-8"))
        return content if isinstance(content["metadata"], dict) else {}
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return {}


def _last_line(error: Exception) -> str:
    """Return the last line of a traceback: the kernel's traceback if the error happened there."""
    name, value = getattr(error, "ename", type(error).__name__), getattr(error, "evalue", str(error))
    return f"{name}: {(value.strip().splitlines() or [''])[-1]}"
