"""Public names that are loaded when they are first asked for, so that a package is imported at once."""

import ast
import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType

PLACES: dict[str, dict[str, str]] = {}  # package -> public name -> the module that the name is loaded from


def lazy(package: str, file: str, old: dict[str, str] | None = None) -> tuple[Callable, Callable, list[str]]:
    """Make a package's `__getattr__`, `__dir__` and `__all__` from the imports in its `if TYPE_CHECKING:`.

    Editors and type checkers read those imports as they stand; at run time a name is imported when it is
    first asked for.

    Args:
    file: the package's `__init__.py`.
    old: names of an older version -> what they are called now (see `moved`).
    """
    tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    blocks = (n for n in tree.body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING")
    where = {alias.name: node.module for block in blocks for node in block.body for alias in node.names}
    PLACES[package] = where

    def load(name: str):
        if name not in where:
            return moved(package, name, old or {})
        value = getattr(import_module(where[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    return load, lambda: sorted([*vars(sys.modules[package]), *where]), sorted(where)


def moved(module: str, name: str, names: dict[str, str]):
    """Return what a name of an older version is called now, with a warning that says so: the `__getattr__` of
    a module some of whose names changed. names: old -> new. They go with the next version."""
    if name not in names:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    warnings.warn(f"{module}.{name} is now {module}.{names[name]}", FutureWarning, stacklevel=3)
    return getattr(sys.modules[module], names[name])


class MovedModule(ModuleType):
    """A module that is no longer there. Its names are read from where they are now, with a warning that names
    the new place; they go with the next version."""

    def __init__(self, name: str, names: dict[str, str]):
        """names: old name -> "module:name" of the new place."""
        super().__init__(name, f"Moved; it has {sorted(names)}.")
        self.__dict__["_names"] = names

    def __getattr__(self, name: str):
        if name not in self._names:
            raise AttributeError(f"{self.__name__} is gone; look for {name!r} in the reference of the API")
        module, _, attribute = self._names[name].partition(":")
        new = f"{module}.{attribute}"
        warnings.warn(f"{self.__name__}.{name} is now {new}", FutureWarning, stacklevel=2)
        value = import_module(module)
        for part in attribute.split("."):
            value = getattr(value, part)
        return value
