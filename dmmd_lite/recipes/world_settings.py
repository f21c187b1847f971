"""The numbers of the catalogue: networks, batches, training lengths and rates of every world, by scale.

Scales: "smoke" runs in seconds and proves only that the parts fit; "laptop" is what this book shows live;
"desk" is a night of two cores, for the worlds that have it; "gpu" is for one accelerator; "paper" gives sizes
of the kind used in the literature, to be read together with `cost`. The paper states no hyper-parameters;
ours are written down here and in `students`.

A new world needs its class (`worlds.WORLDS`) and one entry of `WORLD_SETTINGS`.
"""

from dataclasses import dataclass, field, replace
from typing import Any

from dmmd_lite.utils.checks import check_choice
from dmmd_lite.utils.scales import SCALES

NOISES = (
    "masked",
    "uniform",
)  # noise processes the catalogue has recipes for, names of `processes.PROCESSES`
STRENGTH_STEPS = 16  # sampling steps of the students of teachers of other strengths
BLOCK = 32  # tokens per block in the block-autoregressive variants


@dataclass(frozen=True)
class ScaleSettings:
    """The network and the training of a world's models at one scale.

    Args:
    network: keyword arguments of `Transformer`.
    dmmd_lr: peak learning rates of generator and auxiliary.
    dmmd_ema: decay of the averaged student.
    accumulation: parts a batch is split into, for the teacher and for D-MMD.
    judge: changes to the network of the autoregressive judge, and its updates; None: as the baseline.
    """

    network: dict
    batch_size: int
    teacher_steps: int
    teacher_lr: float
    dmmd_batch_size: int
    dmmd_steps: int
    dmmd_lr: tuple[float, float]
    dmmd_ema: float
    accumulation: tuple[int, int] = (1, 1)
    judge: tuple[dict, int] | None = None


@dataclass(frozen=True)
class Strength:
    """A teacher that is weaker or stronger than its world's: factors of its updates, and of the width and
    the heads of its network and its students' networks."""

    updates: float
    width: int = 1


@dataclass(frozen=True)
class WorldSettings:
    """All that recipes and comparisons need to know of a world.

    Args:
    kind: "tiny" (all sequences can be enumerated), "listed" (the outcomes can), "chain" (a Markov chain),
    "images", "text", "strings" (short texts with a grammar) or "puzzles".
    scales: scale -> `ScaleSettings`.
    student_steps: numbers of sampling steps that students are trained for.
    noise_channels: channels of input noise.
    noise_std: standard deviation of the initial weights of the noise's projection.
    floor: minimum probability of exact posteriors used as a teacher. D-MMD's generator loss is unbounded
    where the teacher's probability vanishes, so on tiny worlds a far smaller floor than 1e-3 lets the
    repulsion from impossible pairs win over everything.
    validation: the metric that students' checkpoints are chosen by; "" keeps the last one.
    judged_by: metrics of comparisons. The first decides; the others say what was given up.
    samples: samples per cell of a comparison, where a metric draws them.
    compared: whether all methods have students on this world, or the names of those beside D-MMD that have.
    baseline: whether an autoregressive baseline and an autoregressive judge are trained.
    blocks: whether there are block-autoregressive variants of teacher and D-MMD.
    holds: which positions of training sequences are held (`worlds.holds.HOLDS`).
    strengths: suffix of names -> teachers of other strengths, each with D-MMD students of 16 steps.
    overrides: "PROCESS" or "PROCESS-STEPS" -> {field: value} and {scale: {field of its settings: value}},
    for students, or all models, of one noise.
    """

    kind: str
    scales: dict[str, ScaleSettings]
    student_steps: tuple[int, ...]
    noise_channels: int = 1
    noise_std: float = 0.0
    floor: float = 1e-3
    validation: str = ""
    judged_by: tuple[str, ...] = ()
    samples: int = 2000
    compared: bool | tuple[str, ...] = False
    baseline: bool = False
    blocks: bool = False
    holds: str = ""
    strengths: dict[str, Strength] = field(default_factory=dict)
    overrides: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self):
        kinds = ("tiny", "listed", "chain", "images", "text", "strings", "puzzles")
        check_choice("kind", self.kind, kinds)

    @property
    def exact(self) -> bool:
        """Whether the posterior is known: it is the students' teacher, and networks are fitted to it."""
        return self.kind in ("tiny", "listed", "chain")

    @property
    def shown_at(self) -> str:
        """The scale of the models that ship and are shown: "desk" where the world has it, else "laptop"."""
        return "desk" if "desk" in self.scales else "laptop"

    def compares(self, role: str) -> bool:
        """Return whether a method beside D-MMD has students on this world; D-MMD has some on every one."""
        return role != "dmmd" and (self.compared is True or role in (self.compared or ()))

    def at(self, scale: str) -> ScaleSettings:
        """Return the numbers of a scale; ValueError for one that the world does not have."""
        check_choice("scale", scale, self.scales)
        return self.scales[scale]


TINY = {"width": 32, "depth": 2, "heads": 2, "time_width": 16}
LAPTOP = {"width": 96, "depth": 3, "heads": 4}
COARSE = {"width": 96, "depth": 4, "heads": 4, "patch": 4}  # 16 positions for 16 x 16 pixels
PIXELS = {"width": 160, "depth": 6, "heads": 5, "patch": 4}  # 49 positions for 28 x 28 pixels
GPU = {"width": 512, "depth": 8, "heads": 8, "mlp_ratio": 4, "time_width": 128}
PAPER = {"width": 768, "depth": 12, "heads": 12, "mlp_ratio": 4, "time_width": 128}
# Text networks: short rotary wavelengths and a width-5 convolution, so that neighbours are easy to attend to.
TEXT_LAYERS = {"rotary_base": 100, "local": 5}
TEXT = {"width": 128, "depth": 3, "heads": 4, **TEXT_LAYERS}
# Cells of a grid: their places mean something, and neighbours in a line mean no more than others.
GRID = {"width": 96, "depth": 4, "heads": 4, "positions": True}
STRINGS = {"width": 160, "depth": 6, "heads": 5, **TEXT_LAYERS}
# For texts of subword tokens, whose embeddings take 39 M more parameters.
TOKENS = {"width": 384, "depth": 8, "heads": 6, "mlp_ratio": 4, "time_width": 128}
TINY_WORLD = WorldSettings(
    "tiny",
    {
        "smoke": ScaleSettings(TINY, 64, 20, 3e-3, 64, 20, (1e-3, 1e-3), 0.9),
        "laptop": ScaleSettings(TINY, 256, 600, 3e-3, 256, 3000, (1e-3, 1e-3), 0.995),
        "gpu": ScaleSettings(LAPTOP, 2048, 2000, 2e-3, 2048, 8000, (5e-4, 5e-4), 0.995),
        "paper": ScaleSettings(PAPER, 512, 10_000, 3e-4, 512, 50_000, (3e-5, 6e-5), 0.9999),
    },
    (1, 2, 4),
    noise_channels=4,
    judged_by=("total_variation", "invalid_mass"),
    compared=True,
)
# An auxiliary 4 times as fast as the student was better on validation images than one 2 times as fast.
GLYPHS = WorldSettings(
    "images",
    {
        "smoke": ScaleSettings(TINY, 16, 20, 2e-3, 16, 10, (1e-4, 2e-4), 0.9),
        "laptop": ScaleSettings(COARSE, 64, 12_000, 2e-3, 64, 400, (5e-4, 2e-3), 0.997),
        "gpu": ScaleSettings(GPU, 512, 10_000, 5e-4, 512, 5000, (2e-4, 4e-4), 0.999),
        "paper": ScaleSettings(PAPER, 256, 1_000_000, 2e-4, 256, 200_000, (1e-5, 2e-5), 0.9999),
    },
    (4, 8, 16, 32),
    validation="frechet",
    judged_by=("frechet", "coverage", "class_histogram"),
    samples=5000,
)
FASHION_MNIST = WorldSettings(
    "images",
    {
        "smoke": ScaleSettings(TINY, 4, 5, 2e-3, 4, 5, (1e-4, 2e-4), 0.9),
        "laptop": ScaleSettings(LAPTOP, 32, 3000, 2e-3, 32, 300, (1e-3, 2e-3), 0.995),
        "desk": ScaleSettings(PIXELS, 32, 32_000, 1e-3, 32, 1200, (5e-4, 2e-3), 0.998),
        "gpu": ScaleSettings(GPU, 256, 12_000, 5e-4, 256, 3000, (2e-4, 4e-4), 0.998),
        "paper": ScaleSettings(PAPER, 256, 1_000_000, 2e-4, 256, 200_000, (1e-5, 2e-5), 0.9999, (1, 2)),
    },
    (4, 8, 16, 32),
    validation="frechet",
    judged_by=("frechet", "coverage", "class_histogram"),
    strengths={"weak16": Strength(1 / 16), "weak4": Strength(1 / 4)},
)
SUDOKU = WorldSettings(
    "puzzles",
    {
        "smoke": ScaleSettings(TINY, 8, 20, 2e-3, 8, 20, (1e-4, 2e-4), 0.9),
        "laptop": ScaleSettings(GRID, 32, 3000, 2e-3, 32, 400, (5e-4, 1e-3), 0.995),
        "desk": ScaleSettings(
            {**GRID, "width": 160, "depth": 8, "heads": 5}, 32, 16_000, 1e-3, 32, 1500, (5e-4, 1e-3), 0.998
        ),
        "gpu": ScaleSettings(GPU, 256, 20_000, 5e-4, 256, 5000, (2e-4, 4e-4), 0.999),
        "paper": ScaleSettings(PAPER, 256, 20_000, 3e-4, 256, 20_000, (1e-5, 2e-5), 0.9999),
    },
    (4, 16),
    noise_channels=8,
    validation="solved",
    judged_by=("solved", "valid_cells"),
    compared=("sdtt", "di4c", "idlm"),
    holds="clues",
)
WORLD_SETTINGS: dict[str, WorldSettings] = {
    "coins": TINY_WORLD,
    "parity": TINY_WORLD,
    # From noise_std = 0 no masked student left the saddle: 24 outcomes leave little to gain at first.
    "permutations": replace(TINY_WORLD, student_steps=(1, 2, 4, 16), noise_std=0.5),
    "sudoku4": WorldSettings(
        "listed",
        {
            "smoke": ScaleSettings(TINY, 32, 20, 3e-3, 32, 20, (1e-3, 1e-3), 0.9),
            "laptop": ScaleSettings(GRID, 128, 3000, 3e-3, 128, 1500, (1e-3, 1e-3), 0.995),
            "desk": ScaleSettings(
                {**GRID, "width": 64, "depth": 3}, 128, 6000, 2e-3, 128, 6000, (1e-3, 1e-3), 0.998
            ),
            "gpu": ScaleSettings(GPU, 1024, 10_000, 5e-4, 1024, 10_000, (2e-4, 4e-4), 0.999),
            "paper": ScaleSettings(PAPER, 512, 50_000, 3e-4, 512, 50_000, (3e-5, 6e-5), 0.9999),
        },
        (1, 2, 4),
        noise_channels=8,
        noise_std=0.5,
        judged_by=("total_variation", "invalid_mass"),
        compared=True,
    ),
    "sudoku": SUDOKU,
    "sudoku_medium": SUDOKU,
    "sudoku_hard": SUDOKU,
    # The student of 8 steps is the one of the page on text whose distribution is known; it trains longer.
    "markov": WorldSettings(
        "chain",
        {
            "smoke": ScaleSettings(TINY, 16, 20, 2e-3, 16, 20, (1e-4, 2e-4), 0.9),
            "laptop": ScaleSettings({**LAPTOP, **TEXT_LAYERS}, 32, 2000, 3e-3, 32, 300, (1e-3, 2e-3), 0.99),
            "gpu": ScaleSettings(GPU, 512, 10_000, 5e-4, 512, 10_000, (2e-4, 4e-4), 0.999),
            "paper": ScaleSettings(PAPER, 512, 1_000_000, 3e-4, 512, 50_000, (1e-5, 2e-5), 0.9999),
        },
        (1, 4, 8, 16),
        floor=1e-6,
        judged_by=("ngram_divergence", "log_likelihood"),
        compared=True,
        overrides={
            "masked-8": {"laptop": {"dmmd_steps": 1200, "dmmd_ema": 0.998}, "validation": "ngram_divergence"}
        },
    ),
    # On validation images longer runs improve masked students and do not improve uniform ones.
    "digits": WorldSettings(
        "images",
        {
            "smoke": ScaleSettings(TINY, 32, 30, 2e-3, 16, 20, (1e-4, 2e-4), 0.9),
            "laptop": ScaleSettings(LAPTOP, 128, 2000, 2e-3, 64, 400, (2e-3, 4e-3), 0.997),
            "gpu": ScaleSettings(GPU, 512, 5000, 5e-4, 512, 10_000, (2e-4, 4e-4), 0.999),
            "paper": ScaleSettings(PAPER, 256, 1_000_000, 2e-4, 256, 200_000, (1e-5, 2e-5), 0.9999),
        },
        (1, 4, 8, 16),
        validation="frechet",
        judged_by=("frechet", "coverage", "class_histogram"),
        compared=True,
        overrides={"masked": {"laptop": {"dmmd_steps": 1000, "dmmd_lr": (1e-3, 2e-3), "dmmd_ema": 0.998}}},
    ),
    "glyphs": GLYPHS,
    "glyphs256": GLYPHS,
    "photos": WorldSettings(
        "images",
        {
            "smoke": ScaleSettings(TINY, 2, 2, 2e-3, 2, 2, (1e-4, 2e-4), 0.9),
            "laptop": ScaleSettings(LAPTOP, 32, 400, 2e-3, 32, 60, (5e-4, 1e-3), 0.98),
            "gpu": ScaleSettings(GPU, 128, 5000, 5e-4, 128, 1000, (2e-4, 4e-4), 0.995),
            "paper": ScaleSettings(PAPER, 128, 1_500_000, 2e-4, 256, 200_000, (1e-5, 2e-5), 0.9999, (1, 4)),
        },
        (4, 16),
    ),
    "fashion_mnist": FASHION_MNIST,
    "mnist": FASHION_MNIST,
    "cifar10": WorldSettings(
        "images",
        {
            "smoke": ScaleSettings(TINY, 2, 2, 2e-3, 2, 2, (1e-4, 2e-4), 0.9),
            "laptop": ScaleSettings(LAPTOP, 32, 1500, 2e-3, 32, 100, (5e-4, 1e-3), 0.98),
            "gpu": ScaleSettings(GPU, 128, 20_000, 5e-4, 128, 4000, (2e-4, 4e-4), 0.999),
            "paper": ScaleSettings(PAPER, 128, 1_500_000, 2e-4, 256, 200_000, (1e-5, 2e-5), 0.9999, (1, 4)),
        },
        (4, 8, 16, 32, 64),
        validation="frechet",
    ),
    "docstrings": WorldSettings(
        "text",
        {
            "smoke": ScaleSettings(TINY, 16, 20, 2e-3, 16, 20, (1e-4, 2e-4), 0.9),
            "laptop": ScaleSettings(TEXT, 32, 4000, 3e-3, 32, 400, (1e-3, 2e-3), 0.995),
            "gpu": ScaleSettings(GPU, 512, 10_000, 5e-4, 512, 10_000, (2e-4, 4e-4), 0.999),
            "paper": ScaleSettings(PAPER, 512, 1_000_000, 3e-4, 512, 50_000, (1e-5, 2e-5), 0.9999),
        },
        (1, 4, 16),
        noise_channels=8,
        validation="gradient_moment",
        judged_by=("gradient_moment", "perplexity", "distinct_4grams"),
        samples=512,
        compared=True,
        baseline=True,
        blocks=True,
        strengths={"x3": Strength(3), "x9": Strength(9), "wide": Strength(3.6, 2)},
    ),
    "molecules": WorldSettings(
        "strings",
        {
            "smoke": ScaleSettings(TINY, 16, 20, 2e-3, 16, 20, (1e-4, 2e-4), 0.9),
            "laptop": ScaleSettings({**LAPTOP, **TEXT_LAYERS}, 64, 2500, 3e-3, 64, 400, (1e-3, 2e-3), 0.995),
            "desk": ScaleSettings(STRINGS, 64, 24_000, 2e-3, 64, 1500, (1e-3, 2e-3), 0.998),
            "gpu": ScaleSettings(GPU, 512, 50_000, 5e-4, 512, 10_000, (2e-4, 4e-4), 0.999),
            "paper": ScaleSettings(PAPER, 1024, 50_000, 3e-4, 512, 50_000, (1e-5, 2e-5), 0.9999),
        },
        (1, 2, 4),
        noise_channels=8,
        validation="valid_unique",
        judged_by=("valid_unique", "valid", "unique", "novel"),
        samples=1024,
        compared=True,
    ),
    "books27": WorldSettings(
        "text",
        {
            "smoke": ScaleSettings(TINY, 8, 10, 2e-3, 8, 10, (1e-4, 2e-4), 0.9),
            "laptop": ScaleSettings(TEXT, 32, 4000, 3e-3, 32, 400, (1e-3, 2e-3), 0.995),
            "desk": ScaleSettings(
                TEXT,
                *(16, 36_000, 2e-3),
                *(16, 1600, (1e-3, 2e-3), 0.998),
                judge=({"width": 256, "depth": 4}, 14_000),
            ),
            "gpu": ScaleSettings(GPU, 256, 10_000, 5e-4, 256, 5000, (2e-4, 4e-4), 0.999),
            "paper": ScaleSettings(PAPER, 512, 1_000_000, 3e-4, 512, 50_000, (1e-5, 2e-5), 0.9999, (4, 8)),
        },
        (4, 8, 16, 32),
        noise_channels=8,
        validation="gradient_moment",
        judged_by=("gradient_moment", "perplexity", "sample_entropy", "distinct_4grams"),
        samples=1000,
        baseline=True,
        strengths={"weak9": Strength(1 / 9), "weak3": Strength(1 / 3), "wide": Strength(0.4, 2)},
    ),
    "books": WorldSettings(
        "text",
        {
            "smoke": ScaleSettings(TINY, 1, 2, 2e-3, 1, 2, (1e-4, 2e-4), 0.9),
            "laptop": ScaleSettings(TEXT, 8, 2000, 2e-3, 8, 200, (5e-4, 1e-3), 0.99, (4, 8)),
            "gpu": ScaleSettings(TOKENS, 64, 3000, 1e-3, 64, 1000, (2e-4, 4e-4), 0.995, (4, 8)),
            "paper": ScaleSettings(PAPER, 512, 1_000_000, 3e-4, 512, 50_000, (1e-5, 2e-5), 0.9999, (32, 64)),
        },
        (8, 16, 32),
        noise_channels=8,
        baseline=True,
    ),
    "openwebtext": WorldSettings(
        "text",
        {
            "smoke": ScaleSettings(TINY, 1, 2, 2e-3, 1, 2, (1e-4, 2e-4), 0.9),
            "laptop": ScaleSettings(TEXT, 8, 2000, 2e-3, 8, 200, (5e-4, 1e-3), 0.99, (4, 8)),
            "gpu": ScaleSettings(TOKENS, 64, 30_000, 1e-3, 64, 5000, (2e-4, 4e-4), 0.999, (4, 8)),
            "paper": ScaleSettings(PAPER, 512, 1_000_000, 3e-4, 512, 50_000, (1e-5, 2e-5), 0.9999, (32, 64)),
        },
        (8, 16, 32),
        noise_channels=8,
    ),
}


def settings_of(world: str, process: str = "", steps: int | None = None) -> WorldSettings:
    """Return a world's settings: for all models, for those of a noise, or for its students of `steps` steps.

    NAME@LEVELS, an image world with another number of levels, has the settings of NAME. ValueError for a
    world that has none.
    """
    name = world.partition("@")[0]
    if name not in WORLD_SETTINGS:
        raise ValueError(f"world: {world!r} has no settings; choose one of {list(WORLD_SETTINGS)}")
    settings = WORLD_SETTINGS[name]
    keys = (f"{process}-{steps}", process)
    changes = next((settings.overrides[key] for key in keys if key in settings.overrides), {})
    scales = {scale: replace(numbers, **changes.get(scale, {})) for scale, numbers in settings.scales.items()}
    return replace(settings, scales=scales, **{k: v for k, v in changes.items() if k not in SCALES})


def compared_worlds() -> tuple[str, ...]:
    """Return the names of the worlds that methods are compared on."""
    return tuple(name for name, settings in WORLD_SETTINGS.items() if settings.compared)
