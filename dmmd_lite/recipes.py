"""Named experiments at four scales: everything that decides a trained model, and nothing about paths.

Names are WORLD-PROCESS-ROLE[-STEPS][-VARIANT]: `digits-masked-teacher`, `digits-uniform-dmmd-8`,
`coins-masked-dmmd-1-nonoise`. Role "exact" is an exact world's own posterior and needs no training. The
process of autoregressive models is called "ar", their roles "baseline" and "judge". Variant "block32"
diffuses blocks of 32 tokens, one after the other.

Scales: "smoke" runs in seconds and proves only that the parts fit; "laptop" is what this book shows;
"gpu" is for one accelerator; "paper" gives sizes of the kind used in the literature, to be read
together with `cost`. The paper states no hyper-parameters; ours are written down here and nowhere else.
"""

from collections.abc import Callable
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass, replace
from functools import partial
from typing import Any, get_type_hints

import torch

from dmmd_lite.networks import BlockTransformer, Transformer
from dmmd_lite.objectives.dmmd import Switches
from dmmd_lite.processes import get_process
from dmmd_lite.training import Options
from dmmd_lite.worlds import WORLDS, get_world

SCALES = ("smoke", "laptop", "gpu", "paper")
AUTOREGRESSIVE = "ar"
ROLES = ("exact", "teacher", "dmmd", "baseline", "judge")


@dataclass(frozen=True)
class Recipe:
    """One model: what it learns from, its network, its training.

    network: keyword arguments of `Transformer` beyond the symbols; empty for role "exact".
    block: tokens a block for block-autoregressive diffusion, with a `BlockTransformer`; 0 for one without.
    split: the part of the world it learns from.
    start: recipe whose weights student and auxiliary begin from. teacher: recipe of the frozen teacher.
    loss, fit_exact: for teachers, the loss and whether targets are the world's exact posteriors.
    output: the law the network's logits describe (see `denoisers.py`).
    floor: least probability of the exact posteriors used as teacher or target; unused without them.
    method: D-MMD's switches. validation: the metric that chooses the checkpoint; "" keeps the last.
    """

    name: str
    scale: str
    world: str
    process: str
    role: str
    schedule: str = "linear"
    network: dict = field(default_factory=dict)
    output: str = "posterior"
    loss: str = "cross_entropy"
    fit_exact: bool = False
    floor: float = 1e-6
    split: str = "train"
    start: str = ""
    teacher: str = ""
    method: Switches | None = None
    validation: str = ""
    training: Options | None = None
    block: int = 0

    def to_dict(self) -> dict:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> "Recipe":
        """The inverse of `to_dict`; ValueError for an unknown or missing key or a value of another type."""
        return _build(cls, values, "recipe")

    def with_changes(self, changes: dict[str, Any]) -> "Recipe":
        """A copy with dotted keys changed, {"training.steps": 100, "network.width": 64}; strict."""
        values = self.to_dict()
        for key, value in changes.items():
            *path, last = key.split(".")
            place = values
            for part in path:
                place = place.get(part) if isinstance(place, dict) else None
            if not isinstance(place, dict) or (
                last not in place and path not in (["network"], ["training", "lr"], ["training", "ema"])
            ):
                raise ValueError(f"key: {key!r} is not allowed; choose from {sorted(_keys(self.to_dict()))}")
            place[last] = value
        return Recipe.from_dict(values)

    def make_network(self) -> Transformer:
        """The recipe's network, freshly initialised."""
        world, causal = get_world(self.world), self.process == AUTOREGRESSIVE
        num_symbols = (
            world.vocab_size + 1
            if causal
            else get_process(self.process, world.vocab_size, self.schedule).num_symbols
        )
        if causal and self.block:
            raise ValueError(f"block: {self.block} is not allowed for process {AUTOREGRESSIVE!r}; only 0")
        try:
            if self.block:
                return BlockTransformer(num_symbols, world.vocab_size, self.block, **self.network)
            return Transformer(
                num_symbols,
                world.vocab_size,
                world.length,
                image_shape=world.image_shape,
                causal=causal,
                **self.network,
            )
        except TypeError:
            allowed = [
                "patch",
                "width",
                "depth",
                "heads",
                "mlp_ratio",
                "time_width",
                "rotary_base",
                "local",
                "noise",
            ]
            allowed += ["encoder_depth"] * bool(self.block)
            raise ValueError(
                f"network: {self.network} is not allowed; the keys are {allowed}, whole numbers"
            ) from None


def _keys(values: dict, prefix: str = "") -> list[str]:
    return [
        k
        for key, value in values.items()
        for k in (_keys(value, f"{prefix}{key}.") if isinstance(value, dict) else [f"{prefix}{key}"])
    ]


def _build(cls, values: dict, where: str):
    """A dataclass from plain values, refusing unknown keys and wrong types."""
    hints = get_type_hints(cls)
    if not isinstance(values, dict):
        raise ValueError(f"{where}: {values!r} is not allowed; it holds the keys {sorted(hints)}")
    for key in values:
        if key not in hints:
            raise ValueError(f"{where}: key {key!r} is not allowed; choose from {sorted(hints)}")
    for f in fields(cls):
        if f.name not in values and f.default is MISSING and f.default_factory is MISSING:
            raise ValueError(f"{where}: key {f.name!r} is missing")
    return cls(**{key: _convert(hints[key], value, f"{where}.{key}") for key, value in values.items()})


def _convert(hint, value, where: str):
    options = [hint] if isinstance(hint, type) else list(getattr(hint, "__args__", ()))
    dataclass_type = next((h for h in options if is_dataclass(h)), None)
    if dataclass_type is not None:
        if value is None or isinstance(value, dataclass_type):
            return value
        return _build(dataclass_type, value, where)
    kind = getattr(hint, "__origin__", hint)
    if kind is tuple and isinstance(value, list | tuple):
        return tuple(value)
    number = kind is float and isinstance(value, int) and not isinstance(value, bool)
    wrong = not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)
    if wrong and not number:
        raise ValueError(f"{where}: {value!r} is not allowed; it must be of type {kind.__name__}")
    return float(value) if number else value


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


def cost(recipe: Recipe) -> dict[str, float]:
    """What training a recipe takes: parameters of one network, tokens seen, operations, hours and memory.

    A forward pass is 2 operations a parameter and position, a backward pass twice that. A D-MMD step
    costs 5 forward units when players alternate (mean of generator 3+1+1 and auxiliary 1+1+3) and 7 when
    one draw serves both; a teacher step 3. Attention itself and validation are left out.

    hours_at_400_tflops: at 4e14 operations a second, two fifths of an H200's dense bfloat16 peak, which only
    wide networks reach; other devices in proportion. memory_gb: in float32, four copies of every trained
    network (weights, gradient, two moments), one of every averaged or frozen one, and a rough estimate of
    activations, for one process: 30 values a channel, block and position and 4 a logit for each network
    that keeps a gradient, and in D-MMD 3 more a logit (measured on a CPU).
    """
    if recipe.role == "exact":
        return dict.fromkeys(("parameters", "tokens", "flop", "hours_at_400_tflops", "memory_gb"), 0)
    world = get_world(recipe.world)
    with torch.device("meta"):  # shapes without memory
        network = recipe.make_network()
    parameters = sum(p.numel() for p in network.parameters())
    training = recipe.training
    sequences = training.steps * training.batch_size
    if recipe.block:
        length = (recipe.block + world.length) / 2  # of a sequence in training, averaged over its last blocks
        encoder = sum(p.numel() for p in network.encoder.parameters())
        work = (parameters - encoder) * recipe.block + encoder * (length - recipe.block)
        places = len(network.blocks) * recipe.block + len(network.encoder) * (world.length - recipe.block)
    else:
        length = world.length
        symbols = 1 if world.image_shape is None else world.image_shape[2] * network.stem.patch**2  # a vector
        work = parameters * (length // symbols)
        places = len(network.blocks) * (length // symbols)
    units = {"alternating": 5, "fused": 7}[recipe.method.updates] if recipe.method else 3
    flop = int(units * 2 * work * sequences)
    frozen = bool(recipe.teacher) and not recipe.teacher.endswith("-exact")
    copies = 4 * len(training.lr) + len(training.ema) + frozen
    with_gradient = 2 if recipe.method and recipe.method.updates == "fused" else 1
    in_blocks = 30 * network.modulation.out_features / 2 * places
    logits = world.length * world.vocab_size
    a_sequence = with_gradient * (in_blocks + 4 * logits) + (3 * logits if recipe.method else 0)
    activations = a_sequence * training.batch_size / training.accumulation
    return {
        "parameters": parameters,
        "tokens": int(sequences * length),
        "flop": flop,
        "hours_at_400_tflops": flop / 4e14 / 3600,
        "memory_gb": 4 * (copies * parameters + activations) / 1e9,
    }


# --- the recipes -----------------------------------------------------------------------------------------


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
            {**LAPTOP, "rotary_base": 100, "local": 5}, 32, 2000, 3e-3, 32, 400, (3e-4, 6e-4), 0.99
        ),
        "gpu": Size(GPU, 512, 10_000, 5e-4, 512, 10_000, (2e-4, 4e-4), 0.999),
        "paper": Size(PAPER, 512, 1_000_000, 3e-4, 512, 50_000, (1e-5, 2e-5), 0.9999),
    },
}


EXACT_KINDS = ("enumerable", "markov")
TEXT_WORLDS = ("docstrings", "books27", "books", "openwebtext")
STUDENT_STEPS = {
    "enumerable": (1, 2, 4),
    "digits": (4, 8, 16),
    "markov": (4, 8, 16),
    "docstrings": (4, 16),
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


def _add(name: str, make: Callable[[str], Recipe]) -> None:
    RECIPES[name] = make


def _exact(world: str, process: str, scale: str) -> Recipe:
    return Recipe(f"{world}-{process}-exact", scale, world, process, "exact")


def _teacher(kind: str, world: str, process: str, scale: str) -> Recipe:
    """Networks learn from data; on exact worlds they are fitted to the exact posteriors."""
    size, exact = SIZES[kind][scale], kind in EXACT_KINDS
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


def _dmmd(kind: str, world: str, process: str, steps: int, noise: int, variant: str, scale: str) -> Recipe:
    """On exact worlds the frozen teacher is the exact posterior itself, floored at 1e-3 on the tiny ones:
    the generator's loss is unbounded where the teacher's probability vanishes, so a far smaller floor lets
    the repulsion from impossible pairs win over everything.

    Tiny worlds alternate updates as published; elsewhere both players learn from one draw, which saves
    three tenths of the work. The one-step student of the coins under uniform noise always starts from
    t = 1, the only time it is used at; parity keeps the bridge, whose t < 1 break its symmetry.
    """
    size, tiny = SIZES[kind][scale], kind == "enumerable"
    one_step = tiny and steps == 1 and process == "uniform"
    generator_lr, auxiliary_lr = size.dmmd_lr
    training = Options(
        size.dmmd_steps,
        size.dmmd_batch_size,
        {"generator": generator_lr, "auxiliary": 3 * auxiliary_lr if one_step else auxiliary_lr},
        betas=(0.0, 0.99),
        decay="linear",
        accumulation=size.accumulation[1],
        ema={"generator": size.dmmd_ema},
        validate_every=0 if tiny or not VALIDATION[kind] else max(1, size.dmmd_steps // 4),
    )
    method = Switches(
        steps,
        times="start" if one_step and world == "coins" else "bridge",
        updates="alternating" if tiny else "fused",
    )
    start = f"{world}-{process}-teacher"
    return Recipe(
        f"{world}-{process}-dmmd-{steps}{variant}",
        scale,
        world,
        process,
        "dmmd",
        network={**size.network, "noise": noise},
        floor=1e-6 if kind == "markov" else 1e-3,
        start=start,
        teacher=f"{world}-{process}-exact" if kind in EXACT_KINDS else start,
        method=method,
        validation=VALIDATION[kind],
        training=training,
    )


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


def _register() -> None:
    for process in ("masked", "uniform"):
        for world in ("coins", "parity", "permutations", "markov"):
            _add(f"{world}-{process}-exact", partial(_exact, world, process))
        for world in WORLDS:
            kind = world if world in SIZES else "enumerable"
            _add(f"{world}-{process}-teacher", partial(_teacher, kind, world, process))
            for steps in STUDENT_STEPS[kind]:
                name = f"{world}-{process}-dmmd-{steps}"
                _add(name, partial(_dmmd, kind, world, process, steps, NOISE[kind], ""))
                _add(f"{name}-nonoise", partial(_dmmd, kind, world, process, steps, 0, "-nonoise"))
                if world in TEXT_WORLDS:
                    _add(f"{name}-p85", partial(_sharpened, RECIPES[name]))
        for role in ("teacher", *(f"dmmd-{steps}" for steps in STUDENT_STEPS["docstrings"])):
            name = f"docstrings-{process}-{role}"
            _add(f"{name}-block{BLOCK}", partial(_blocked, RECIPES[name]))
    for role in ("baseline", "judge"):
        for world in ("docstrings", "books27", "books"):
            _add(f"{world}-ar-{role}", partial(_autoregressive, world, world, role))


_register()
