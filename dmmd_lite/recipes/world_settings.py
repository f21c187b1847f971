"""The numbers of the catalogue: networks, batches, lengths and rates of every kind of world at four scales.

Scales: "smoke" runs in seconds and proves only that the parts fit; "laptop" is what this book shows;
"gpu" is for one accelerator; "paper" gives sizes of the kind used in the literature, to be read
together with `cost`. The paper states no hyper-parameters; ours are written down here and in `students`.

A world's kind is its own name, or "enumerable" for the tiny worlds, which share their numbers; worlds of the
same pictures are of one kind, whatever the number of levels.
"""

from dataclasses import dataclass, replace
from typing import Any


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
COARSE = {"width": 96, "depth": 4, "heads": 4, "patch": 4}  # 16 positions for 16 x 16 pixels
GPU = {"width": 512, "depth": 8, "heads": 8, "mlp_ratio": 4, "time_width": 128}
PAPER = {"width": 768, "depth": 12, "heads": 12, "mlp_ratio": 4, "time_width": 128}
TEXT_LAYERS = {"rotary_base": 100, "local": 5}  # for text: a sense of who is next to whom
TEXT = {"width": 128, "depth": 3, "heads": 4, **TEXT_LAYERS}
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
    "glyphs": {  # an auxiliary 4 times as fast as the student: better on validation images than 2 times
        "smoke": Size(TINY, 16, 20, 2e-3, 16, 10, (1e-4, 2e-4), 0.9),
        "laptop": Size(COARSE, 64, 12_000, 2e-3, 64, 400, (5e-4, 2e-3), 0.997),
        "gpu": Size(GPU, 512, 10_000, 5e-4, 512, 5000, (2e-4, 4e-4), 0.999),
        "paper": Size(PAPER, 256, 1_000_000, 2e-4, 256, 200_000, (1e-5, 2e-5), 0.9999),
    },
    "photos": {
        "smoke": Size(TINY, 2, 2, 2e-3, 2, 2, (1e-4, 2e-4), 0.9),
        "laptop": Size(LAPTOP, 32, 400, 2e-3, 32, 60, (5e-4, 1e-3), 0.98),
        "gpu": Size(GPU, 128, 5000, 5e-4, 128, 1000, (2e-4, 4e-4), 0.995),
        "paper": Size(PAPER, 128, 1_500_000, 2e-4, 256, 200_000, (1e-5, 2e-5), 0.9999, (1, 4)),
    },
    "fashion_mnist": {
        "smoke": Size(TINY, 4, 5, 2e-3, 4, 5, (1e-4, 2e-4), 0.9),
        "laptop": Size(LAPTOP, 32, 3000, 2e-3, 32, 300, (1e-3, 2e-3), 0.995),
        "gpu": Size(GPU, 256, 12_000, 5e-4, 256, 3000, (2e-4, 4e-4), 0.998),
        "paper": Size(PAPER, 256, 1_000_000, 2e-4, 256, 200_000, (1e-5, 2e-5), 0.9999, (1, 2)),
    },
    "cifar10": {
        "smoke": Size(TINY, 2, 2, 2e-3, 2, 2, (1e-4, 2e-4), 0.9),
        "laptop": Size(LAPTOP, 32, 1500, 2e-3, 32, 100, (5e-4, 1e-3), 0.98),
        "gpu": Size(GPU, 128, 20_000, 5e-4, 128, 4000, (2e-4, 4e-4), 0.999),
        "paper": Size(PAPER, 128, 1_500_000, 2e-4, 256, 200_000, (1e-5, 2e-5), 0.9999, (1, 4)),
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
        "laptop": Size({**LAPTOP, **TEXT_LAYERS}, 32, 2000, 3e-3, 32, 300, (1e-3, 2e-3), 0.99),
        "gpu": Size(GPU, 512, 10_000, 5e-4, 512, 10_000, (2e-4, 4e-4), 0.999),
        "paper": Size(PAPER, 512, 1_000_000, 3e-4, 512, 50_000, (1e-5, 2e-5), 0.9999),
    },
}


SIZES["digits-masked"] = {  # on validation images longer runs help masked students, and uniform ones do not
    **SIZES["digits"],
    "laptop": replace(SIZES["digits"]["laptop"], dmmd_steps=1000, dmmd_lr=(1e-3, 2e-3), dmmd_ema=0.998),
}


SIZES["markov-masked-8"] = {  # the student of the page on text whose truth is known; a comparison takes less
    **SIZES["markov"],
    "laptop": replace(SIZES["markov"]["laptop"], dmmd_steps=1200, dmmd_ema=0.998),
}
SAME_KIND = {"glyphs256": "glyphs", "mnist": "fashion_mnist"}
EXACT_KINDS = ("enumerable", "markov")
TEXT_WORLDS = ("docstrings", "books27", "books", "openwebtext")
STUDENT_STEPS = {  # by world, else by kind
    "enumerable": (1, 2, 4),
    "permutations": (1, 2, 4, 16),
    "digits": (1, 4, 8, 16),
    "glyphs": (4, 8, 16, 32),
    "photos": (4, 16),
    "fashion_mnist": (4, 8, 16, 32),
    "cifar10": (4, 8, 16, 32, 64),
    "markov": (1, 4, 8, 16),
    "docstrings": (1, 4, 16),
    "books27": (8, 16, 32),
    "books": (8, 16, 32),
    "openwebtext": (8, 16, 32),
}
NOISE = {  # channels of input noise
    "enumerable": 4,
    "digits": 1,
    "glyphs": 1,
    "photos": 1,
    "fashion_mnist": 1,
    "cifar10": 1,
    "markov": 1,
    "docstrings": 8,
    "books27": 8,
    "books": 8,
    "openwebtext": 8,
}
NOISE_STD = {  # of the first weights of the noise's projection; 0 where a world is not named
    "permutations": 0.5,  # from 0 no masked student left the saddle (24 outcomes, so little to gain at first)
}
BLOCK = 32  # tokens a block in the block-autoregressive variants
VALIDATION = {
    "enumerable": "",
    "digits": "frechet",
    "glyphs": "frechet",
    "photos": "",
    "fashion_mnist": "frechet",
    "cifar10": "frechet",
    "markov": "",
    "markov-masked-8": "ngram_divergence",
    "docstrings": "gradient_moment",
    "books27": "gradient_moment",
    "books": "",
    "openwebtext": "",
}


def kind_of(world: str) -> str:
    """The kind of world whose numbers a world has."""
    name = world.partition("@")[0]
    kind = SAME_KIND.get(name, name)
    return kind if kind in SIZES else "enumerable"


def size_of(world: str, process: str, scale: str, steps: int | None = None) -> Size:
    """A world's size; that of its process, or of its students of so many steps, if these have their own."""
    return lookup(SIZES, world, process, steps)[scale]


def validation_of(world: str, process: str, steps: int | None = None) -> str:
    """The metric that a world's checkpoints are chosen by; "" where the last one counts. `steps` as above."""
    return lookup(VALIDATION, world, process, steps)


def lookup(table: dict[str, Any], world: str, process: str, steps: int | None) -> Any:
    kind = kind_of(world)
    names = (f"{kind}-{process}-{steps}", f"{kind}-{process}", kind)
    return next(table[name] for name in names if name in table)


def student_steps(world: str) -> tuple[int, ...]:
    """Numbers of sampling steps that a world has students for."""
    return STUDENT_STEPS.get(world, STUDENT_STEPS[kind_of(world)])


JUDGED_BY = {  # the first decides, less is better; the others say what was given up for it
    "coins": ("total_variation", "invalid_mass"),
    "parity": ("total_variation", "invalid_mass"),
    "permutations": ("total_variation", "invalid_mass"),
    "markov": ("ngram_divergence", "log_likelihood"),
    "digits": ("frechet", "coverage", "class_histogram"),
    "glyphs": ("frechet", "coverage", "class_histogram"),
    "docstrings": ("gradient_moment", "perplexity", "distinct_4grams"),
}
SAMPLES = {"docstrings": 512, "glyphs": 5000}  # per cell, where a metric draws them; elsewhere 2,000


def samples_of(world: str) -> int:
    """Samples a cell takes on a world."""
    return SAMPLES.get(world, 2000)
