"""The catalogue: named recipes at several scales.

Names are WORLD-PROCESS-ROLE[-STEPS][-VARIANT]: `digits-masked-teacher`, `digits-uniform-dmmd-8`,
`coins-masked-dmmd-1-nonoise`. Role "exact" is an exact world's posterior and needs no training. The process
of autoregressive models is called "ar", their roles "baseline" and "judge". Variant "block32" diffuses blocks
of 32 tokens, one after the other; students "p85" and "p95" have a teacher of that top-p, students "nonoise"
no noise input; other variants are teachers of another strength (`WorldSettings.strengths`) and students of
them. The scales, and the numbers at each, are in `world_settings`; how every method's students are made of
them, in `students`.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

from dmmd_lite.recipes.recipe import AUTOREGRESSIVE, Recipe
from dmmd_lite.recipes.students import PLANS
from dmmd_lite.recipes.trials import tuned
from dmmd_lite.recipes.world_settings import (
    BLOCK,
    NOISES,
    STRENGTH_STEPS,
    WORLD_SETTINGS,
    Strength,
    compared_worlds,
    settings_of,
)
from dmmd_lite.training.options import TrainingOptions
from dmmd_lite.utils.checks import check_choice, checked
from dmmd_lite.utils.scales import SCALES

RECIPES: dict[str, Callable[[str], Recipe]] = {}
SHARPENED = (85, 95)  # top-p of sharpened teachers of text, in per cent
BEFORE_TUNING: dict[str, Callable[[str], Recipe]] = {}  # students as they were before their trials (`trials`)


@checked
def get_recipe(name: str, scale: str | None = None, changes: dict[str, Any] | None = None) -> Recipe:
    """Return the recipe called `name` at a scale (None: that of the models that ship, `shown_at`), with
    dotted keys changed; ValueError names a fault."""
    if name not in RECIPES:
        raise ValueError(
            f"recipe: {name!r} is not allowed; `dmmd-lite recipes` lists the {len(RECIPES)} names"
        )
    scale = settings_of(name.split("-")[0]).shown_at if scale is None else scale
    check_choice("scale", scale, SCALES)
    recipe = RECIPES[name](scale)
    return recipe.with_changes(changes) if changes else recipe


def scales_of(name: str) -> tuple[str, ...]:
    """Return the scales at which there is a recipe called `name`: those of its world."""
    return tuple(scale for scale in SCALES if scale in settings_of(name.split("-")[0]).scales)


def judge_of(world: str) -> str:
    """Return the name of the recipe of a text world's judge."""
    return f"{world}-{AUTOREGRESSIVE}-judge"


def _exact(world: str, process: str, scale: str) -> Recipe:
    """Make the recipe of a world's exact posterior."""
    return Recipe(f"{world}-{process}-exact", scale, world, process, "exact")


def _teacher(world: str, process: str, scale: str) -> Recipe:
    """Make the recipe of a network that learns from data; on exact worlds it is fitted to the posteriors."""
    settings = settings_of(world, process)
    size = settings.at(scale)
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
        fit_exact=settings.exact,
        holds=settings.holds,
        validation="bound",
        training=training,
    )


def _autoregressive(world: str, role: str, scale: str) -> Recipe:
    """Make the recipe of a baseline, which learns from the teachers' text, or of a judge, which learns from
    text that no generator saw.

    They train for three quarters of a teacher's steps, since every position is scored in every step; a judge
    may have settings of its own (`ScaleSettings.judge`). They have no convolution, since the symbol before is
    always there to attend to.
    """
    teacher = _teacher(world, AUTOREGRESSIVE, scale)
    network = {key: value for key, value in teacher.network.items() if key != "local"}
    steps = max(1, 3 * teacher.training.steps // 4)
    judge = settings_of(world).at(scale).judge
    if role == "judge" and judge is not None:
        network, steps = network | judge[0], judge[1]
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
    """Make the block-autoregressive variant of a recipe; teachers train for two thirds of the steps."""
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


def _sharpened(make: Callable[[str], Recipe], percent: int, scale: str) -> Recipe:
    """Make the variant distilled from a teacher with a top-p in per cent (paper, section 3.3; delta = 2)."""
    recipe = make(scale)
    method = replace(recipe.method, top_p=percent / 100)
    return replace(recipe, name=f"{recipe.name}-p{percent}", method=method)


def _of_strength(make: Callable[[str], Recipe], suffix: str, strength: Strength, scale: str) -> Recipe:
    """Make the variant of a teacher with other training, or of a student that starts from such a teacher."""
    recipe, variant = make(scale), f"-{suffix}"
    factors = {key: strength.width * recipe.network[key] for key in ("width", "heads")}
    training = recipe.training
    if recipe.role == "teacher":
        steps = max(1, round(strength.updates * training.steps))
        training = replace(training, steps=steps, validate_every=max(1, steps // 10))
    return replace(
        recipe,
        name=recipe.name + variant,
        start=recipe.start and recipe.start + variant,
        teacher=recipe.teacher and recipe.teacher + variant,
        network=recipe.network | factors,
        training=training,
    )


def _add_student(role: str, world: str, process: str, steps: int) -> str:
    """Add a method's student to the catalogue, as it was before and as it is after its trials."""
    name = f"{world}-{process}-{role}-{steps}"
    BEFORE_TUNING[name] = partial(PLANS[role].recipe, world, process, steps)
    RECIPES[name] = partial(tuned, BEFORE_TUNING[name])
    return name


def roles_of_strength(kind: str) -> list[str]:
    """Return what there is of every strength of a teacher, as in names: the teacher and its students."""
    student = f"dmmd-{STRENGTH_STEPS}"
    sharpened = [f"{student}-p{percent}" for percent in SHARPENED] if kind == "text" else []
    return ["teacher", student, *sharpened]


def register() -> None:
    """Fill the catalogue from `WORLD_SETTINGS` and `PLANS`; call it again after adding to them."""
    for process in NOISES:
        for world, settings in WORLD_SETTINGS.items():
            if settings.exact:
                RECIPES[f"{world}-{process}-exact"] = partial(_exact, world, process)
        for world, settings in WORLD_SETTINGS.items():
            RECIPES[f"{world}-{process}-teacher"] = partial(_teacher, world, process)
            for steps in settings.student_steps:
                name = _add_student("dmmd", world, process, steps)
                RECIPES[f"{name}-nonoise"] = partial(BEFORE_TUNING[name], variant="-nonoise")
                for percent in SHARPENED if settings.kind == "text" else ():
                    RECIPES[f"{name}-p{percent}"] = partial(_sharpened, RECIPES[name], percent)
        for world, settings in WORLD_SETTINGS.items():
            roles = ("teacher", *(f"dmmd-{steps}" for steps in settings.student_steps))
            for name in (f"{world}-{process}-{role}" for role in roles if settings.blocks):
                RECIPES[f"{name}-block{BLOCK}"] = partial(_blocked, RECIPES[name])
            for suffix, strength in settings.strengths.items():
                for name in (f"{world}-{process}-{role}" for role in roles_of_strength(settings.kind)):
                    RECIPES[f"{name}-{suffix}"] = partial(_of_strength, RECIPES[name], suffix, strength)
    for role, plan in PLANS.items():
        for process, world in product(plan.processes, compared_worlds()):
            for steps in plan.trained_for(world) if settings_of(world).compares(role) else ():
                _add_student(role, world, process, steps)
    for role, (world, settings) in product(("baseline", "judge"), WORLD_SETTINGS.items()):
        if settings.baseline:
            RECIPES[f"{world}-{AUTOREGRESSIVE}-{role}"] = partial(_autoregressive, world, role)


register()
