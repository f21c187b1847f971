"""Recipes of students: what each distillation method makes of a world's numbers (`sizes`).

Every maker takes (world, process, steps, scale), steps being the sampling steps the student is for. The
students of a world and a noise start from the same network, learn from the same teacher, and their networks
evaluate as many sequences as those of D-MMD.
"""

from collections.abc import Callable
from dataclasses import replace
from math import log2
from typing import Any

from dmmd_lite.networks.transformer import CONTINUOUS
from dmmd_lite.objectives import METHODS
from dmmd_lite.objectives.dcd import DCDSettings
from dmmd_lite.objectives.di4c import Di4CSettings
from dmmd_lite.objectives.dimo import dimo
from dmmd_lite.objectives.dmmd import DMMDSettings
from dmmd_lite.objectives.idlm import idlm
from dmmd_lite.objectives.progressive import Rounds
from dmmd_lite.objectives.redi import ReDiSettings
from dmmd_lite.objectives.sdtt import SDTTSettings
from dmmd_lite.recipes.recipe import Recipe
from dmmd_lite.recipes.world_settings import (
    EXACT_KINDS,
    NOISE,
    NOISE_STD,
    TEXT_WORLDS,
    Size,
    kind_of,
    size_of,
    student_steps,
    validation_of,
)
from dmmd_lite.training.options import TrainingOptions


def _student(
    role: str,
    world: str,
    process: str,
    scale: str,
    settings: Any,
    lr: dict[str, float],
    *,
    betas: tuple[float, float] = (0.9, 0.99),
    floor: float | None = None,
    noise: int = 0,
    variant: str = "",
    rounds: int = 1,
    copies: int = 1,
) -> Recipe:
    """A student of any method: the world's network and teacher, and as much work as D-MMD's.

    settings: the method's; lr: peak rate of each of its players; noise: channels of input noise. rounds: of
    equal length; rates fall in the last one only, which alone trains the steps the student is for. copies:
    how often a method evaluates every sequence of a batch at once; the batch is so many times smaller.

    On exact worlds the frozen teacher is the exact posterior itself, by default floored at 1e-3 on tiny ones:
    D-MMD's generator loss is unbounded where the teacher's probability vanishes, so a far smaller floor lets
    the repulsion from impossible pairs win over everything.
    """
    kind, size = kind_of(world), size_of(world, process, scale, settings.steps)
    validation = validation_of(world, process, settings.steps)
    batch_size = max(1, size.dmmd_batch_size // copies)
    updates = _updates(size, world, role, settings, batch_size)
    training = TrainingOptions(
        updates,
        batch_size,
        lr,
        betas=betas,
        warmup=min(100, updates // rounds // 4) if rounds > 1 else 100,
        decay="linear",
        decay_from=(rounds - 1) / rounds if rounds > 1 else None,
        accumulation=max(1, size.accumulation[1] // copies),
        ema={METHODS[role].student: size.dmmd_ema},
        validate_every=max(1, updates // 4) if validation else 0,
    )
    start = f"{world}-{process}-teacher"
    return Recipe(
        f"{world}-{process}-{role}-{settings.steps}{variant}",
        scale,
        world,
        process,
        role,
        network={**size.network, "noise": noise, **noise_init(world, noise)},
        floor=floor or (1e-6 if kind == "markov" else 1e-3),
        start=start,
        teacher=f"{world}-{process}-exact" if kind in EXACT_KINDS else start,
        method=settings,
        validation=validation,
        training=training,
    )


def noise_init(world: str, inputs: int) -> dict[str, float]:
    """How the projection of noise, or of a mixture's lambda, starts where it does not start at zero."""
    return {"noise_std": NOISE_STD[world]} if inputs and world in NOISE_STD else {}


def _updates(size: Size, world: str, role: str, settings: Any, batch_size: int) -> int:
    """Loop steps in which a method evaluates as many sequences as D-MMD does at this size."""
    budget = size.dmmd_steps * size.dmmd_batch_size * METHODS["dmmd"].forwards(_switches(world, 1))
    return max(1, round(budget / (METHODS[role].forwards(settings) * batch_size)))


def make_dmmd(world: str, process: str, steps: int, scale: str, variant: str = "") -> Recipe:
    """D-MMD; variant "-nonoise" has no input noise. The one-step student of the coins under uniform noise
    always starts from t = 1, the only time it is used at; parity keeps the bridge, whose t < 1 break its
    symmetry."""
    only_start = world == "coins" and process == "uniform" and steps == 1
    settings = _switches(world, steps, "start" if only_start else "bridge")
    lr, noise = _rates(world, process, steps, scale), 0 if variant else NOISE[kind_of(world)]
    return _student(
        "dmmd", world, process, scale, settings, lr, betas=(0.0, 0.99), noise=noise, variant=variant
    )


def _switches(world: str, steps: int, times: str = "bridge") -> DMMDSettings:
    """Tiny worlds alternate updates as published; elsewhere both players learn from one draw, which saves
    three tenths of the work (what it does to quality: the page `open_choices`)."""
    return DMMDSettings(steps, times, updates="alternating" if kind_of(world) == "enumerable" else "fused")


def _rates(world: str, process: str, steps: int, scale: str) -> dict[str, float]:
    """Of D-MMD's players and its relatives'. In one step from uniform noise on a tiny world the auxiliary has
    to be quicker."""
    generator, auxiliary = size_of(world, process, scale, steps).dmmd_lr
    quicker = 3 if kind_of(world) == "enumerable" and process == "uniform" and steps == 1 else 1
    return {"generator": generator, "auxiliary": quicker * auxiliary}


def make_idlm(world: str, process: str, steps: int, scale: str) -> Recipe:
    """IDLM. No noise input, as published. Exact posteriors have the floor of the network that the auxiliary
    starts as: with a higher one it starts by calling impossible pairs too rare, and without an anchor that
    decides which way a student goes. Converted laws magnify a floor, so it is lower under uniform noise,
    whose bound is finite whatever a teacher excludes."""
    floor = 1e-9 if process == "uniform" else 1e-6
    return _adversarial("idlm", idlm(steps, process), world, process, scale, floor=floor)


def make_dimo(world: str, process: str, steps: int, scale: str) -> Recipe:
    """Di[M]O. The networks' noise input plays the part of the published noise on embeddings."""
    return _adversarial("dimo", dimo(), world, process, scale, noise=NOISE[kind_of(world)])


def _adversarial(
    role: str, settings: DMMDSettings, world: str, process: str, scale: str, **options
) -> Recipe:
    """A relative of D-MMD, with its rates and its turns. Adam has its own averages, as published."""
    settings = replace(settings, updates=_switches(world, settings.steps).updates)
    lr = _rates(world, process, settings.steps, scale)
    return _student(role, world, process, scale, settings, lr, betas=(0.9, 0.999), **options)


def make_sdtt(world: str, process: str, steps: int, scale: str) -> Recipe:
    """SDTT. The first round's teacher takes 64 steps; at paper scale 1024, as published."""
    rounds = max(1, round(log2((1024 if scale == "paper" else 64) / steps)))
    return _in_rounds("sdtt", SDTTSettings(steps, rounds), rounds, world, process, scale, floor=1e-6)


def make_dcd(world: str, process: str, steps: int, scale: str) -> Recipe:
    """Duo's DCD. Five rounds, as published. Converted laws magnify a floor, so that of exact posteriors is
    low."""
    settings = DCDSettings(steps)
    return _in_rounds("dcd", settings, settings.rounds, world, process, scale, floor=1e-9)


def make_redi(world: str, process: str, steps: int, scale: str) -> Recipe:
    """ReDi. Two rounds of equal length, after one on data for masked noise; one-step students are distilled
    in the last. Tiny worlds show every step a sampler leaves out, so their pairs take more. The published 100
    uses of a pair go with 50,000 pairs; where the budget allows far fewer, a pair is used 8 times. Text takes
    perturbed rectification, as published, from starts that are the noise's own."""
    tiny, perturbed = kind_of(world) == "enumerable", world in TEXT_WORLDS
    settings = ReDiSettings(
        steps,
        pool_steps=64 if tiny else 16 if perturbed else 32,
        uses=100 if tiny else 8,
        masked=0.3 if process == "masked" and not perturbed else 1.0,
        perturbed=perturbed,
        distill=steps == 1,
    )
    rounds = settings.rounds + (settings.masked < 1)
    return _in_rounds("redi", settings, rounds, world, process, scale, floor=1e-6)


def _in_rounds(
    role: str,
    settings: Rounds | ReDiSettings,
    rounds: int,
    world: str,
    process: str,
    scale: str,
    floor: float,
) -> Recipe:
    """A student that learns in so many rounds of equal length."""
    size = size_of(world, process, scale, settings.steps)
    updates = max(1, _updates(size, world, role, settings, size.dmmd_batch_size) // rounds)
    settings, lr = replace(settings, round_updates=updates), {"student": size.dmmd_lr[0]}
    return _student(role, world, process, scale, settings, lr, floor=floor, rounds=rounds)


def make_di4c(world: str, process: str, steps: int, scale: str) -> Recipe:
    """Di4C. 16 lambdas, as published, on the tiny worlds and at paper scale, else 8, and batches so much
    smaller, as published too. On the coins 8 lambdas did less well, and with 4 even the least loss is far
    from the truth. Weights of data are 1 for images, as published for pixels, and 0.1 for text. The learning
    rate is a teacher's: nobody chases anyone."""
    kind = kind_of(world)
    samples = {"smoke": 2, "paper": 16}.get(scale, 16 if kind == "enumerable" else 8)
    settings = Di4CSettings(steps, samples, data_weight=1.0 if kind in ("enumerable", "digits") else 0.1)
    lr = {"student": size_of(world, process, scale, steps).teacher_lr}
    recipe = _student("di4c", world, process, scale, settings, lr, floor=1e-6, copies=samples)
    return replace(recipe, network={**recipe.network, "mixture": CONTINUOUS, **noise_init(world, CONTINUOUS)})


# Methods beside D-MMD: role -> (maker, processes).
OTHERS: dict[str, tuple[Callable[[str, str, int, str], Recipe], tuple[str, ...]]] = {
    "sdtt": (make_sdtt, ("masked",)),
    "dcd": (make_dcd, ("uniform",)),
    "di4c": (make_di4c, ("masked", "uniform")),
    "idlm": (make_idlm, ("masked", "uniform")),
    "dimo": (make_dimo, ("masked",)),
    "redi": (make_redi, ("masked", "uniform")),
}
ONE_STEP = ("dimo",)  # methods for one sampling step only
ANY_STEPS = ("di4c", "idlm")  # whose loss knows no number of steps: one student serves all
COMPARED = ("coins", "parity", "permutations", "markov", "digits", "docstrings")  # worlds they are made for


def trained_for(role: str, world: str) -> tuple[int, ...]:
    """Numbers of sampling steps that a method has students of its own for on a world.

    A student of `ANY_STEPS` bears 1 on a tiny world and elsewhere 4, where a checkpoint is chosen if any is.
    ReDi's know no number either, but the one-step student, which is distilled besides (not on text, where
    paths begin anywhere).
    """
    chosen_at = 1 if kind_of(world) == "enumerable" else 4
    if role in ONE_STEP:
        return (1,)
    if role in ANY_STEPS:
        return (chosen_at,)
    if role == "redi":
        return (chosen_at,) if world in TEXT_WORLDS else (1, max(2, chosen_at))
    return student_steps(world)


def student_for(role: str, world: str, process: str, steps: int) -> str | None:
    """Name of the recipe of the student that takes so many steps; None where there is none."""
    defined = role == "dmmd" or (role in OTHERS and process in OTHERS[role][1])
    own = trained_for(role, world)
    if not defined or steps not in student_steps(world) or (role in ONE_STEP and steps > 1):
        return None
    if role in ANY_STEPS or role == "redi":
        steps = max((k for k in own if k <= steps), default=own[0])
    return f"{world}-{process}-{role}-{steps}"
