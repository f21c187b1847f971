"""Attacks on everything that a user can set, made up from signatures, fields, parsers and files.

Each call begins with values that are allowed, and one or two of them are replaced by hostile ones. It may do
its work, or else end in a ValueError (on the command line: exit code 2) of one line that begins with a name;
then nothing was written. `--fuzz-seconds` and `--fuzz-seed` say for how long and from which seed.
"""

import copy
import inspect
import json
import math
import random
import re
import shutil
import signal
import sys
import time
import traceback
import types
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
import pytest
import torch
from helpers import contents, save_random_model, tiny_network

import dmmd_lite
from dmmd_lite.cli import main, make_parser
from dmmd_lite.models import loading
from dmmd_lite.pages import run, sweep
from dmmd_lite.pages.source import page_names, page_parameters, resolve_parameters
from dmmd_lite.recipes.catalogue import RECIPES, get_recipe
from dmmd_lite.recipes.recipe import Recipe
from dmmd_lite.utils import checks
from dmmd_lite.utils.errors import Failure
from dmmd_lite.utils.lazy import PLACES
from dmmd_lite.utils.paths import PACKAGE

TOO_LONG = 30  # seconds for one call, which takes a few milliseconds
ONE_LINE = re.compile(r"[^:\n]{1,200}: [^\n]+")


def nested(depth: int, make=lambda inner: [inner]):
    """A value in that many lists, or other containers."""
    value = 1
    for _ in range(depth):
        value = make(value)
    return value


HOSTILE = [  # values of every type and range; those that are allowed somewhere are cheap there
    *(None, True, False, -1, 0, 1, 2, 3, 7, 2**31, 2**63, 2**64, -(2**70), 10**30, 10**400),
    *(0.0, -0.0, 0.5, 1.0, 1.5, -1e-9, 1e-320, 1e308, math.nan, math.inf, -math.inf, 1j, b"bytes"),
    *("", " ", "x", "..", "../x", "/", "a/b", "a\0b", "a\nb", "\ud800", "é" * 300, "~nobody/x", "nan", "-1"),
    *([], [1], [1, 2], ["x"], [None], [[1, 2], [3]], (), (1, 2, 3), {}, {"x": 1}, {1: 2}, {"": {}}, set()),
    *(nested(3000), nested(3000, lambda inner: {"x": inner}), object(), print, lambda *_: None),
    *(np.int64(3), np.float32(0.5), np.bool_(True), np.array([1, 2]), np.zeros((2, 2)), np.array(["a"])),
    *(torch.tensor(3), torch.zeros(0), torch.zeros(2, 3), torch.full((2, 2), -5), torch.ones(2, 2).long()),
    *(torch.full((2, 2), 99), torch.full((2,), math.nan), torch.ones(2, dtype=torch.complex64), Path("x")),
    *(torch.nn.Linear(1, 1), types.SimpleNamespace(name="x"), iter([1]), Path("/proc/x"), "/dev/null/x"),
]


class Slow(BaseException):
    """A call that took too long."""


@contextmanager
def limited(seconds: int):
    """Interrupt what takes longer."""

    def stop(*_):
        raise Slow(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


class Fuzzer:
    """What is tried, by kind, and what went wrong."""

    def __init__(self, seed: int, folder: Path):
        self.random, self.folder = random.Random(seed), folder
        self.tried, self.refused, self.faults = Counter(), Counter(), {}

    def hostile(self):
        """Any hostile value, or some of them in a container."""
        value = self.random.choice(HOSTILE)
        return self.random.choice([value] * 8 + [[value], {"x": value}])

    def call(self, kind: str, what: str, function: Callable) -> None:
        """Call a function; a fault is kept with what was called."""
        if len(self.written()) > 50:
            shutil.rmtree(self.folder / "out")
            (self.folder / "out").mkdir()
        before, fault = self.written(), None
        self.tried[kind] += 1
        try:
            with limited(TOO_LONG):
                function()
        except ValueError as error:
            self.refused[kind] += 1
            ours = Path(traceback.extract_tb(error.__traceback__)[-1].filename).is_relative_to(PACKAGE)
            if not ours or not ONE_LINE.fullmatch(str(error)):
                fault = error
            elif self.written() != before:
                fault = f"wrote something and then: {error}"
        except Failure:
            pass  # work that began: a loss that is not finite, a distribution that is none
        except (Exception, Slow, SystemExit) as error:
            fault = error
        if fault is not None:
            place = ""
            if isinstance(fault, BaseException):
                frames = traceback.extract_tb(fault.__traceback__)
                ours = [frame for frame in frames if Path(frame.filename).is_relative_to(PACKAGE)]
                place = f" at {Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else ""
                fault = f"{type(fault).__name__}: {str(fault)[:200]!r}"
            key = re.sub(r"[0-9]+", "#", f"{kind} {what.split('(')[0]} {fault[:60]}{place}")
            self.faults.setdefault(key, f"{kind}: {what[:300]}: {fault}{place}")

    def written(self) -> dict:
        """What lies in the folder of outputs."""
        found = contents(self.folder / "out")
        return {name: text for name, text in found.items() if not name.endswith(".lock")}


# --- functions and classes --------------------------------------------------------------------------------


class Examples:
    """Values that are allowed, by the names and types of parameters."""

    def __init__(self, folder: Path):
        self.folder, self.rng = folder, torch.Generator().manual_seed(0)
        self.world = dmmd_lite.get_world("coins")
        self.process = dmmd_lite.get_process("masked", 2)
        self.network = tiny_network(self.process, 2, self.rng)
        self.denoiser = dmmd_lite.NetworkDenoiser(self.network, self.process)
        self.options = dmmd_lite.TrainingOptions(1, 2, {"denoiser": 1e-3})
        (folder / "text.txt").write_text("one two three four\n\n" * 50)
        save_random_model("coins-masked-dmmd-2", folder / "student" / "model", self.rng)
        self.model = dmmd_lite.load_model(str(folder / "student"))
        dmmd_lite.save_pretrained(self.model, folder / "pretrained")
        self.names = {
            "name": ["own", "coins-masked-exact", "coins", "masked", str(folder / "student")],
            "scale": ["smoke"],
            "process": ["masked", "uniform", self.process],
            "schedule": ["linear", "cosine"],
            "split": ["test", "train"],
            "of": ["test"],
            "role": ["teacher"],
            "world": ["coins", self.world],
            "folder": [str(folder / "pretrained"), folder / "out" / "saved"],
            "source": [str(folder / "text.txt")],
            "names": [["total_variation"], ["sample_entropy"]],
            "tokens": [[[0, 1]] * 40, torch.zeros(40, 2).long()],
            "network": [self.network, {}, {"width": 16, "heads": 2, "depth": 1}],
            "output": ["posterior"],
            "loss": ["cross_entropy"],
            "x": [torch.zeros(2, 2).long()],
            "z": [torch.full((2, 2), 2)],
            "t": [torch.full((2,), 0.5)],
            "log_x": [torch.zeros(2, 2, 2).log_softmax(-1)],
            "data": [self.world.sample],
            "options": [self.options],
            "changes": [{}, {"training.steps": 1}],
            "values": [get_recipe("coins-masked-dmmd-2").to_dict()],
            "settings": [],
            "method": [dmmd_lite.DenoisingObjective(copy.deepcopy(self.denoiser), self.process)],
            "updates": [1],
            "batch_size": [2],
            "symbols": ["letters", ""],
            "judge": [None],
            "features": [None],
            "validate": [None],
            "teacher": [self.model, self.denoiser],
            "identity": ["", {"a": 1}],
        }
        self.types = {
            int: [1, 2, 4],
            float: [0.5, 1.0],
            bool: [True, False],
            str: ["x"],
            Path: [folder / "out" / "run"],
            type(None): [None],
            torch.Generator: [self.rng],
            torch.device: ["cpu"],
            dict: [{}],
            list: [[]],
            tuple: [()],
            Callable: [lambda *_, **__: None],
        }
        record = dmmd_lite.Record("kl", 1.0, 0.5, 1.5, 4, "exact")
        settings, recipe = dmmd_lite.DMMDSettings(2), get_recipe("coins-masked-dmmd-2", "smoke")
        ours = (self.world, self.process, self.network, self.denoiser, self.options, self.model)
        self.types |= {type(value): [value] for value in (*ours, record, settings, recipe)}

    def of(self, name: str, hint, choose: random.Random):
        """A value for a parameter."""
        found = [value for value in self.names.get(name, []) if hint is Any or checks._is_a(value, hint)]
        return choose.choice(found) if found else self.of_type(hint, choose)

    def of_type(self, hint, choose: random.Random):
        """A value of an annotation."""
        origin, parts = get_origin(hint), get_args(hint)
        if origin is Annotated:
            allowed = [self.of_type(parts[0], choose) for _ in range(20)]
            return next((v for v in allowed if all(r.allows(v) for r in parts[1:])), allowed[0])
        if origin is Literal:
            return choose.choice(parts)
        if origin in (Union, types.UnionType):
            return self.of_type(choose.choice(parts), choose)
        kind = origin or hint
        if kind in self.types:
            return choose.choice(self.types[kind])
        if isinstance(kind, type):
            for known, values in self.types.items():
                if issubclass(known, kind) and known is not bool:
                    return choose.choice(values)
            if issubclass(kind, Mapping | Iterable):
                return []
            if kind.__module__.startswith("dmmd_lite"):
                with suppress(ValueError):  # no example fits; the call is refused
                    return build(kind, self, choose)[2]()
        return None


QUICK = {"network", "updates", "batch_size", "num"}  # their defaults take long


def build(function: Callable, examples: Examples, choose: random.Random, hostile: Callable | None = None):
    """Make a call of allowed values, or with hostile ones: (names of these, arguments, call)."""
    target = function.__init__ if isinstance(function, type) else function
    try:
        hints, arguments = get_type_hints(target, include_extras=True), {}
    except NameError:  # of types that are imported for editors alone
        hints, arguments = {}, {}
    parameters = [
        p
        for p in inspect.signature(function).parameters.values()
        if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    for p in parameters:
        if p.default is p.empty or p.name in QUICK or choose.random() < 0.3:
            arguments[p.name] = examples.of(p.name, hints.get(p.name, Any), choose)
    changed = choose.sample([p.name for p in parameters], min(len(parameters), choose.choice([1, 1, 1, 2])))
    if hostile is not None:
        arguments |= {name: hostile() for name in changed}
        for name in changed:  # what a user's function raises is not ours
            if "Callable" in str(hints.get(name)) and isinstance(arguments[name], torch.nn.Module):
                arguments[name] = print
    return changed, arguments, lambda: function(**arguments)


def public_functions() -> dict[str, Callable]:
    """All public functions and classes of the package and its rooms, by name."""
    for room in (
        "metrics",
        "models",
        "recipes",
        "training",
        "denoisers",
        "objectives",
        "processes",
        "worlds",
    ):
        __import__(f"dmmd_lite.{room}")
    found = {}
    for package, names in PLACES.items():
        for name in names:
            value = getattr(sys.modules[package], name)
            if callable(value) and not inspect.isabstract(value) and not issubclass_of_protocol(value):
                found[f"{package.removeprefix('dmmd_lite').lstrip('.')}.{name}".lstrip(".")] = value
    return found


def issubclass_of_protocol(value) -> bool:
    """Whether a class only describes others."""
    return (
        getattr(value, "_is_protocol", False)
        or value in (Exception,)
        or (isinstance(value, type) and issubclass(value, BaseException))
    )


def methods_of(examples: Examples) -> dict[str, Callable]:
    """The public methods of some objects that users hold."""
    objects = {"Model": examples.model, "World": examples.world, "Recipe": get_recipe("coins-masked-dmmd-2")}
    found = {}
    for name, value in objects.items():
        for key, method in inspect.getmembers(value, inspect.ismethod):
            if not key.startswith("_") and key != "named_errors":
                found[f"{name}.{key}"] = method
    return found


def attack_functions(fuzzer: Fuzzer, examples: Examples, functions: dict[str, Callable]) -> None:
    """Call one function."""
    name = fuzzer.random.choice(sorted(functions))
    _, arguments, call = build(functions[name], examples, fuzzer.random, fuzzer.hostile)
    shown = ", ".join(f"{key}={checks.shown(value)}" for key, value in arguments.items())
    fuzzer.call("API", f"{name}({shown})", call)


# --- recipes, the command line, pages ---------------------------------------------------------------------


def keys_of(values: dict, prefix: str = "") -> list[str]:
    """All dotted keys of nested dictionaries, those of dictionaries too."""
    inner = (keys_of(v, f"{prefix}{k}.") for k, v in values.items() if isinstance(v, dict))
    return [f"{prefix}{k}" for k in values] + [key for keys in inner for key in keys]


def attack_recipes(fuzzer: Fuzzer, examples: Examples) -> None:
    """Change one or two keys of a recipe, and come as far as the first step of its training."""
    name = fuzzer.random.choice(["coins-masked-teacher", "coins-uniform-exact", *STUDENTS])
    keys = fuzzer.random.sample([*keys_of(get_recipe(name, "smoke").to_dict()), "x", "training.lr.x", ""], 2)
    changes = {key: fuzzer.hostile() for key in keys[: fuzzer.random.choice([1, 1, 2])]}

    def change():
        recipe = get_recipe(name, "smoke", changes)
        json.dumps(recipe.to_dict())
        assert Recipe.from_dict(recipe.to_dict()) == recipe
        if recipe.training is not None:
            loading.train_recipe(recipe, examples.folder / "out" / "run")

    fuzzer.call("recipes", f"{name} {checks.shown(changes)}", change)


STUDENTS = [name for name in RECIPES if name.startswith("coins") and name.split("-")[-1] in ("1", "2")]
COMMANDS = {  # commands with arguments that are allowed; FOLDER is that of the examples
    "recipes": ["coins-masked-exact"],
    "train": ["coins-masked-teacher", "--scale", "smoke", "--out", "FOLDER/out/run"],
    "sample": ["coins-masked-exact", "--num", "2", "--steps", "2", "--out", "FOLDER/out/a.npz"],
    "evaluate": ["coins-masked-exact", "--num", "4", "--steps", "2", "--metrics", "total_variation"],
    "page": ["coins", "--scale", "smoke", "--out", "FOLDER/out/page"],
    "sweep": ["coins", "--scale", "smoke", "-p", "seed", "1", "2", "--out", "FOLDER/out/sweep"],
}


def attack_commands(fuzzer: Fuzzer, examples: Examples, capsys) -> None:
    """Give one option of a command a hostile value, or replace an argument."""
    command = fuzzer.random.choice(sorted(COMMANDS))
    (subparsers,) = (a for a in make_parser()._actions if hasattr(a, "choices") and a.choices)
    options = [a for a in subparsers.choices[command]._actions if a.option_strings and a.dest != "help"]
    arguments = [a.replace("FOLDER", str(examples.folder)) for a in COMMANDS[command]]
    text = json_text(fuzzer.hostile(), fuzzer.random.choice([str, json.dumps, repr]))[:50_000]
    text = text.replace("\0", "").encode("utf-8", "surrogateescape" if text.isascii() else "replace").decode()
    match fuzzer.random.randrange(3):
        case 0:
            arguments[fuzzer.random.randrange(len(arguments))] = text
        case 1:
            option = fuzzer.random.choice(options)
            values = [] if option.nargs == 0 else [text] * (2 if option.nargs == 2 else 1)
            arguments += [fuzzer.random.choice(option.option_strings), *values]
        case _:
            option = fuzzer.random.choice(options)
            arguments += [f"{option.option_strings[-1]}={text}"]
    if any(re.fullmatch(r"-(p)?h(elp)?|--h\w*", argument) for argument in arguments):
        return

    def run_command():
        capsys.readouterr()
        code = main([command, *arguments])
        lines = capsys.readouterr().err.splitlines()
        if code == 2 and len(lines) == 1:
            raise ValueError(lines[0].removeprefix("dmmd-lite: ")).with_traceback(OURS)
        assert code == 0 or lines[-1:] == ["dmmd-lite: far enough"], (code, lines[-3:])

    fuzzer.call("commands", f"{command} {[a[:60] for a in arguments]}", run_command)


def json_text(value, write: Callable = json.dumps) -> str:
    """A value written as JSON, or brackets without an end where it cannot be."""
    try:
        return write(value)
    except (TypeError, ValueError, RecursionError):
        return "[" * 100_000


def attack_pages(fuzzer: Fuzzer, examples: Examples) -> None:
    """Give a page one or two parameters."""
    page = fuzzer.random.choice([*page_names(), fuzzer.hostile()])
    known = list(page_parameters(page)) if isinstance(page, str) and page in page_names() else []
    names = [fuzzer.random.choice([*known, "x", ""]) for _ in range(2)]
    values = {name: fuzzer.hostile() for name in names[: fuzzer.random.choice([1, 2])]}
    scale = fuzzer.random.choice(["smoke", "laptop", "smoke", fuzzer.hostile()])
    what = f"{checks.shown(page)} {checks.shown(scale)} {checks.shown(values)}"
    fuzzer.call("pages", what, lambda: resolve_parameters(page, scale, values))


# --- files ------------------------------------------------------------------------------------------------


def attack_files(fuzzer: Fuzzer, examples: Examples) -> None:
    """Damage a file of a model, or the text that a world is made of, and read it."""
    kind, choose = fuzzer.random.choice(["student", "pretrained", "text"]), fuzzer.random
    folder = examples.folder / "copy"
    shutil.rmtree(folder, ignore_errors=True)
    if kind == "text":
        folder.mkdir()
        shutil.copy(examples.folder / "text.txt", folder)
    else:
        shutil.copytree(examples.folder / kind, folder)
    file = choose.choice(sorted(path for path in folder.iterdir() if path.is_file()))
    content = bytearray(file.read_bytes())
    if file.suffix == ".json" and choose.random() < 0.7:
        content, what = replaced(json.loads(content), fuzzer)
    else:
        match choose.randrange(4):
            case 0:
                content, what = content[: choose.randrange(len(content))], "cut"
            case 1:
                place = choose.randrange(len(content))
                content[place] ^= 1 << choose.randrange(8)
                what = f"bit {place}"
            case 2:
                content, what = bytes(choose.randrange(256) for _ in range(100)), "random bytes"
            case _:
                content, what = b"\x80\x04]\x94(K\x01K\x02K\x03e.", "a pickle"
    file.write_bytes(content)
    ending = choose.choice([".txt", ".json", ".jsonl", ".parquet", ".txt.gz", ".TXT"])
    if kind == "text":
        file = file.rename(file.with_name(f"text{ending}"))
    readers = {
        "student": lambda: dmmd_lite.load_model(str(folder)),
        "pretrained": lambda: dmmd_lite.from_pretrained(folder),
        "text": lambda: dmmd_lite.text_world("own", str(file), length=4).sample(2, examples.rng),
    }
    fuzzer.call("files", f"{kind} {file.name} {what}", readers[kind])


def replaced(values: dict, fuzzer: Fuzzer) -> tuple[bytes, str]:
    """JSON with one entry replaced, removed, or added; and in words."""
    place, path = values, []
    while isinstance(place, dict) and place and (not path or fuzzer.random.random() < 0.6):
        key = fuzzer.random.choice(list(place))
        path.append((place, key))
        place = place[key]
    holder, key = path[-1]
    if fuzzer.random.random() < 0.2:
        del holder[key]
        return json.dumps(values).encode(), f"without {key}"
    holder[key] = "HERE"
    text = json_text(fuzzer.hostile())
    return json.dumps(values).replace('"HERE"', text).encode(), f"{key} = {text[:100]}"


def an_error_of_ours():
    """A traceback that ends in the package."""
    try:
        checks.check("x", 1, str)
    except ValueError as error:
        frames = error.__traceback__
        while frames.tb_next:
            frames = frames.tb_next
        return frames


OURS = an_error_of_ours()


@pytest.mark.slow
def test_whatever_is_set_works_or_is_refused_in_one_line(tmp_path, monkeypatch, capsys, request):
    seconds, seed = (request.config.getoption(f"--fuzz-{name}") for name in ("seconds", "seed"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DMMD_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("DMMD_DATA_DIR", raising=False)
    monkeypatch.setattr(loading, "train", lambda *a, **k: (_ for _ in ()).throw(Failure("far enough")))
    monkeypatch.setattr(
        run, "run_page", lambda page, out, scale, values: resolve_parameters(page, scale, values)
    )
    monkeypatch.setattr(
        sweep, "sweep", lambda page, grid, out, scale, **_: sweep.plan(page, grid, out, scale)
    )
    (tmp_path / "out").mkdir()
    examples, fuzzer = Examples(tmp_path), Fuzzer(seed, tmp_path)
    functions = public_functions() | methods_of(examples)
    for name, function in functions.items():  # what is allowed works
        fuzzer.call("allowed", name, build(function, examples, fuzzer.random)[2])
    kinds = [
        lambda: attack_functions(fuzzer, examples, functions),
        lambda: attack_functions(fuzzer, examples, functions),
        lambda: attack_recipes(fuzzer, examples),
        lambda: attack_commands(fuzzer, examples, capsys),
        lambda: attack_pages(fuzzer, examples),
        lambda: attack_files(fuzzer, examples),
    ]
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        fuzzer.random.choice(kinds)()
    with capsys.disabled():
        counts = ", ".join(f"{n} {kind} ({fuzzer.refused[kind]} refused)" for kind, n in fuzzer.tried.items())
        print(f"\nfuzzer, seed {seed}: {sum(fuzzer.tried.values())} calls: {counts}")
    assert not fuzzer.faults, f"{len(fuzzer.faults)} faults:\n" + "\n".join(fuzzer.faults.values())
