"""A page of the book, run headless: strict parameters, its own kernel, records beside the notebook.

A page is a jupytext percent script. Its cell tagged `parameters` holds annotated literals only, such as
`n_steps: int = 16  # sampling steps`; these are the names and types a run may set. `book/scales.toml` holds
the values of the other scales. The notebook tools are imported where they are used, so that importing this
module needs the package's core dependencies only.
"""

import ast
import hashlib
import json
import math
import os
import platform
import tempfile
import time
import tomllib
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from dmmd_lite.kernels import kernel_manager
from dmmd_lite.paths import PACKAGE, data_dir, external_data_dir, source_root
from dmmd_lite.sizes import SCALES

TYPES = {"int": int, "float": (int, float), "str": str, "bool": bool, "list": list, "dict": dict}


class PageError(RuntimeError):
    """A page that failed while it ran, or a site that did not build. The message has one line per failure."""


class Parameter(NamedTuple):
    """One entry of a page's parameters cell; `type` is the annotation as written, such as "list[int]"."""

    type: str
    default: object
    help: str


def page_path(page: str | Path) -> Path:
    """The source of a page, given by name ("coins") or as a path to a .py file.

    Raises ValueError, listing the pages there are, if there is no such page.
    """
    if str(page).endswith(".py"):
        if Path(page).is_file():
            return Path(page).resolve()
        raise ValueError(f"page: {str(page)!r} is not a file; name a page script or one of {page_names()}")
    if page in page_names():
        return source_root() / "book" / f"{page}.py"
    raise ValueError(f"page: {str(page)!r} does not exist; choose from {page_names()}")


def page_names() -> list[str]:
    """Names of the pages in the checkout's `book/`; none where the package is installed from a wheel."""
    root = source_root()
    return sorted(path.stem for path in (root / "book").glob("*.py")) if root else []


def read_page(path: Path):
    """A page source as a notebook object, with the kernel name every notebook tool asks for."""
    return _as_notebook(path.read_text())


def _as_notebook(source: str):
    import jupytext

    notebook = jupytext.reads(source, fmt="py:percent")
    kernel = {"name": "python3", "language": "python", "display_name": "Python 3"}
    notebook.metadata.setdefault("kernelspec", kernel)
    return notebook


class JupytextReader:
    """What papermill reads `jupytext://PAGE.py` with, once it has found this class by its entry point."""

    @staticmethod
    def read(address: str) -> str:
        """The page at `jupytext://PATH` as a notebook in JSON."""
        import nbformat

        return nbformat.writes(read_page(page_path(address.removeprefix("jupytext://"))))

    @staticmethod
    def pretty_path(address: str) -> str:
        """The address as it stands."""
        return address


def page_parameters(page: str | Path) -> dict[str, Parameter]:
    """Parameters of a page in the order of its parameters cell: name -> (type, default, help).

    Raises ValueError for an unknown page, and for a parameters cell with anything but annotated literals.
    """
    path = page_path(page)
    return dict(_parameters(path.stem, path.read_text()))


@lru_cache(maxsize=64)
def _parameters(stem: str, source: str) -> dict[str, Parameter]:
    notebook = _as_notebook(source)
    cells = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    found = {}
    for cell in cells:
        lines = cell.source.splitlines()
        for node in ast.parse(cell.source).body:
            text = ast.unparse(node)
            try:
                name, kind = node.target.id, ast.unparse(node.annotation)
                default = ast.literal_eval(node.value)
                base = kind.split("[")[0]
                comment = lines[node.end_lineno - 1].encode()[node.end_col_offset :].decode()
            except (AttributeError, ValueError, TypeError):
                base = None
            if base not in TYPES:
                allowed = f"`name: type = literal` with type one of {list(TYPES)}"
                raise ValueError(f"page {stem}: parameters: {text!r} is not allowed; write {allowed}")
            found[name] = Parameter(kind, default, comment.strip(" #"))
            _check(stem, name, found[name], default)
    return found


def _check(page: str, name: str, parameter: Parameter, value) -> None:
    """Raise ValueError unless the value, and every element of a list, has the parameter's type. A bool is no
    number; an int is a float."""
    kind, _, inner = parameter.type.rstrip("]").partition("[")
    good = _is_of(kind, value)
    if good and kind == "list" and inner in TYPES:
        good = all(_is_of(inner, element) for element in value)
    if not good:
        wanted = "a finite float" if kind == "float" else parameter.type
        raise ValueError(f"page {page}: parameter {name}: {value!r} is not allowed; must be {wanted}")


def _is_of(kind: str, value) -> bool:
    good = isinstance(value, TYPES[kind]) and (kind == "bool" or not isinstance(value, bool))
    return good and (kind != "float" or math.isfinite(value))


def check_scale(scale: str) -> None:
    """Raise ValueError, listing the scales there are, for any other."""
    if scale not in SCALES:
        raise ValueError(f"scale: {scale!r} does not exist; choose from {list(SCALES)}")


def resolve_parameters(page: str | Path, scale: str = "laptop", parameters: dict | None = None) -> dict:
    """Values a run sets: the scale's name if the page asks for it, the scale's presets, then `parameters`.

    Raises ValueError, in one line, for an unknown page, scale or parameter and for a value of a wrong type.
    """
    path = page_path(page)
    check_scale(scale)
    known = page_parameters(path)
    table = path.with_name("scales.toml")
    presets = tomllib.loads(table.read_text()).get(scale, {}).get(path.stem, {}) if table.is_file() else {}
    named = {"scale": scale} if scale != "laptop" and "scale" in known else {}
    values = named | presets | (parameters or {})
    for name, value in values.items():
        if name not in known:
            raise ValueError(f"page {path.stem}: parameter {name}: does not exist; choose from {list(known)}")
        _check(path.stem, name, known[name], value)
    floats = {name: float(value) for name, value in values.items() if known[name].type == "float"}
    return values | floats


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
        records = sorted(file.name for file in Path(folder).iterdir() if file != partial)
        notebook.metadata.pop("papermill", None)
        notebook.metadata["dmmd_lite"] = {
            "fingerprint": mark,
            "page": path.stem,
            "scale": scale,
            "parameters": values,
            "records": records,
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


def save_records(page: str, records: list[dict], **extra) -> None:
    """Write {"page": page, "records": records, **extra} as `<page>.json` beside the executed page.

    Does nothing where the page is not run by `run_page`, for instance in JupyterLab.
    """
    from dmmd_lite.records import write_json

    if folder := os.environ.get("DMMD_PAGE_OUT"):
        write_json(Path(folder, f"{page}.json"), {"page": page, "records": records, **extra})


def load_results(name: str) -> list[dict]:
    """Records of `data/results/<name>.json`, as written by `save_records`.

    Raises ValueError, listing the results there are, if there is none of this name.
    """
    known = {path.stem: path for path in sorted((data_dir() / "results").glob("*.json"))}
    if name not in known:
        raise ValueError(f"results: {name!r} does not exist; choose from {list(known)}")
    return json.loads(known[name].read_text())["records"]


def parse_value(text: str):
    """A command-line value: JSON or a Python literal where it is one, else the text itself."""
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text)
        except (ValueError, SyntaxError, TypeError):
            pass
    return text
