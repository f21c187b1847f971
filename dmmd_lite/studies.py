"""Studies: a student's recipe with one thing changed at a time, all trained and measured on the same terms.

Each study belongs to a page. What was expected of it was written down before its runs; `verdicts` holds that
against the records, whichever way they came out, and against how much training seeds differ.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import product
from math import inf
from typing import Any

from torch import Tensor

from dmmd_lite.evaluate import draw_samples, evaluate
from dmmd_lite.leaderboard import JUDGED_BY, samples_of
from dmmd_lite.methods import METHODS
from dmmd_lite.processes import PROCESSES
from dmmd_lite.recipe import Recipe
from dmmd_lite.recipes import get_recipe
from dmmd_lite.records import Record, machine
from dmmd_lite.results import field_of, select, spread
from dmmd_lite.samples import from_text, to_text
from dmmd_lite.sizes import TEXT_WORLDS
from dmmd_lite.store import model_of
from dmmd_lite.training import NonFiniteLoss

PLAIN = "as it is"  # the variant without a change
BEFORE = "before distillation"  # the network a student starts from, in the student's number of steps
WITHOUT = "without noise input"
SEEDS = 3  # training seeds a verdict needs
SHOWN = 16  # samples of images kept
DIVERGED = "updates_before_divergence"  # the metric of a training whose loss stopped being finite
Variants = dict[
    str, dict[str, Any] | str
]  # what each is called -> changes to the recipe, or another one's name


@dataclass(frozen=True)
class Expectation:
    """That the variant `less` has a lower value of a metric than the variant `more`."""

    text: str
    less: str
    more: str
    metric: str = ""  # "": the one that decides on the student's world
    process: str = ""  # of the students it is about; "": all


@dataclass(frozen=True)
class Study:
    """students: recipes' names; variants: of a student's recipe; expected: before anything was run."""

    students: tuple[str, ...]
    variants: Callable[[Recipe], Variants]
    expected: tuple[Expectation, ...]


def _tau(temperature: float) -> str:
    return f"τ = {temperature:g}"


def _top_p(top_p: float, delta: float = 2) -> str:
    return f"p = {top_p:g}, Δ = {delta:g}"


def _temperatures(recipe: Recipe) -> Variants:
    return {_tau(t): {"method.temperature": t} for t in (0.6, 0.7, 0.8, 0.9, 0.95, 1.1)}


def _exclusions(recipe: Recipe) -> Variants:
    """Teacher top-p at Δ = 2, as published, and other Δ at the published top-p; 1e20 excludes for good."""
    settings = [(p, 2) for p in (0.5, 0.7, 0.85, 0.95)] + [(0.85, d) for d in (0.5, 8, 1e20)]
    return {_top_p(p, d): {"method.top_p": p, "method.delta": float(d)} for p, d in settings}


def _noise(recipe: Recipe) -> Variants:
    return {WITHOUT: f"{recipe.name}-nonoise"}


def _choices(recipe: Recipe) -> Variants:
    """What the paper leaves open; of text, where a run takes longest, only whose turn it is."""
    rates, average = recipe.training.lr, recipe.training.ema["generator"]
    other = {"alternating": "fused", "fused": "alternating"}[recipe.method.updates]
    turns: Variants = {
        f"{other} updates": _as_often(recipe, {"method.updates": other}),
        f"{other} updates, as much work": _as_long(recipe, {"method.updates": other}),
    }
    if recipe.world in TEXT_WORLDS:
        return turns
    variants: Variants = turns | {
        "w(s) of the bound": {"method.weight": "bound"},
        "w(s): mean over scored": {"method.weight": "mean"},
        "no anchor": {"method.anchor": False},
        "soft target": {"method.target": "soft"},
        "2 auxiliary updates": _as_often(recipe, {"method.auxiliary_updates": 2}),
        "auxiliary rate x 1/2": {"training.lr.auxiliary": rates["auxiliary"] / 2},
        "auxiliary rate x 4": {"training.lr.auxiliary": rates["auxiliary"] * 4},
        "both rates x 1/4": {f"training.lr.{player}": rate / 4 for player, rate in rates.items()},
        "both rates x 4": {f"training.lr.{player}": rate * 4 for player, rate in rates.items()},
        "raw weights": {"training.ema.generator": 0.0},
        "ten times slower averaging": {"training.ema.generator": round(1 - (1 - average) / 10, 6)},
        "Adam's averages 0.9, 0.999": {"training.betas": [0.9, 0.999]},
        "from random weights": {"start": ""},
        "other first noise weights": {"network.noise_std": 0.5},
        "independent s and t": {"method.times": "independent", "method.reverse": "forward"},
    }
    if recipe.training.validate_every:
        variants["last checkpoint, not the best"] = {"training.validate_every": 0}
    return variants


def _as_often(recipe: Recipe, changes: dict[str, Any]) -> dict[str, Any]:
    """Changes of whose turn it is, with so many steps that the generator is updated as often as before."""
    return _stretched(recipe, changes, _steps_a_turn(recipe.with_changes(changes)) / _steps_a_turn(recipe))


def _as_long(recipe: Recipe, changes: dict[str, Any]) -> dict[str, Any]:
    """The same with so many steps that as many forward passes' worth of work is done as before."""
    before, after = (METHODS[r.role].forwards(r.method) for r in (recipe, recipe.with_changes(changes)))
    return _stretched(recipe, changes, before / after)


def _stretched(recipe: Recipe, changes: dict[str, Any], length: float) -> dict[str, Any]:
    """Changes, and a run so many times as long, validated as often."""
    steps, validate = recipe.training.steps, recipe.training.validate_every
    longer = {"training.steps": round(length * steps), "training.validate_every": round(length * validate)}
    return changes | {key: value for key, value in longer.items() if value}


def _steps_a_turn(recipe: Recipe) -> int:
    """Loop steps for each update of the generator."""
    return recipe.method.auxiliary_updates + (recipe.method.updates == "alternating")


_IMAGES = tuple(f"{w}-{p}-dmmd-{k}" for (w, k), p in product({"digits": 8, "glyphs": 16}.items(), PROCESSES))
_STEPS = {"digits": (1, 4, 8, 16), "glyphs": (4, 8, 16, 32)}
STUDIES = {
    "fig5_teacher_temperature": Study(
        _IMAGES,
        _temperatures,
        (
            Expectation("A teacher a little sharper helps (0.95).", _tau(0.95), PLAIN),
            Expectation("A teacher a little sharper helps (0.9).", _tau(0.9), PLAIN),
            Expectation("A much sharper one does not (0.6).", PLAIN, _tau(0.6)),
            Expectation("A teacher less sharp hurts (1.1).", PLAIN, _tau(1.1)),
            Expectation(
                "A sharper one makes the student's output surer (0.9).", _tau(0.9), PLAIN, "output_entropy"
            ),
        ),
    ),
    "fig6_teacher_top_p": Study(
        _IMAGES,
        _exclusions,
        (
            Expectation("A teacher cut a little helps (0.95).", _top_p(0.95), PLAIN),
            Expectation("A teacher cut a little helps (0.85).", _top_p(0.85), PLAIN),
            Expectation("One cut hard does not (0.5).", PLAIN, _top_p(0.5)),
            Expectation("Excluding for good is worse than no distillation.", BEFORE, _top_p(0.85, 1e20)),
        ),
    ),
    "table6_noise_input": Study(
        tuple(f"{w}-{p}-dmmd-{k}" for w in _STEPS for p, k in product(PROCESSES, _STEPS[w])),
        _noise,
        (
            Expectation("Noise input helps masked students.", PLAIN, WITHOUT, process="masked"),
            Expectation("Noise input makes the student's output surer.", PLAIN, WITHOUT, "output_entropy"),
        ),
    ),
    "open_choices": Study(
        ("coins-masked-dmmd-1", "digits-masked-dmmd-4", "docstrings-masked-dmmd-16"),
        _choices,
        (
            Expectation("Averaged weights beat raw ones.", PLAIN, "raw weights"),
            Expectation("Without momentum is better.", PLAIN, "Adam's averages 0.9, 0.999"),
            Expectation("The teacher's weights are the better start.", PLAIN, "from random weights"),
            Expectation("A slow auxiliary hurts.", PLAIN, "auxiliary rate x 1/2"),
            Expectation("The anchor helps.", PLAIN, "no anchor"),
            Expectation("A draw for each player is better than one for both.", "alternating updates", PLAIN),
            Expectation(
                "One draw for both is better for as much work.", PLAIN, "alternating updates, as much work"
            ),
        ),
    ),
}


def by_world(study: str) -> list[list[str]]:
    """The students of a study, those of one world together."""
    worlds: dict[str, list[str]] = {}
    for student in STUDIES[study].students:
        worlds.setdefault(get_recipe(student).world, []).append(student)
    return list(worlds.values())


def variants(study: str, student: str) -> Variants:
    """All variants of a student in a study: the plain one first, the network it starts from last.

    ValueError for another student.
    """
    if student not in STUDIES[study].students:
        raise ValueError(
            f"student: {student!r} is not allowed in {study}; choose from {STUDIES[study].students}"
        )
    recipe = get_recipe(student)
    return {PLAIN: {}} | STUDIES[study].variants(recipe) | {BEFORE: recipe.start}


def run(
    study: str, student: str, variant: str, *, seed: int = 0, num: int | None = None, scale: str = "laptop"
) -> list[Record]:
    """Train a variant (kept in the cache) and measure it on test data, in the steps the student is for.

    num: samples, by default as many as on the leaderboard; seed: of the training. The records' model is
    called "STUDENT: VARIANT", their details hold the changes and, of images, the first samples. A training
    whose loss stops being finite leaves one record of how many updates that took. ValueError for an unknown
    variant.
    """
    known = variants(study, student)
    if variant not in known:
        raise ValueError(f"variant: {variant!r} is not allowed; choose from {list(known)}")
    recipe = varied(student, known[variant], scale)
    steps, names = get_recipe(student, scale).method.steps, [*JUDGED_BY[recipe.world], "output_entropy"]
    context = {"variant": variant, "changes": known[variant] if isinstance(known[variant], dict) else {}}
    told = {"model": f"{student}: {variant}"}
    try:
        model = model_of(recipe, 0 if variant == BEFORE else seed)
    except NonFiniteLoss as error:
        made = {"training_seed": seed, "measured": machine("cpu")}
        told |= {"world": recipe.world, "steps": steps, "provenance": made}
        return [Record(DIVERGED, error.step, None, None, 0, "none", context, **told)]
    num, drawn = num or samples_of(recipe.world), None
    if model.world.image_shape is not None:
        drawn = draw_samples(model, num, steps)
        context["samples"] = to_text(drawn.tokens[:SHOWN])
    found = evaluate(model, names, steps=steps, num=num, samples=drawn)
    return [replace(r, **told, details={**r.details, **context}) for r in found]


def varied(student: str, change: dict[str, Any] | str, scale: str = "laptop") -> Recipe:
    """The recipe of a variant: a student's with changes, or the one that is named."""
    return get_recipe(change, scale) if isinstance(change, str) else get_recipe(student, scale, change)


def measure(
    study: str, students: Iterable[str], variants: Iterable[str], seeds: Iterable[int], num: int | None = None
) -> list[dict]:
    """Records of `run` for every combination, as dictionaries."""
    cells = product(students, variants, seeds)
    return [r.to_dict() for name, v, seed in cells for r in run(study, name, v, seed=seed, num=num)]


def of_student(records: Iterable[dict], student: str, metric: str) -> dict[str, dict[int, dict]]:
    """Records of a metric: variant -> training seed -> record; of several for one seed the last counts."""
    found: dict[str, dict[int, dict]] = {}
    for r in select(records, name=metric, model=lambda name: name.startswith(f"{student}: ")):
        found.setdefault(r["details"]["variant"], {})[field_of(r, "training_seed")] = r
    return found


def kept_samples(records: Iterable[dict], student: str) -> dict[str, Tensor]:
    """The first samples of every variant of a student of images, training seed 0, as tokens [n, L]."""
    found = of_student(records, student, "class_histogram")
    return {name: from_text(r[0]["details"]["samples"]) for name, r in found.items() if 0 in r}


def verdicts(study: str, records: list[dict]) -> list[dict[str, str]]:
    """What became of the expectations: a row for each of them and each student that has its variants.

    Training seeds differ by more than samples do, so what counts is whether all seeds of one variant are
    below all of the other: "confirmed" or "refuted" with three seeds of both (the network before
    distillation has one), "seen" or "not seen" with fewer; "undecided" is anything between. A training that
    diverged is infinitely bad.
    """
    rows = []
    for student in STUDIES[study].students:
        recipe, known = get_recipe(student), variants(study, student)
        for expected in STUDIES[study].expected:
            mine = expected.process in ("", recipe.process)
            if mine and {expected.less, expected.more} <= known.keys():
                found = of_student(records, student, expected.metric or JUDGED_BY[recipe.world][0])
                diverged = of_student(records, student, DIVERGED)
                less, more = (
                    [r["value"] for r in found.get(v, {}).values()] + [inf] * len(diverged.get(v, {}))
                    for v in (expected.less, expected.more)
                )
                needed = [1 if v == BEFORE else SEEDS for v in (expected.less, expected.more)]
                enough = len(less) >= needed[0] and len(more) >= needed[1]
                came = "not run yet"
                if less and more:
                    came = f"{_verdict(less, more, enough)}: {spread(less)} against {spread(more)}"
                rows.append({"student": student, "expected": expected.text, "came out": came})
    return rows


def _verdict(less: list[float], more: list[float], enough: bool) -> str:
    if max(less) < min(more):
        return "confirmed" if enough else "seen"
    if min(less) > max(more):
        return "refuted" if enough else "not seen"
    return "undecided"
