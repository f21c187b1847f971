"""The catalogue: named recipes at four scales.

Names are WORLD-PROCESS-ROLE[-STEPS][-VARIANT]: `digits-masked-teacher`, `digits-uniform-dmmd-8`,
`coins-masked-dmmd-1-nonoise`. Role "exact" is an exact world's own posterior and needs no training. The
process of autoregressive models is called "ar", their roles "baseline" and "judge". Variant "block32"
diffuses blocks of 32 tokens, one after the other.

Scales: "smoke" runs in seconds and proves only that the parts fit; "laptop" is what this book shows;
"gpu" is for one accelerator; "paper" gives sizes of the kind used in the literature, to be read
together with `cost`. The paper states no hyper-parameters; ours are written down here and nowhere else.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from math import log2
from typing import Any

from dmmd_lite.methods import METHODS
from dmmd_lite.networks import CONTINUOUS
from dmmd_lite.objectives.dcd import DCDSettings
from dmmd_lite.objectives.di4c import Di4CSettings
from dmmd_lite.objectives.dimo import dimo
from dmmd_lite.objectives.dmmd import Switches
from dmmd_lite.objectives.idlm import idlm
from dmmd_lite.objectives.redi import ReDiSettings
from dmmd_lite.objectives.rounds import Rounds
from dmmd_lite.objectives.sdtt import SDTTSettings
from dmmd_lite.recipe import AUTOREGRESSIVE, Recipe
from dmmd_lite.training import Options
from dmmd_lite.worlds import WORLDS

SCALES = ("smoke", "laptop", "gpu", "paper")


@dataclass(frozen=True)
class Size:
    """A world's network and training length at one scale."""

    network: dict
    batch_size: int
    teacher_steps: int
    teacher_lr: float
    dmmd_batch_size: int
    dmmd_steps: int
    dmmd_lr: tuple[float, float]  # generator, auxiliary
    dmmd_ema: float
    accumulation: tuple[int, int] = (1, 1)  # parts of a batch: teacher, D-MMD


TINY = {"width": 32, "depth": 2, "heads": 2, "time_width": 16}
LAPTOP = {"width": 96, "depth": 3, "heads": 4}
GPU = {"width": 512, "depth": 8, "heads": 8, "mlp_ratio": 4, "time_width": 128}
PAPER = {"width": 768, "depth": 12, "heads": 12, "mlp_ratio": 4, "time_width": 128}
NEAR = {"rotary_base": 100, "local": 5}  # for text: a sense of who is next to whom
TEXT = {"width": 128, "depth": 3, "heads": 4, **NEAR}
TOKENS = {"width": 384, "depth": 8, "heads": 6, "mlp_ratio": 4, "time_width": 128}  # and 39 M for the tokens

SIZES = {
    "enumerable": {
        "smoke": Size(TINY, 64, 20, 3e-3, 64, 20, (1e-3, 1e-3), 0.9),
        "laptop": Size(TINY, 256, 600, 3e-3, 256, 3000, (1e-3, 1e-3), 0.995),
        "gpu": Size(LAPTOP, 2048, 2000, 2e-3, 2048, 8000, (5e-4, 5e-4), 0.995),
        "paper": Size(PAPER, 512, 10_000, 3e-4, 512, 50_000, (3e-5, 6e-5), 0.9999),
    },
    "digits": {
        "smoke": Size(TINY, 32, 30, 2e-3, 16, 20, (1e-4, 2e-4), 0.9),
        "laptop": Size(LAPTOP, 128, 2000, 2e-3, 64, 400, (2e-3, 4e-3), 0.997),
        "gpu": Size(GPU, 512, 5000, 5e-4, 512, 10_000, (2e-4, 4e-4), 0.999),
        "paper": Size(PAPER, 256, 1_000_000, 2e-4, 256, 200_000, (1e-5, 2e-5), 0.9999),
    },
    "docstrings": {
        "smoke": Size(TINY, 16, 20, 2e-3, 16, 20, (1e-4, 2e-4), 0.9),
        "laptop": Size(TEXT, 32, 4000, 3e-3, 32, 400, (1e-3, 2e-3), 0.995),
        "gpu": Size(GPU, 512, 10_000, 5e-4, 512, 10_000, (2e-4, 4e-4), 0.999),
        "paper": Size(PAPER, 512, 1_000_000, 3e-4, 512, 50_000, (1e-5, 2e-5), 0.9999),
    },
    "books27": {
        "smoke": Size(TINY, 8, 10, 2e-3, 8, 10, (1e-4, 2e-4), 0.9),
        "laptop": Size(TEXT, 32, 4000, 3e-3, 32, 400, (1e-3, 2e-3), 0.995),
        "gpu": Size(GPU, 256, 10_000, 5e-4, 256, 5000, (2e-4, 4e-4), 0.999),
        "paper": Size(PAPER, 512, 1_000_000, 3e-4, 512, 50_000, (1e-5, 2e-5), 0.9999, (4, 8)),
    },
    "books": {
        "smoke": Size(TINY, 1, 2, 2e-3, 1, 2, (1e-4, 2e-4), 0.9),
        "laptop": Size(TEXT, 8, 2000, 2e-3, 8, 200, (5e-4, 1e-3), 0.99, (4, 8)),
        "gpu": Size(TOKENS, 64, 3000, 1e-3, 64, 1000, (2e-4, 4e-4), 0.995, (4, 8)),
        "paper": Size(PAPER, 512, 1_000_000, 3e-4, 512, 50_000, (1e-5, 2e-5), 0.9999, (32, 64)),
    },
    "openwebtext": {
        "smoke": Size(TINY, 1, 2, 2e-3, 1, 2, (1e-4, 2e-4), 0.9),
        "laptop": Size(TEXT, 8, 2000, 2e-3, 8, 200, (5e-4, 1e-3), 0.99, (4, 8)),
        "gpu": Size(TOKENS, 64, 30_000, 1e-3, 64, 5000, (2e-4, 4e-4), 0.999, (4, 8)),
        "paper": Size(PAPER, 512, 1_000_000, 3e-4, 512, 50_000, (1e-5, 2e-5), 0.9999, (32, 64)),
    },
    "markov": {
        "smoke": Size(TINY, 16, 20, 2e-3, 16, 20, (1e-4, 2e-4), 0.9),
        "laptop": Size(
            {**LAPTOP, "rotary_base": 100, "local": 5}, 32, 2000, 3e-3, 32, 1200, (1e-3, 2e-3), 0.998
        ),
        "gpu": Size(GPU, 512, 10_000, 5e-4, 512, 10_000, (2e-4, 4e-4), 0.999),
        "paper": Size(PAPER, 512, 1_000_000, 3e-4, 512, 50_000, (1e-5, 2e-5), 0.9999),
    },
}

SIZES["digits-masked"] = {  # on validation images longer runs help masked students, and uniform ones do not
    **SIZES["digits"],
    "laptop": replace(SIZES["digits"]["laptop"], dmmd_steps=1000, dmmd_lr=(1e-3, 2e-3), dmmd_ema=0.998),
}

EXACT_KINDS = ("enumerable", "markov")
TEXT_WORLDS = ("docstrings", "books27", "books", "openwebtext")
STUDENT_STEPS = {  # by world, else by kind
    "enumerable": (1, 2, 4),
    "permutations": (1, 2, 4, 16),
    "digits": (1, 4, 8, 16),
    "markov": (1, 4, 8, 16),
    "docstrings": (1, 4, 16),
    "books27": (8, 16, 32),
    "books": (8, 16, 32),
    "openwebtext": (8, 16, 32),
}
NOISE = {  # channels of input noise
    "enumerable": 4,
    "digits": 1,
    "markov": 1,
    "docstrings": 8,
    "books27": 8,
    "books": 8,
    "openwebtext": 8,
}
BLOCK = 32  # tokens a block in the block-autoregressive variants
VALIDATION = {
    "enumerable": "",
    "digits": "frechet",
    "markov": "ngram_divergence",
    "docstrings": "gradient_moment",
    "books27": "gradient_moment",
    "books": "",
    "openwebtext": "",
}


RECIPES: dict[str, Callable[[str], Recipe]] = {}


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


def _add(name: str, make: Callable[[str], Recipe]) -> None:
    RECIPES[name] = make


def _size(kind: str, process: str, scale: str) -> Size:
    """A world's size, that of its process if it has one of its own."""
    return SIZES.get(f"{kind}-{process}", SIZES[kind])[scale]


def _exact(world: str, process: str, scale: str) -> Recipe:
    return Recipe(f"{world}-{process}-exact", scale, world, process, "exact")


def _teacher(kind: str, world: str, process: str, scale: str) -> Recipe:
    """Networks learn from data; on exact worlds they are fitted to the exact posteriors."""
    size, exact = _size(kind, process, scale), kind in EXACT_KINDS
    training = Options(
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
        fit_exact=exact,
        validation="bound",
        training=training,
    )


def _updates(size: Size, kind: str, role: str, settings: Any, batch_size: int | None = None) -> int:
    """Loop steps that evaluate as many sequences as D-MMD's at this size; by default its batches, too."""
    budget = size.dmmd_steps * size.dmmd_batch_size * METHODS["dmmd"].forwards(_switches(kind, 1))
    a_step = METHODS[role].forwards(settings) * (batch_size or size.dmmd_batch_size)
    return max(1, round(budget / a_step))


def _student(
    role: str,
    kind: str,
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
    size = _size(kind, process, scale)
    batch_size = max(1, size.dmmd_batch_size // copies)
    updates = _updates(size, kind, role, settings, batch_size)
    training = Options(
        updates,
        batch_size,
        lr,
        betas=betas,
        warmup=min(100, updates // rounds // 4) if rounds > 1 else 100,
        decay="linear",
        decay_from=(rounds - 1) / rounds if rounds > 1 else None,
        accumulation=max(1, size.accumulation[1] // copies),
        ema={METHODS[role].student: size.dmmd_ema},
        validate_every=0 if kind == "enumerable" or not VALIDATION[kind] else max(1, updates // 4),
    )
    start = f"{world}-{process}-teacher"
    return Recipe(
        f"{world}-{process}-{role}-{settings.steps}{variant}",
        scale,
        world,
        process,
        role,
        network={**size.network, "noise": noise},
        floor=floor or (1e-6 if kind == "markov" else 1e-3),
        start=start,
        teacher=f"{world}-{process}-exact" if kind in EXACT_KINDS else start,
        method=settings,
        validation=VALIDATION[kind],
        training=training,
    )


def _switches(kind: str, steps: int, times: str = "bridge") -> Switches:
    """Tiny worlds alternate updates as published; elsewhere both players learn from one draw, which saves
    three tenths of the work."""
    return Switches(steps, times, updates="alternating" if kind == "enumerable" else "fused")


def _dmmd(kind: str, world: str, process: str, steps: int, noise: int, variant: str, scale: str) -> Recipe:
    """The one-step student of the coins under uniform noise always starts from t = 1, the only time it is
    used at; parity keeps the bridge, whose t < 1 break its symmetry."""
    only_start = world == "coins" and process == "uniform" and steps == 1
    settings = _switches(kind, steps, "start" if only_start else "bridge")
    return _student(
        "dmmd",
        kind,
        world,
        process,
        scale,
        settings,
        _rates(kind, process, steps, scale),
        betas=(0.0, 0.99),
        noise=noise,
        variant=variant,
    )


def _rates(kind: str, process: str, steps: int, scale: str) -> dict[str, float]:
    """Of D-MMD's players and its relatives'. In one step from uniform noise on a tiny world the auxiliary has
    to be quicker."""
    generator, auxiliary = _size(kind, process, scale).dmmd_lr
    quicker = 3 if kind == "enumerable" and process == "uniform" and steps == 1 else 1
    return {"generator": generator, "auxiliary": quicker * auxiliary}


def _sdtt(kind: str, world: str, process: str, steps: int, scale: str) -> Recipe:
    """The first round's teacher takes 64 steps; at paper scale 1024, as published."""
    rounds = max(1, round(log2((1024 if scale == "paper" else 64) / steps)))
    return _in_rounds("sdtt", SDTTSettings(steps, rounds), 1e-6, kind, world, process, scale)


def _dcd(kind: str, world: str, process: str, steps: int, scale: str) -> Recipe:
    """Five rounds, as published. Converted laws magnify a floor, so that of exact posteriors is low."""
    return _in_rounds("dcd", DCDSettings(steps), 1e-9, kind, world, process, scale)


def _in_rounds(
    role: str, settings: Rounds, floor: float, kind: str, world: str, process: str, scale: str
) -> Recipe:
    """A student that learns in rounds of equal length."""
    size = _size(kind, process, scale)
    updates = max(1, _updates(size, kind, role, settings) // settings.rounds)
    settings = replace(settings, round_updates=updates)
    lr = {"student": size.dmmd_lr[0]}
    rounds = settings.rounds
    return _student(role, kind, world, process, scale, settings, lr, floor=floor, rounds=rounds)


def _di4c(kind: str, world: str, process: str, steps: int, scale: str) -> Recipe:
    """16 lambdas, as published, on the tiny worlds and at paper scale, else 8, and batches so much smaller,
    as published too. On the coins 8 lambdas did less well, and with 4 even the least loss is far from the
    truth. Weights of data are 1 for images, as published for pixels, and 0.1 for text. The learning rate is
    a teacher's: nobody chases anyone."""
    samples = {"smoke": 2, "paper": 16}.get(scale, 16 if kind == "enumerable" else 8)
    settings = Di4CSettings(steps, samples, data_weight=1.0 if kind in ("enumerable", "digits") else 0.1)
    lr = {"student": _size(kind, process, scale).teacher_lr}
    recipe = _student("di4c", kind, world, process, scale, settings, lr, floor=1e-6, copies=samples)
    return replace(recipe, network={**recipe.network, "mixture": CONTINUOUS})


def _idlm(kind: str, world: str, process: str, steps: int, scale: str) -> Recipe:
    """No noise input, as published. Exact posteriors have the floor of the network that the auxiliary starts
    as: with a higher one it starts by calling impossible pairs too rare, and without an anchor that decides
    which way a student goes. Converted laws magnify a floor, so it is lower under uniform noise, whose bound
    is finite whatever a teacher excludes."""
    floor = 1e-9 if process == "uniform" else 1e-6
    return _adversarial("idlm", idlm(steps, process), 0, kind, world, process, scale, floor)


def _dimo(kind: str, world: str, process: str, steps: int, scale: str) -> Recipe:
    """The networks' noise input plays the part of the published noise on embeddings."""
    return _adversarial("dimo", dimo(), NOISE[kind], kind, world, process, scale)


def _adversarial(
    role: str,
    settings: Switches,
    noise: int,
    kind: str,
    world: str,
    process: str,
    scale: str,
    floor: float | None = None,
) -> Recipe:
    """A relative of D-MMD, with its rates and its turns. Adam has its own averages, as published."""
    settings = replace(settings, updates=_switches(kind, settings.steps).updates)
    lr = _rates(kind, process, settings.steps, scale)
    return _student(
        role, kind, world, process, scale, settings, lr, betas=(0.9, 0.999), floor=floor, noise=noise
    )


def _redi(kind: str, world: str, process: str, steps: int, scale: str) -> Recipe:
    """Two rounds of equal length, after one on data for masked noise; one-step students are distilled in the
    last. Tiny worlds show every step a sampler leaves out, so their pairs take more. The published 100 uses
    of a pair go with 50,000 pairs; where the budget allows far fewer, a pair is used 8 times."""
    tiny = kind == "enumerable"
    settings = ReDiSettings(
        steps,
        pool_steps=64 if tiny else 32,
        uses=100 if tiny else 8,
        masked=0.3 if process == "masked" else 1.0,
        distill=steps == 1,
    )
    rounds = settings.rounds + (settings.masked < 1)
    size = _size(kind, process, scale)
    updates = max(1, _updates(size, kind, "redi", settings) // rounds)
    settings = replace(settings, round_updates=updates)
    lr = {"student": size.dmmd_lr[0]}
    return _student("redi", kind, world, process, scale, settings, lr, floor=1e-6, rounds=rounds)


def _autoregressive(kind: str, world: str, role: str, scale: str) -> Recipe:
    """The baseline learns from what the teachers learn from, a judge from text that no generator saw.

    Three quarters of a teacher's steps, since every position is scored in every step. No convolution: the
    symbol before is always there to attend to.
    """
    teacher = _teacher(kind, world, AUTOREGRESSIVE, scale)
    network = {key: value for key, value in teacher.network.items() if key != "local"}
    steps = max(1, 3 * SIZES[kind][scale].teacher_steps // 4)
    training = replace(
        teacher.training,
        steps=steps,
        lr={"model": SIZES[kind][scale].teacher_lr},
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


# Methods beside D-MMD: role -> (make(kind, world, process, steps, scale), processes).
OTHERS: dict[str, tuple[Callable[..., Recipe], tuple[str, ...]]] = {
    "sdtt": (_sdtt, ("masked",)),
    "dcd": (_dcd, ("uniform",)),
    "di4c": (_di4c, ("masked", "uniform")),
    "idlm": (_idlm, ("masked", "uniform")),
    "dimo": (_dimo, ("masked",)),
    "redi": (_redi, ("masked", "uniform")),
}
ONE_STEP = ("dimo",)  # methods for one sampling step only
COMPARED = ("coins", "parity", "permutations", "markov", "digits", "docstrings")  # worlds they are made for


def student_steps(world: str) -> tuple[int, ...]:
    """Numbers of sampling steps that a world has students for."""
    return STUDENT_STEPS.get(world, STUDENT_STEPS["enumerable"])


def _register() -> None:
    for process in ("masked", "uniform"):
        for world in ("coins", "parity", "permutations", "markov"):
            _add(f"{world}-{process}-exact", partial(_exact, world, process))
        for world in WORLDS:
            kind = world if world in SIZES else "enumerable"
            _add(f"{world}-{process}-teacher", partial(_teacher, kind, world, process))
            for steps in student_steps(world):
                name = f"{world}-{process}-dmmd-{steps}"
                _add(name, partial(_dmmd, kind, world, process, steps, NOISE[kind], ""))
                _add(f"{name}-nonoise", partial(_dmmd, kind, world, process, steps, 0, "-nonoise"))
                if world in TEXT_WORLDS:
                    _add(f"{name}-p85", partial(_sharpened, RECIPES[name]))
        for role in ("teacher", *(f"dmmd-{steps}" for steps in student_steps("docstrings"))):
            name = f"docstrings-{process}-{role}"
            _add(f"{name}-block{BLOCK}", partial(_blocked, RECIPES[name]))
    for role, (make, processes) in OTHERS.items():
        for process, world in product(processes, COMPARED):
            kind = world if world in SIZES else "enumerable"
            for steps in (1,) if role in ONE_STEP else student_steps(world):
                _add(f"{world}-{process}-{role}-{steps}", partial(make, kind, world, process, steps))
    for role in ("baseline", "judge"):
        for world in ("docstrings", "books27", "books"):
            _add(f"{world}-ar-{role}", partial(_autoregressive, world, world, role))


_register()
