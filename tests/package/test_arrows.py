"""Imports go one way: every room of the package imports only from the rooms below it."""

import ast
from importlib import import_module

from helpers import ROOT

from dmmd_lite.utils.lazy import PLACES

PACKAGE = ROOT / "dmmd_lite"
ROOMS = {  # room -> the rooms it may import from
    "utils": "",
    "networks": "utils",
    "processes": "utils",
    "worlds": "utils",
    "training": "utils",
    "denoisers": "networks processes worlds utils",
    "sampling": "denoisers processes utils",
    "objectives": "sampling denoisers processes utils",
    "metrics": "sampling denoisers processes worlds utils",
    "recipes": "objectives training denoisers networks processes worlds utils",
    "models": "recipes metrics objectives training sampling denoisers networks processes worlds utils",
    "studies": "models recipes metrics objectives training denoisers processes worlds utils",
    "pages": "utils",
    "report": "studies models recipes metrics objectives denoisers networks processes worlds pages utils",
    "cli": "report pages studies models recipes metrics objectives training denoisers worlds utils",
    "__main__": "cli",
}


FILES_ALONE = ("sampling", "cli", "__main__")  # rooms that are one file


def name_of(path) -> str:
    """The dotted name of a module, from the package on: "" for the package itself."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip(".")


FILES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def target(module: str, name: str) -> str:
    """The module that `from module import name` takes a name from, also through a lazy door."""
    inner = f"{module}.{name}"
    if inner.removeprefix("dmmd_lite.") in FILES:
        return inner
    import_module(module)  # a door fills PLACES when it is imported
    place = PLACES.get(module, {}).get(name)
    return target(place, name) if place else module


def imports_of(path) -> set[str]:
    """Modules of the package that a file imports, at its top or within functions, but for types alone."""
    tree, found = ast.parse(path.read_text()), set()
    typed = [n for n in ast.walk(tree) if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    skipped = {id(inner) for node in typed for part in node.body for inner in ast.walk(part)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and id(node) not in skipped:
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and id(node) not in skipped:
            assert not node.level, f"{path}: relative imports hide where they lead"
            ours = f"{node.module}.".startswith("dmmd_lite.")
            found |= {target(node.module, alias.name) if ours else node.module for alias in node.names}
    ours = {name.removeprefix("dmmd_lite.") for name in found if name.startswith("dmmd_lite.")}
    return ours  # `import dmmd_lite` itself is for the version


GRAPH = {name: imports_of(path) for name, path in FILES.items()}


def test_imports_are_seen_however_they_are_written(tmp_path):
    lines = ["import dmmd_lite.report.plots", "from dmmd_lite import load_model"]
    lines.append("from dmmd_lite.models import Model")
    (tmp_path / "module.py").write_text("def f():\n" + "".join(f"    {line}\n" for line in lines))
    assert imports_of(tmp_path / "module.py") == {"report.plots", "models.loading", "models.model"}


def test_there_are_no_more_rooms_than_a_reader_can_see():
    entries = {path.name for path in PACKAGE.iterdir() if not path.name.startswith("__pycache__")}
    rooms = {f"{room}.py" if room in FILES_ALONE else room for room in ROOMS}
    assert entries == {"__init__.py"} | rooms
    assert len(entries) <= 17


def test_nothing_imports_upwards():
    wrong = [
        f"{FILES[name].relative_to(ROOT)} imports {other}"
        for name, others in GRAPH.items()
        for other in sorted(others)
        if name
        and (here := name.split(".")[0]) != (there := other.split(".")[0])
        and there not in ROOMS[here].split()
    ]
    assert not wrong, "\n".join(wrong)


def test_no_modules_import_each_other_in_a_circle():
    left = {name: set(others) for name, others in GRAPH.items()}
    while free := [name for name, others in left.items() if not others & left.keys() - {name}]:
        for name in free:
            del left[name]
    assert not left, f"a circle among {sorted(left)}"


def test_rooms_stand_at_most_ten_storeys_high():
    heights = {}
    for room in ROOMS:  # in an order in which what a room imports from comes first
        below = {
            other.split(".")[0] for name in GRAPH if name.split(".")[0] == room for other in GRAPH[name]
        } - {room}
        heights[room] = 1 + max((heights[other] for other in below), default=0)
    assert heights.pop("__main__") <= 11 and max(heights.values()) <= 10, heights
