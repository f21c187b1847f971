"""A page's source: a jupytext percent script with strict parameters.

Its cell tagged `parameters` holds annotated literals only, such as `n_steps: int = 16  # sampling steps`;
these are the names and types that a run may set. `book/scales.toml` holds the values of the other scales.
"""

import ast
import json
import math
import tomllib
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from dmmd_lite.utils.paths import source_root
from dmmd_lite.utils.scales import check_scale

TYPES = {"int": int, "float": (int, float), "str": str, "bool": bool, "list": list, "dict": dict}


class Parameter(NamedTuple):
    """One entry of a page's parameters cell. `type` is the annotation as written, such as "list[int]"."""

    type: str
    default: object
    help: str


def page_path(page: str | Path) -> Path:
    """Return the path of a page's source, given by name ("coins") or as a path to a .py file.

    Errors: ValueError that lists the pages if there is no such page.
    """
    if str(page).endswith(".py"):
        if Path(page).is_file():
            return Path(page).resolve()
        raise ValueError(f"page: {str(page)!r} is not a file; name a page script or one of {page_names()}")
    if page in page_names():
        return source_root() / "book" / f"{page}.py"
    raise ValueError(f"page: {str(page)!r} does not exist; choose from {page_names()}")


def page_names() -> list[str]:
    """Return the names of the pages in the checkout's `book/`; [] for a package from a wheel."""
    root = source_root()
    return sorted(path.stem for path in (root / "book").glob("*.py")) if root else []


def read_page(path: Path):
    """Read a page's source as a notebook object, with the kernel name that every notebook tool asks for."""
    return _as_notebook(path.read_text())


def _as_notebook(source: str):
    import jupytext

    notebook = jupytext.reads(source, fmt="py:percent")
    kernel = {"name": "python3", "language": "python", "display_name": "Python 3"}
    notebook.metadata.setdefault("kernelspec", kernel)
    return notebook


class JupytextReader:
    """papermill's reader of the addresses `jupytext://PAGE.py`; it finds this class by an entry point."""

    @staticmethod
    def read(address: str) -> str:
        """Return the page at `jupytext://PATH` as a notebook in JSON."""
        import nbformat

        return nbformat.writes(read_page(page_path(address.removeprefix("jupytext://"))))

    @staticmethod
    def pretty_path(address: str) -> str:
        """Return the address unchanged."""
        return address


def page_parameters(page: str | Path) -> dict[str, Parameter]:
    """Return the parameters of a page by name, in the order of its parameters cell.

    Errors: ValueError for an unknown page, and for a parameters cell with anything but annotated literals.
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
    """Raise ValueError unless the value, and every element of a list, has the parameter's type. A bool is
    not a number; an int is a float."""
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


def resolve_parameters(page: str | Path, scale: str = "laptop", parameters: dict | None = None) -> dict:
    """Return the values that a run sets; each source replaces values of those before it.

    The sources are the scale's name, for a page with a parameter `scale`, the scale's presets, `parameters`.
    Errors: ValueError in one line for an unknown page, scale or parameter and for a value of a wrong type.
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


def parse_value(text: str):
    """Parse a value of the command line: JSON or a Python literal if it is one, else the text itself."""
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text)
        except (ValueError, SyntaxError, TypeError):
            pass
    return text
