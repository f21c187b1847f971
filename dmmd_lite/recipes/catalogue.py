"""The catalogue: named recipes at four scales.

Names are WORLD-PROCESS-ROLE[-STEPS][-VARIANT]: `digits-masked-teacher`, `digits-uniform-dmmd-8`,
`coins-masked-dmmd-1-nonoise`. Role "exact" is an exact world's own posterior and needs no training. The
process of autoregressive models is called "ar", their roles "baseline" and "judge". Variant "block32"
diffuses blocks of 32 tokens, one after the other. The scales, and the numbers at each, are in `sizes`; how
every method's students are made of them, in `students`.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

from dmmd_lite.recipes.recipe import AUTOREGRESSIVE, Recipe
from dmmd_lite.recipes.students import COMPARED, OTHERS, make_dmmd, trained_for
from dmmd_lite.recipes.trials import tuned
from dmmd_lite.recipes.world_settings import BLOCK, EXACT_KINDS, TEXT_WORLDS, kind_of, size_of, student_steps
from dmmd_lite.training.options import TrainingOptions
from dmmd_lite.utils.scales import SCALES
from dmmd_lite.worlds import WORLDS

RECIPES: dict[str, Callable[[str], Recipe]] = {}
BEFORE_TUNING: dict[str, Callable[[str], Recipe]] = {}  # students as they were before their trials (`tuning`)


def get_recipe(name: str, scale: str = "laptop", changes: dict[str, Any] | None = None) -> Recipe:
    """The recipe called `name` at a scale, with dotted keys changed. ValueError names what is wrong."""
    if name not in RECIPES:
        raise ValueError(
            f"recipe: {name!r} is not allowed; `dmmd-lite recipes` lists the {len(RECIPES)} names"
        )
    if scale not in SCALES:
        raise ValueError(f"scale: {scale!r} is not allowed; choose one of {SCALES}")
    recipe = RECIPES[name](scale)
    return recipe.with_changes(changes) if changes else recipe


def judge_of(world: str) -> str:
    """Name of the recipe of a text world's judge."""
    return f"{world}-{AUTOREGRESSIVE}-judge"


def _exact(world: str, process: str, scale: str) -> Recipe:
    return Recipe(f"{world}-{process}-exact", scale, world, process, "exact")


def _teacher(world: str, process: str, scale: str) -> Recipe:
    """Networks learn from data; on exact worlds they are fitted to the exact posteriors."""
    size = size_of(world, process, scale)
    training = TrainingOptions(
        size.teacher_steps,
        size.batch_size,
        {"denoiser": size.teacher_lr},
        decay="cosine",
        accumulation=size.accumulation[0],
        ema={"denoiser": 0.999},
        validate_every=max(1, size.teacher_steps // 10),
    )
    return Recipe(
        f"{world}-{process}-teacher",
        scale,
        world,
        process,
        "teacher",
        network=size.network,
        fit_exact=kind_of(world) in EXACT_KINDS,
        validation="bound",
        training=training,
    )


def _autoregressive(world: str, role: str, scale: str) -> Recipe:
    """The baseline learns from what the teachers learn from, a judge from text that no generator saw.

    Three quarters of a teacher's steps, since every position is scored in every step. No convolution: the
    symbol before is always there to attend to.
    """
    teacher = _teacher(world, AUTOREGRESSIVE, scale)
    network = {key: value for key, value in teacher.network.items() if key != "local"}
    steps = max(1, 3 * teacher.training.steps // 4)
    training = replace(
        teacher.training,
        steps=steps,
        lr={"model": teacher.training.lr["denoiser"]},
        ema={"model": 0.999},
        validate_every=max(1, steps // 10),
    )
    name, split = f"{world}-{AUTOREGRESSIVE}-{role}", {"baseline": "train", "judge": "judge"}[role]
    return replace(
        teacher,
        name=name,
        role=role,
        network=network,
        split=split,
        validation="negative_log_likelihood",
        training=training,
    )


def _blocked(make: Callable[[str], Recipe], scale: str) -> Recipe:
    """The block-autoregressive variant of a recipe. Teachers take two thirds of the steps."""
    recipe, variant = make(scale), f"-block{BLOCK}"
    network, training = recipe.network, recipe.training
    if recipe.role == "teacher":
        steps = max(1, 2 * training.steps // 3)
        training = replace(training, steps=steps, validate_every=max(1, steps // 10))
    return replace(
        recipe,
        name=recipe.name + variant,
        start=recipe.start and recipe.start + variant,
        teacher=recipe.teacher and recipe.teacher + variant,
        block=BLOCK,
        network={**network, "encoder_depth": (network["depth"] + 1) // 2},
        training=training,
    )


def _sharpened(make: Callable[[str], Recipe], scale: str) -> Recipe:
    """The variant distilled from a teacher whose top-p is 0.85 (paper, section 3.3; delta = 2)."""
    recipe = make(scale)
    return replace(recipe, name=f"{recipe.name}-p85", method=replace(recipe.method, top_p=0.85))


def _register() -> None:
    for process in ("masked", "uniform"):
        for world in ("coins", "parity", "permutations", "markov"):
            RECIPES[f"{world}-{process}-exact"] = partial(_exact, world, process)
        for world in WORLDS:
            RECIPES[f"{world}-{process}-teacher"] = partial(_teacher, world, process)
            for steps in student_steps(world):
                name = f"{world}-{process}-dmmd-{steps}"
                BEFORE_TUNING[name] = partial(make_dmmd, world, process, steps)
                RECIPES[name] = partial(tuned, BEFORE_TUNING[name])
                RECIPES[f"{name}-nonoise"] = partial(make_dmmd, world, process, steps, variant="-nonoise")
                if world in TEXT_WORLDS:
                    RECIPES[f"{name}-p85"] = partial(_sharpened, RECIPES[name])
        for role in ("teacher", *(f"dmmd-{steps}" for steps in student_steps("docstrings"))):
            name = f"docstrings-{process}-{role}"
            RECIPES[f"{name}-block{BLOCK}"] = partial(_blocked, RECIPES[name])
    for role, (make, processes) in OTHERS.items():
        for process, world in product(processes, COMPARED):
            for steps in trained_for(role, world):
                name = f"{world}-{process}-{role}-{steps}"
                BEFORE_TUNING[name] = partial(make, world, process, steps)
                RECIPES[name] = partial(tuned, BEFORE_TUNING[name])
    for role in ("baseline", "judge"):
        for world in ("docstrings", "books27", "books"):
            RECIPES[f"{world}-ar-{role}"] = partial(_autoregressive, world, role)


_register()
