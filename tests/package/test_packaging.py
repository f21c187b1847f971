"""What a fresh clone and the wheel promise: one list of dependencies, a light core, no stray files."""

import gzip
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from helpers import ROOT
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

import dmmd_lite

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]
CORE = ["torch", "numpy", "safetensors", "filelock"]


def tracked_files() -> list[Path]:
    """Files git tracks or would add; skips the test where this is no checkout."""
    listing = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(listing, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git checkout: which files belong to it is unknown")
    return [path for path in (ROOT / name for name in done.stdout.split("\0") if name) if path.is_file()]


def pins() -> dict[str, Version]:
    """constraints.txt: name -> version."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if line and line[0] != "#"]
    return {canonicalize_name(name): Version(version) for name, version in pairs}


def test_the_core_depends_on_four_packages():
    assert [Requirement(text).name for text in PROJECT["project"]["dependencies"]] == CORE


def test_constraints_pin_every_direct_dependency_within_its_range():
    pinned = pins()
    for text in [*PROJECT["project"]["dependencies"], *(text for extra in EXTRAS.values() for text in extra)]:
        requirement = Requirement(text)
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), text


def test_environment_installs_what_pyproject_says():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *packages, pip = environment["dependencies"]
    names, versions = zip(*(f"{text}=".split("=")[:2] for text in packages), strict=True)
    assert names == ("python", "pip"), "pyproject.toml names the rest"
    assert SpecifierSet(PROJECT["project"]["requires-python"]).contains(versions[0])
    assert pip == {"pip": ["-c constraints.txt", "-e .[book,test]"]}


def test_makefile_installs_the_same_extras_under_the_same_constraints():
    installs = re.findall(r"pip install -q (.*)", (ROOT / "Makefile").read_text())
    extras = [f'-c constraints.txt -e ".[{names}]"' for names in ("bench", "book,test")]
    alone = ["-c constraints.txt torch", "-c constraints.txt --no-deps bionemo-moco"]
    assert sorted(installs) == sorted([*extras, *alone])


def test_python_range_is_the_same_everywhere():
    assert PROJECT["project"]["requires-python"] == ">=3.11,<3.14"
    assert "(3, 11) <= sys.version_info < (3, 14)" in (ROOT / "Makefile").read_text()


def test_citation_names_the_released_version():
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == dmmd_lite.__version__


def test_wheel_carries_the_data_folder():
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["force-include"] == {"data": "dmmd_lite/data"}
    assert (ROOT / "data").is_dir()


def test_continuous_integration_runs_the_local_command():
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    assert [step["run"] for step in jobs["test"]["steps"] if "run" in step] == [".ci/run"]
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111


ISOLATED = """
import importlib, pkgutil, sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ImportError(f"{name} is no dependency of the core")

sys.meta_path.insert(0, Block())
import dmmd_lite
for module in pkgutil.walk_packages(dmmd_lite.__path__, "dmmd_lite."):
    if module.name.startswith("dmmd_lite.report") or module.name.removeprefix("dmmd_lite.pages.") in (
        "display", "widgets", "sphinx_markdown"
    ):
        continue                                # figures, tables, site: what the extra `book` is for
    try:
        importlib.import_module(module.name)
    except ImportError as error:
        sys.exit(f"{module.name}: {error}")
"""


def test_every_module_imports_with_the_core_dependencies_alone():
    allowed = {"dmmd-lite"}
    wanted = list(CORE)
    while wanted:
        name = canonicalize_name(wanted.pop())
        if name not in allowed:
            allowed.add(name)
            for text in importlib.metadata.requires(name) or []:
                requirement = Requirement(text)
                if not requirement.marker or requirement.marker.evaluate({"extra": ""}):
                    wanted.append(requirement.name)
    providers = importlib.metadata.packages_distributions()
    blocked = {name for name, by in providers.items() if not allowed & set(map(canonicalize_name, by))}
    assert {"matplotlib", "jupytext", "papermill", "datasets"} <= blocked and not blocked & set(CORE)
    script = f"BLOCKED = {blocked!r}\n{ISOLATED}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr.strip().splitlines()[-1]


def test_no_notebook_is_tracked():
    assert not [path.name for path in tracked_files() if path.suffix == ".ipynb"]


def test_nothing_is_unpickled():
    unsafe = re.compile(r"\b(torch|pickle|joblib)\.loads?\(|\bimport (pickle|dill)\b|allow_pickle=True")
    for path in tracked_files():
        if path.suffix == ".py" and path != Path(__file__):
            assert not unsafe.search(path.read_text()), path.name


def test_text_is_utf_8_in_every_locale():
    implicit = re.compile(r"\.read_text\(\)|\.write_text\((?!.*utf-8)|\bopen\(\"[raw]t?\"\)|\btext=True")
    for path in (ROOT / "dmmd_lite").rglob("*.py"):
        assert not implicit.search(path.read_text("utf-8")), path.name


def test_no_file_names_a_machine_or_an_index():
    folders = re.compile(r"(?<![\w.:/])/(home|Users|root|work|mnt|scratch)/\w|[A-Z]:\\Users")
    index = re.compile(r"index-url|--find-links|pypi\.org|download\.pytorch")
    for path in tracked_files():
        if path.suffix in (".safetensors", ".png") or path == Path(__file__):
            continue
        content = path.read_bytes()
        text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
        for words in (str(ROOT), f"{Path.home()}/"):
            assert words not in text, f"{path.name} names {words}"
        assert not folders.search(text), f"{path.name} names {folders.search(text)[0]}"
        assert not index.search(text), f"{path.name} names {index.search(text)[0]}"


def test_released_weights_are_small():
    sizes = [path.stat().st_size for path in (ROOT / "data" / "models").rglob("*") if path.is_file()]
    assert max(sizes, default=0) < 4e6, "a file in data/models is over 4 MB"
    assert sum(sizes) < 24e6, "data/models is over 24 MB"
