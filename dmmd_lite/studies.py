"""Studies: a student's recipe with one thing changed at a time, all trained and measured on the same terms.

Each study belongs to a page. What was expected of it was written down before its runs; `verdicts` holds that
against the records, whichever way they came out.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from dmmd_lite.evaluate import evaluate
from dmmd_lite.leaderboard import JUDGED_BY, samples_of
from dmmd_lite.recipe import Recipe
from dmmd_lite.recipes import get_recipe
from dmmd_lite.records import Record
from dmmd_lite.results import field_of, select
from dmmd_lite.store import model_of

PLAIN = "as it is"  # the variant without a change
Variants = dict[str, dict[str, Any]]  # what each is called -> changes to the recipe


@dataclass(frozen=True)
class Expectation:
    """That the best of the variants `less` has a lower value of a metric than the variant `more`."""

    text: str
    less: tuple[str, ...]
    more: str
    metric: str = ""  # "": the one that decides on the student's world


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


def _choices(recipe: Recipe) -> Variants:
    """What the paper leaves open."""
    rates, average = recipe.training.lr, recipe.training.ema["generator"]
    turns = {"alternating": "fused", "fused": "alternating"}[recipe.method.updates]
    variants = {
        "w(s) of the bound": {"method.weight": "bound"},
        "w(s): mean over scored": {"method.weight": "mean"},
        "no anchor": {"method.anchor": False},
        "soft target": {"method.target": "soft"},
        f"{turns} updates": {"method.updates": turns},
        "2 auxiliary updates": {"method.auxiliary_updates": 2},
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


_DIGITS = ("digits-masked-dmmd-8", "digits-uniform-dmmd-8")
STUDIES = {
    "fig5_teacher_temperature": Study(
        _DIGITS,
        _temperatures,
        (
            Expectation("A teacher a little sharper helps.", (_tau(0.9), _tau(0.95)), PLAIN),
            Expectation("A much sharper one does not.", (PLAIN,), _tau(0.6)),
            Expectation("A teacher less sharp hurts.", (PLAIN,), _tau(1.1)),
        ),
    ),
    "fig6_teacher_top_p": Study(
        _DIGITS,
        _exclusions,
        (
            Expectation("A teacher cut a little helps.", (_top_p(0.85), _top_p(0.95)), PLAIN),
            Expectation("One cut hard does not.", (PLAIN,), _top_p(0.5)),
            Expectation("Excluding for good ruins the student.", (PLAIN,), _top_p(0.85, 1e20)),
        ),
    ),
    "open_choices": Study(
        ("coins-masked-dmmd-1", "digits-masked-dmmd-4"),
        _choices,
        (
            Expectation("Averaged weights beat raw ones.", (PLAIN,), "raw weights"),
            Expectation("Without momentum is better.", (PLAIN,), "Adam's averages 0.9, 0.999"),
            Expectation("The teacher's weights are the better start.", (PLAIN,), "from random weights"),
            Expectation("A slow auxiliary hurts.", (PLAIN,), "auxiliary rate x 1/2"),
            Expectation("The anchor helps.", (PLAIN,), "no anchor"),
        ),
    ),
}


def variants(study: str, student: str) -> Variants:
    """All variants of a student in a study, the plain one first. ValueError for another student."""
    if student not in STUDIES[study].students:
        raise ValueError(
            f"student: {student!r} is not allowed in {study}; choose from {STUDIES[study].students}"
        )
    return {PLAIN: {}} | STUDIES[study].variants(get_recipe(student))


def run(
    study: str, student: str, variant: str, *, seed: int = 0, num: int | None = None, scale: str = "laptop"
) -> list[Record]:
    """Train a variant (kept in the cache) and measure it on test data, in the steps the student is for.

    num: samples, by default as many as on the leaderboard; seed: of the training. The records' model is
    called "STUDENT: VARIANT", their details hold the changes. ValueError for an unknown variant.
    """
    known = variants(study, student)
    if variant not in known:
        raise ValueError(f"variant: {variant!r} is not allowed; choose from {list(known)}")
    recipe = get_recipe(student, scale, known[variant])
    world = recipe.world
    names = [*JUDGED_BY[world], "output_entropy"]
    found = evaluate(model_of(recipe, seed), names, steps=recipe.method.steps, num=num or samples_of(world))
    context = {"variant": variant, "changes": known[variant]}
    return [replace(r, model=f"{student}: {variant}", details={**r.details, **context}) for r in found]


def of_student(records: Iterable[dict], student: str, metric: str) -> dict[str, dict[int, dict]]:
    """Records of a metric: variant -> training seed -> record; of several for one seed the last counts."""
    found: dict[str, dict[int, dict]] = {}
    for r in select(records, name=metric, model=lambda name: name.startswith(f"{student}: ")):
        found.setdefault(r["details"]["variant"], {})[field_of(r, "training_seed")] = r
    return found


def verdicts(study: str, records: list[dict]) -> list[dict[str, str]]:
    """What became of the expectations: a row for each of them and each student, seed by seed.

    "confirmed" and "refuted" are differences beyond the 95 % intervals, "undecided" is one within them.
    """
    rows = []
    for student in STUDIES[study].students:
        decides = JUDGED_BY[get_recipe(student).world][0]
        for expected in STUDIES[study].expected:
            found = of_student(records, student, expected.metric or decides)
            less = [found.get(variant, {}) for variant in expected.less]
            told = {}
            for seed, worse in found.get(expected.more, {}).items():
                if tried := [by_seed[seed] for by_seed in less if seed in by_seed]:
                    told[seed] = _compare(min(tried, key=lambda r: r["value"]), worse)
            says = "; ".join(f"seed {seed}: {word}" for seed, word in told.items()) or "not run yet"
            rows.append({"student": student, "expected": expected.text, "came out": says})
    return rows


def _compare(less: dict, more: dict) -> str:
    ends = {
        side: [r["value"] if r[side] is None else r[side] for r in (less, more)] for side in ("low", "high")
    }
    values = f"{less['value']:.3g} against {more['value']:.3g}"
    if ends["high"][0] < ends["low"][1]:
        return f"confirmed, {values}"
    return f"refuted, {values}" if ends["high"][1] < ends["low"][0] else f"undecided, {values}"
