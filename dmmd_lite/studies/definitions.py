"""The studies of the book: variants of students, and expectations written down before the runs."""

from itertools import product
from typing import Any

from dmmd_lite.objectives import METHODS
from dmmd_lite.processes import PROCESSES
from dmmd_lite.recipes.catalogue import RECIPES
from dmmd_lite.recipes.recipe import Recipe
from dmmd_lite.recipes.world_settings import settings_of
from dmmd_lite.studies.study import BASELINE, NO_NOISE_INPUT, TEACHER_NETWORK, Expectation, Study, Variants


def temperature_name(temperature: float) -> str:
    """Return the name of the variant with a teacher's temperature."""
    return f"τ = {temperature:g}"


def top_p_name(top_p: float, delta: float = 2) -> str:
    """Return the name of the variant with a teacher's top-p and delta."""
    return f"p = {top_p:g}, Δ = {delta:g}"


def _temperatures(recipe: Recipe) -> Variants:
    return {temperature_name(t): {"method.temperature": t} for t in (0.6, 0.7, 0.8, 0.9, 0.95, 1.1)}


def _exclusions(recipe: Recipe) -> Variants:
    """Vary the teacher's top-p at Δ = 2, as published, and Δ at the published top-p; 1e20 excludes fully."""
    settings = [(p, 2) for p in (0.5, 0.7, 0.85, 0.95)] + [(0.85, d) for d in (0.5, 8, 1e20)]
    return {top_p_name(p, d): {"method.top_p": p, "method.delta": float(d)} for p, d in settings}


def _noise(recipe: Recipe) -> Variants:
    return {NO_NOISE_INPUT: f"{recipe.name}-nonoise"}


def _choices(recipe: Recipe) -> Variants:
    """Vary what the paper leaves open; on text, where a run takes longest, only the order of updates."""
    rates, average = recipe.training.lr, recipe.training.ema["generator"]
    other = {"alternating": "fused", "fused": "alternating"}[recipe.method.updates]
    turns: Variants = {
        f"{other} updates": _as_often(recipe, {"method.updates": other}),
        f"{other} updates, as much work": _as_long(recipe, {"method.updates": other}),
    }
    if settings_of(recipe.world).kind == "text":
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
    """Return changes to the order of updates, with steps for as many updates of the generator as before."""
    before, after = (_steps_per_update(r) for r in (recipe, recipe.with_changes(changes)))
    return _stretched(recipe, changes, after / before)


def _as_long(recipe: Recipe, changes: dict[str, Any]) -> dict[str, Any]:
    """Return changes to the order of updates, with steps for as many forward passes' worth of work."""
    before, after = (METHODS[r.role].forwards(r.method) for r in (recipe, recipe.with_changes(changes)))
    return _stretched(recipe, changes, before / after)


def _stretched(recipe: Recipe, changes: dict[str, Any], length: float) -> dict[str, Any]:
    """Return changes and a run `length` times as long, validated as often."""
    steps, validate = recipe.training.steps, recipe.training.validate_every
    longer = {"training.steps": round(length * steps), "training.validate_every": round(length * validate)}
    return changes | {key: value for key, value in longer.items() if value}


def _steps_per_update(recipe: Recipe) -> int:
    """Return the loop steps for each update of the generator."""
    return recipe.method.auxiliary_updates + (recipe.method.updates == "alternating")


def _students(steps: dict[str, tuple[int, ...]]) -> tuple[str, ...]:
    """Return the D-MMD students of worlds, world -> steps, under every noise that the catalogue has."""
    names = (f"{w}-{p}-dmmd-{k}" for w, all_steps in steps.items() for p, k in product(PROCESSES, all_steps))
    return tuple(name for name in names if name in RECIPES)


_IMAGES = _students({"digits": (8,), "glyphs": (16,)})
STUDIES = {
    "fig5_teacher_temperature": Study(
        _IMAGES,
        _temperatures,
        (
            Expectation("A teacher a little sharper helps (0.95).", temperature_name(0.95), BASELINE),
            Expectation("A teacher a little sharper helps (0.9).", temperature_name(0.9), BASELINE),
            Expectation("A much sharper one does not (0.6).", BASELINE, temperature_name(0.6)),
            Expectation("A teacher less sharp hurts (1.1).", BASELINE, temperature_name(1.1)),
            Expectation(
                "A sharper one makes the student's output surer (0.9).",
                temperature_name(0.9),
                BASELINE,
                "output_entropy",
            ),
        ),
    ),
    "fig6_teacher_top_p": Study(
        _IMAGES,
        _exclusions,
        (
            Expectation("A teacher cut a little helps (0.95).", top_p_name(0.95), BASELINE),
            Expectation("A teacher cut a little helps (0.85).", top_p_name(0.85), BASELINE),
            Expectation("One cut hard does not (0.5).", BASELINE, top_p_name(0.5)),
            Expectation(
                "Excluding for good is worse than no distillation.", TEACHER_NETWORK, top_p_name(0.85, 1e20)
            ),
        ),
    ),
    "table6_noise_input": Study(
        _students({"digits": (1, 4, 8, 16), "glyphs": (4, 8, 16, 32)}),
        _noise,
        (
            Expectation("Noise input helps masked students.", BASELINE, NO_NOISE_INPUT, process="masked"),
            Expectation(
                "Noise input makes the student's output surer.", BASELINE, NO_NOISE_INPUT, "output_entropy"
            ),
        ),
    ),
    "open_choices": Study(
        ("coins-masked-dmmd-1", "digits-masked-dmmd-4", "docstrings-masked-dmmd-16"),
        _choices,
        (
            Expectation("Averaged weights beat raw ones.", BASELINE, "raw weights"),
            Expectation("Without momentum is better.", BASELINE, "Adam's averages 0.9, 0.999"),
            Expectation("The teacher's weights are the better start.", BASELINE, "from random weights"),
            Expectation("A slow auxiliary hurts.", BASELINE, "auxiliary rate x 1/2"),
            Expectation("The anchor helps.", BASELINE, "no anchor"),
            Expectation(
                "A draw for each player is better than one for both.", "alternating updates", BASELINE
            ),
            Expectation(
                "One draw for both is better for as much work.", BASELINE, "alternating updates, as much work"
            ),
        ),
    ),
}
