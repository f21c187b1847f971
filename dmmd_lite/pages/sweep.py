"""A sweep: one page at every point of a grid of its parameters, on this machine or on a Dask cluster.

    OUT/PAGE/LABEL-HASH/   one folder per run: its notebook and records; PAGE.failed.ipynb if it failed
    OUT/PAGE.parquet       all records, one per row, with the parameters of their run (columns `p_NAME`)
    OUT/PAGE.png           every metric against the first parameter that varies

A run is done when its notebook carries the fingerprint of everything that it depends on (`run.fingerprint`).
So the same call resumes an earlier one, a larger grid keeps the runs of a smaller one, and other code or data
makes every run again. While a sweep works in the folder, another one of the same page is refused. One lock
per run keeps a worker that seemed lost and its successor from making the same run at once. A pool of threads,
each of which watches a kernel, or Dask starts the runs.
"""

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from dmmd_lite.pages.jupyter import completed
from dmmd_lite.pages.run import (
    PACKAGES,
    PageError,
    Threads,
    about_run,
    carries,
    fingerprint,
    page_lock,
    run_page,
    surroundings_sha256,
)
from dmmd_lite.pages.source import page_path, resolve_parameters
from dmmd_lite.utils.checks import Count, checked
from dmmd_lite.utils.extras import require
from dmmd_lite.utils.files import atomic_write, folder_lock, remove_leftovers, sha256_of_json
from dmmd_lite.utils.signals import Interrupted, collect_signals

CONNECT_SECONDS = 10  # how long to wait for a Dask scheduler
Draw = Callable[[list[dict], list[str]], Any]  # (rows, names of swept columns) -> figure


class Run(NamedTuple):
    """One point of a grid.

    Args:
    parameters: the values that the sweep sets.
    label: the parameters that vary, as text: "steps=4 top_p=0.9".
    mark: the fingerprint of everything that the run depends on.
    """

    page: Path
    scale: str
    parameters: dict
    label: str
    folder: Path
    mark: str

    @property
    def notebook(self) -> Path:
        """The path of the executed notebook, once the run is done."""
        return self.folder / f"{self.page.stem}.ipynb"

    @property
    def done(self) -> bool:
        """Whether the results of the run lie in its folder."""
        return carries(self.notebook, self.mark)


@checked
def sweep(
    page: str | Path,
    grid: dict[str, list],
    out: str | Path,
    scale: str = "laptop",
    *,
    jobs: Count | None = None,
    cluster: str | None = None,
    threads: Threads = 1,
    draw: Draw | None = None,
) -> Path:
    """Run a page at every point of a grid and gather the results in the folder `out`.

    Prints a line per run and returns the parquet file's path.

    Args:
    grid: {parameter: values}.
    jobs: runs at a time on this machine; None: as many as there are cores for.
    cluster: address of a Dask scheduler that makes the runs instead; its workers see this package, the page
    and `out` under the same paths.
    threads: threads of one run.
    draw: makes the figure of all records; None: no figure.
    Errors: ValueError for wrong input, and while another sweep of the page works in `out`, before anything
    runs or is written; PageError with a line per failure, once all other runs have ended; Interrupted after
    SIGINT or SIGTERM. After the last two errors, too, the runs that are done are gathered.
    """
    if jobs is not None and cluster is not None:
        raise ValueError(f"jobs: {jobs} is not allowed beside a cluster; its workers set the number")
    require(*PACKAGES, "pyarrow")
    runs = plan(page, grid, out, scale)
    folder, target = runs[0].folder.parent, Path(out) / f"{runs[0].page.stem}.parquet"
    with collect_signals() as asked, _executor(jobs, cluster, threads) as pool, folder_lock(folder):
        todo, failures = [run for run in runs if not run.done], []
        for run in runs:
            if run not in todo:
                remove_leftovers(run.folder / run.page.stem)
        print(f"{runs[0].page.stem}: {len(runs)} runs, {len(runs) - len(todo)} done before", flush=True)
        if todo:
            failures = _run_all(pool, todo, threads, asked)
        done = [run for run in runs if run.done]
        if done:
            gather(done, target, draw)
    if asked and len(done) < len(runs):
        words = f"stopped with {len(done)} of {len(runs)} runs done; resume with the same command"
        raise Interrupted(words, asked[0])
    if failures:
        words = f"{len(failures)} of {len(runs)} runs failed; the same command tries them again"
        raise PageError("\n".join([words, *failures]))
    print(target, flush=True)
    return target


@checked
def plan(page: str | Path, grid: dict[str, list], out: str | Path, scale: str = "laptop") -> list[Run]:
    """Return the runs of a sweep; the last parameter changes fastest.

    Errors: ValueError for parameters that the page does not have or of a wrong type, for a parameter without
    values and for a value given twice.
    """
    path, out, surroundings = page_path(page), Path(os.path.abspath(out)), surroundings_sha256()
    for name, values in grid.items():
        if not values:
            raise ValueError(f"page {path.stem}: parameter {name}: has no value; give at least one")
    runs, varying = {}, [name for name, values in grid.items() if len(values) > 1] or list(grid)
    for point in product(*grid.values()):
        values = resolve_parameters(path, scale, dict(zip(grid, point, strict=True)))
        parameters = {name: values[name] for name in grid}
        mark = fingerprint(path, scale, values, surroundings)
        label = _label({name: parameters[name] for name in varying})
        short = re.sub(r"[^A-Za-z0-9_.=+-]+", "_", _label(parameters))[:60]
        folder = out / path.stem / f"{short}-{sha256_of_json([scale, values])[:10]}"
        if folder in runs:
            raise ValueError(f"page {path.stem}: {label} is there twice; give every value once")
        runs[folder] = Run(path, scale, parameters, label, folder, mark)
    return list(runs.values())


def run_once(run: Run, threads: int) -> None:
    """Make a run, under its lock, unless it is done."""
    with folder_lock(run.folder, page_lock(run.page), wait=True):
        values = resolve_parameters(run.page, run.scale, run.parameters)
        if fingerprint(run.page, run.scale, values) != run.mark:
            raise PageError("page, code, data or versions are not those that the sweep began with")
        run_page(run.page, run.folder, run.scale, run.parameters, reuse=True, threads=threads)


@contextmanager
def _executor(jobs: int | None, cluster: str | None, threads: int) -> Iterator[Executor]:
    """Yield an executor: threads of this process, or the workers of a cluster."""
    if cluster is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        pool = ThreadPoolExecutor(jobs or max(1, cores // threads))
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)
        return
    try:
        require("distributed")
        from distributed import Client
    except ImportError:
        raise ValueError(f"cluster: {cluster!r} needs Dask; pip install distributed") from None
    if not re.fullmatch(r"\w+://\S+", cluster):
        raise ValueError(f"cluster: {cluster!r} is not allowed; write a scheduler's address, tcp://HOST:PORT")
    try:
        client = Client(cluster, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"cluster: no Dask scheduler answers at {cluster!r} ({reason})") from None
    with client:
        yield client.get_executor(pure=False)


def _run_all(pool: Executor, todo: list[Run], threads: int, asked: list[int]) -> list[str]:
    """Make runs until none is left or a signal has come, then end those in progress; return the failures."""
    started = time.monotonic()
    futures, failures = {pool.submit(run_once, run, threads): run for run in todo}, []
    for number, future in enumerate(completed(futures, asked), 1):
        run = futures[future]
        if failure := _failure(run, future):
            failures.append(f"{run.label}: {failure}")
        left = timedelta(seconds=round((time.monotonic() - started) / number * (len(todo) - number)))
        count = f"{number:{len(str(len(todo)))}d}/{len(todo)}"
        print(f"{count} {run.label}: {'failed' if failure else 'done'}, {left} left", flush=True)
    return failures


def _failure(run: Run, future: Future) -> str | None:
    """Return the error of a run in one line; None if it succeeded."""
    try:
        future.result()
    except Exception as error:
        words = " ".join(str(error).split())
        return words if isinstance(error, PageError) else f"{type(error).__name__}: {words}"
    return None if run.done else f"no notebook in {run.folder}; workers must write to the same file system"


def gather(runs: list[Run], target: Path, draw: Draw | None = None) -> None:
    """Write the records of runs that are done as the parquet file `target`, and a figure of them beside it.

    Columns: `run` (the folder's name), `notebook` (its path from the file's folder), `run_scale`,
    `run_seconds`, `p_NAME` for each parameter that was set, and the fields of the records, with lists and
    dictionaries as JSON. A run that saved no records has one row without them; without any records there is
    no figure.
    """
    import pyarrow
    from pyarrow import parquet

    from dmmd_lite.pages.display import save

    rows = [row for run in runs for row in _rows(run, target)]
    names = dict.fromkeys(name for row in rows for name in row)
    table = pyarrow.table({name: _column([row.get(name) for row in rows]) for name in names})
    swept = [f"p_{name}" for name in runs[0].parameters]
    with atomic_write(target) as part:
        parquet.write_table(table, part)
    if draw is not None and "name" in names:
        with atomic_write(target.with_suffix(".png")) as part:
            save(draw(table.to_pylist(), swept), part)


def _rows(run: Run, target: Path) -> Iterator[dict]:
    """Yield the rows of one run."""
    about = about_run(run.notebook)
    head = {
        "run": run.folder.name,
        **{f"p_{name}": value for name, value in about["parameters"].items()},
        "run_scale": run.scale,
        "run_seconds": about["seconds"],
        "notebook": Path(os.path.relpath(run.notebook, target.parent)).as_posix(),
    }
    saved = [json.loads((run.folder / name).read_text(encoding="utf-8")) for name in about["records"]]
    records = [record for file in saved for record in file["records"]]
    yield from ({**head, **record} for record in records or [{}])


def _column(values: list):
    """Make a column of values: of their common type if they have one, else all as JSON."""
    import pyarrow

    plain = [json.dumps(value) if isinstance(value, dict | list) else value for value in values]
    try:
        return pyarrow.array(plain)
    except (pyarrow.ArrowException, OverflowError):
        return pyarrow.array([None if value is None else json.dumps(value) for value in values])


def _label(parameters: dict) -> str:
    """Return parameters as they are written in a command; "defaults" if there are none."""
    shown = {name: v if isinstance(v, str) else json.dumps(v) for name, v in parameters.items()}
    return " ".join(f"{name}={value}" for name, value in shown.items()) or "defaults"
