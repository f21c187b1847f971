"""A page's source: a jupytext percent script with strict parameters.

Its cell tagged `parameters` holds annotated literals only, such as `n_steps: int = 16  # sampling steps`;
these are the names and types that a run may set. `book/scales.toml` holds the values of the other scales.
"""

import ast
import json
import tomllib
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from dmmd_lite.utils.checks import Rule, check, checked, shown
from dmmd_lite.utils.extras import require
from dmmd_lite.utils.paths import source_root
from dmmd_lite.utils.scales import check_scale

INT64 = Rule(lambda number: -(2**63) <= number < 2**63, "be a whole number of at most 64 bits")
TYPES = {"int": Annotated[int, INT64], "float": float, "str": str, "bool": bool, "list": list, "dict": dict}
KERNEL = {"name": "python3", "language": "python", "display_name": "Python 3"}
TOO_DEEP = (MemoryError, RecursionError)  # what Python's parser raises for deeply nested text


class Parameter(NamedTuple):
    """One entry of a page's parameters cell. `type` is the annotation as written, such as "list[int]"."""

    type: str
    default: object
    help: str


@checked
def page_path(page: str | Path) -> Path:
    """Return the path of a page's source, given by name ("coins") or as a path to a .py file.

    Errors: ValueError that lists the pages if there is no such page.
    """
    if page.suffix == ".py" and page.is_file():
        return page.resolve()
    if page.suffix == ".ipynb" and page.is_file():
        words = f"is a notebook; write it as a page script: jupytext --to py:percent {page.name}"
        raise ValueError(f"page: {str(page)!r} {words}")
    if str(page) in page_names():
        return source_root() / "book" / f"{page}.py"
    pages = f"one of {page_names()}" if page_names() else "the installed package has no pages of its own"
    raise ValueError(f"page: {str(page)!r} does not exist; give the path of a page script, or {pages}")


def page_names() -> list[str]:
    """Return the names of the pages in the checkout's `book/`; [] for a package from a wheel."""
    root = source_root()
    return sorted(path.stem for path in (root / "book").glob("*.py")) if root else []


def read_page(path: Path):
    """Read a page's source as a notebook object.

    Its kernel is this interpreter under the name that every notebook tool knows, whatever the tool that wrote
    the page has called its own. Errors: ValueError for a file that is not a page script.
    """
    return _as_notebook(path.stem, _text(path))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"page {path.stem}: {str(path)!r} is not text in UTF-8 ({error})") from None


def _as_notebook(stem: str, source: str):
    require("jupytext")
    import jupytext

    try:
        notebook = jupytext.reads(source, fmt="py:percent")
    except Exception as error:  # whatever is wrong in the head of the page or of a cell
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"page {stem}: its head or that of a cell cannot be read ({reason})") from None
    notebook.metadata["kernelspec"] = dict(KERNEL)
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
    return dict(_parameters(path.stem, _text(path)))


@lru_cache(maxsize=64)
def _parameters(stem: str, source: str) -> dict[str, Parameter]:
    notebook = _as_notebook(stem, source)
    cells = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    if len(cells) > 1:
        raise ValueError(f"page {stem}: parameters: {len(cells)} cells have this tag; leave it on one")
    found = {}
    for cell in cells:
        lines = cell.source.split("\n")
        try:
            nodes = ast.parse(cell.source).body
        except (SyntaxError, *TOO_DEEP) as error:
            raise ValueError(f"page {stem}: parameters: the cell is not Python ({error})") from None
        for node in nodes:
            try:
                name, kind = node.target.id, ast.unparse(node.annotation)
                default = ast.literal_eval(node.value)
                base = kind.split("[")[0]
                comment = lines[node.end_lineno - 1].encode()[node.end_col_offset :].decode()
            except (AttributeError, ValueError, TypeError, *TOO_DEEP):
                base = None
            if base not in TYPES:
                text = shown(lines[node.lineno - 1].strip())
                allowed = f"`name: type = literal` with type one of {list(TYPES)}"
                raise ValueError(f"page {stem}: parameters: {text} is not allowed; write {allowed}")
            found[name] = Parameter(kind, default, comment.strip(" #"))
            _checked(stem, name, found[name], default)
    return found


def _checked(page: str, name: str, parameter: Parameter, value):
    """Return a value of a parameter, and every element of a list, as the parameter's type.

    Errors: ValueError for another type and for what JSON cannot hold, which a notebook could not keep.
    """
    called = f"page {page}: parameter {name}"
    value = check(called, value, _hint(parameter.type))
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        if text.encode() and (read := json.loads(text)) == value:
            return read
    except (TypeError, ValueError, RecursionError):
        pass
    raise ValueError(f"{called}: {shown(value)} is not allowed; it must be what a JSON file can hold")


def _hint(annotation: str):
    """Return the type that an annotation such as "list[int]" names, for `check`."""
    base, _, inner = annotation.removesuffix("]").partition("[")
    listed = base == "list" and inner.split("[")[0] in TYPES
    return list[_hint(inner)] if listed else TYPES[base]


@checked
def resolve_parameters(
    page: str | Path, scale: str = "laptop", parameters: dict[str, Any] | None = None
) -> dict:
    """Return the values that a run sets; each source replaces values of those before it.

    The sources are the scale's name, for a page with a parameter `scale`, the scale's presets, `parameters`.
    Errors: ValueError in one line for an unknown page, scale or parameter and for a value of a wrong type.
    """
    path = page_path(page)
    check_scale(scale)
    known = page_parameters(path)
    named = {"scale": scale} if scale != "laptop" and "scale" in known else {}
    values = named | _presets(path, scale) | (parameters or {})
    for name, value in values.items():
        if name not in known:
            raise ValueError(f"page {path.stem}: parameter {name}: does not exist; choose from {list(known)}")
        values[name] = _checked(path.stem, name, known[name], value)
    return values


def _presets(page: Path, scale: str) -> dict:
    """Return the values of a page's parameters at a scale, from the file `scales.toml` beside it."""
    table = page.with_name("scales.toml")
    try:
        found = _toml(table.read_text(encoding="utf-8")) if table.is_file() else {}
        return dict(found.get(scale, {}).get(page.stem, {}))
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"page {page.stem}: {table}: cannot be read ({error})") from None


@lru_cache(maxsize=8)
def _toml(text: str) -> dict:
    return tomllib.loads(text)


def parse_value(text: str):
    """Parse a value of the command line: JSON or a Python literal if it is one, else the text itself."""
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text)
        except (ValueError, SyntaxError, TypeError, *TOO_DEEP):
            pass
    return text
