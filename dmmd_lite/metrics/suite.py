"""The metrics by name: what each needs, which worlds it applies to, and its function.

`evaluate_samples` measures samples; `models.evaluation.evaluate` also measures denoisers. To add a metric,
put a `Metric` into `METRICS`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dmmd_lite.metrics import chain, diversity, entropy, exact_laws, molecules, puzzles
from dmmd_lite.metrics import feature_distances as distances
from dmmd_lite.metrics import gradient_moment as moments
from dmmd_lite.metrics.features import load_features
from dmmd_lite.metrics.inception import Inception, load_inception
from dmmd_lite.metrics.judges import Judge, check_symbols
from dmmd_lite.utils.checks import Seed, check_choice, checked
from dmmd_lite.utils.records import Record
from dmmd_lite.utils.rng import generator_for
from dmmd_lite.utils.tensors import Device, Integers
from dmmd_lite.worlds.base import World

NEEDS = {  # what a metric needs -> the arguments of its function, which returns a Record
    "tokens": "samples [n, L], the world, a seed, the split of the reference",
    "features": "features of the samples [n, d] and of the reference [m, d]",
    "training": "features of training images [n, d] and of the reference [m, d]",
    "inception": "FID's features of the samples [n, d] and of all training images [m, d]",
    "classes": "classes of the samples [n] and of the reference [m], the number of classes",
    "judge": "the judge's `Scores` of the samples and of the reference",
    "gradients": "the judge's `BlockGradients` of the samples and of the reference",
    "denoiser": "the denoiser, the process, data [n, L], times, a generator",
    "law": "distributions of the sampler [..., outcomes] and the world; it returns values [...]",
}


@dataclass(frozen=True)
class Metric:
    """A metric: one row of `METRICS`.

    Args:
    name: the name in records and on the command line.
    needs: a key of `NEEDS`, which says what the function is called with.
    trait: the trait of the worlds it applies to (`World.traits`); "any": all worlds.
    function: computes the record; of exact distributions ("law") the values, of which a record is made.
    default: False for a metric that is measured only where it is named.
    packages: modules of `utils.extras` that it needs.
    more_is_better: whether models with more of it win comparisons; else those with less do.
    """

    name: str
    needs: str
    trait: str
    function: Callable
    default: bool = True
    packages: tuple[str, ...] = ()
    more_is_better: bool = False

    def __post_init__(self):
        check_choice("needs", self.needs, NEEDS)

    @property
    def sign(self) -> int:
        """The factor that makes less of the value better: -1 where more is, else 1."""
        return -1 if self.more_is_better else 1

    @property
    def of_samples(self) -> bool:
        """Whether samples are measured, not a denoiser."""
        return self.needs not in ("denoiser", "law")


def _nearest_training(x: Tensor, world: World, seed: int, split: str) -> Record:
    return distances.nearest_training(x, world.stored("train"), world.stored(split))


def _against_real(metric: Callable) -> Callable:
    """Make a function of the needs "tokens" from a measure of diversity."""
    return lambda x, world, seed, split: metric(x, world.reference(split, len(x)))


def _of_molecules(metric: Callable) -> Callable:
    """Make a function of the needs "tokens" from a measure of molecules."""
    return lambda x, world, seed, split: metric(x, world)


MOLECULES = (molecules.valid, molecules.unique, molecules.valid_unique, molecules.novel)
PUZZLES = {
    "solved": lambda x, world, _, split: puzzles.solved(x, world, split),
    "valid_cells": lambda x, *_: puzzles.valid_cells(x),
    "valid_grids": lambda x, *_: puzzles.valid_grids(x),
}
METRICS = {
    metric.name: metric
    for metric in (
        Metric("total_variation", "law", "listed", exact_laws.total_variation),
        Metric("kl", "law", "listed", exact_laws.kl),
        Metric("invalid_mass", "law", "listed", exact_laws.invalid_mass),
        Metric("log_likelihood", "tokens", "chain", lambda x, world, *_: chain.log_likelihood(x, world)),
        Metric(
            "ngram_divergence",
            "tokens",
            "chain",
            lambda x, world, seed, _: chain.ngram_divergence(x, world, seed),
        ),
        Metric("frechet", "features", "images", distances.frechet),
        Metric("frechet_floor", "training", "images", distances.frechet_floor),
        Metric("kernel_distance", "features", "features", distances.kernel_distance),
        Metric("coverage", "features", "features", distances.coverage, more_is_better=True),
        Metric("density", "features", "features", distances.density),
        Metric("class_histogram", "classes", "images", distances.class_histogram),
        Metric("nearest_training", "tokens", "finite", _nearest_training),
        Metric("fid", "inception", "published", distances.fid, default=False),
        Metric("gradient_moment", "gradients", "judged", moments.gradient_moment),
        Metric("perplexity", "judge", "judged", moments.perplexity),
        Metric("distinct_4grams", "tokens", "text", _against_real(diversity.distinct_4grams)),
        Metric("distinct_words", "tokens", "letters", _against_real(diversity.distinct_words)),
        Metric("duplicates", "tokens", "text", _against_real(diversity.duplicates)),
        Metric("repetition", "tokens", "text", _against_real(diversity.repetition)),
        *(
            Metric(
                f.__name__, "tokens", "molecules", _of_molecules(f), packages=("rdkit",), more_is_better=True
            )
            for f in MOLECULES
        ),
        Metric(
            "fcd",
            "tokens",
            "molecules",
            lambda x, world, _, split: molecules.fcd(x, world, split),
            default=False,
            packages=("rdkit", "fcd"),
        ),
        *(
            Metric(name, "tokens", "puzzles", function, more_is_better=True)
            for name, function in PUZZLES.items()
        ),
        Metric("output_entropy", "denoiser", "any", entropy.output_entropy),
        Metric("sample_entropy", "tokens", "any", lambda x, *_: entropy.sample_entropy(x)),
    )
}


@checked
def metrics_for(world: World) -> list[str]:
    """Return the names of the metrics that apply to a world, by its traits."""
    return [name for name, metric in METRICS.items() if metric.trait in {"any", *world.traits}]


def needing(names: Iterable[str], *needs: str) -> list[Metric]:
    """Return the metrics among `names` that need one of `needs`; unknown names are skipped."""
    return [METRICS[name] for name in names if name in METRICS and METRICS[name].needs in needs]


def check_features(
    names: Iterable[str],
    world: World,
    num: int,
    features: str | None = None,
    device: torch.device | str = "cpu",
) -> None:
    """Raise ValueError unless the features that the metrics `names` need exist and `num` samples suffice."""
    names = set(names)
    if needing(names, "features", "training", "classes"):
        extract = load_features(world, features)
        if "frechet" in names:
            distances.check_number(num, extract.dim)
    elif features is not None:
        raise ValueError(
            f"features: {features!r} is not allowed; none of the metrics {sorted(names)} reads it"
        )
    if needing(names, "inception"):
        distances.check_number(num, Inception.dim)
        load_inception(world, device)


@checked
def evaluate_samples(
    tokens: Integers,
    world: World,
    names: Iterable[str],
    seed: Seed = 0,
    split: str = "test",
    judge: Judge | None = None,
    features: str | None = None,
    device: Device = "cpu",
) -> list[Record]:
    """Measure samples [n, L] by the metrics `names`; the records are in that order.

    Args:
    seed: of what metrics draw: training images, exact samples.
    split: of the real images or text that samples are compared with, text with at most n sequences; FID
        always compares with the whole training set.
    judge: of the metrics that need one.
    features: of images, see `load_features`.
    device: where FID's network runs.
    Errors: ValueError for a metric that is unknown, needs a denoiser or does not apply to the world,
    no judge, fewer than 2 samples (4 for the gradient moment), and samples that are not the world's.
    """
    names = list(names)
    allowed = [name for name in metrics_for(world) if METRICS[name].of_samples]
    for name in names:
        if name not in allowed:
            raise ValueError(
                f"metric: {name!r} is not allowed for samples of {world.name}; choose from {allowed}"
            )
    if len(tokens) < 2:
        raise ValueError(f"samples: {len(tokens)!r} is not allowed; metrics need at least 2")
    _check_samples(tokens, world)
    records = _on_features(tokens, world, names, seed, split, features, device)
    records |= _judged(tokens, world, names, split, judge)
    records |= {m.name: m.function(tokens, world, seed, split) for m in needing(names, "tokens")}
    return [records[name] for name in names]


def _check_samples(tokens: Tensor, world: World) -> None:
    images = "images" in world.traits
    if tokens.shape[1] != world.length:
        size = "x".join(map(str, world.image_shape)) if images else world.length
        raise ValueError(
            f"samples: {tokens.shape[1]} tokens each are not allowed;"
            f" {'an image' if images else 'a sequence'} of {world.name} is {size}"
        )
    if tokens.min() < 0 or tokens.max() >= world.vocab_size:
        raise ValueError(
            f"samples: {'levels' if images else 'classes'} {int(tokens.min())} to {int(tokens.max())} are not"
            f" allowed; those of {world.name} are 0 to {world.vocab_size - 1}"
        )


def _on_features(
    tokens: Tensor, world: World, names: list[str], seed: int, split: str, features: str | None, device
) -> dict[str, Record]:
    """Measure by those `names` that compare features, computed once for all of them, or classes."""
    check_features(names, world, len(tokens), features, device)
    records, classes = {}, needing(names, "classes")
    compared, floors = needing(names, "features"), needing(names, "training")
    if classes or compared or floors:
        extract = load_features(world, features)
    if classes:
        sides = extract.classes(tokens), extract.classes(world.reference(split))
        records |= {m.name: m.function(*sides, extract.num_classes) for m in classes}
    if compared:
        sides = extract(tokens), extract.reference(split)
        records |= {m.name: m.function(*sides) for m in compared}
    if floors:
        num = max(len(tokens), distances.FLOOR_IMAGES)
        sides = extract(world.training_images(num, generator_for("cpu", seed))), extract.reference(split)
        records |= {m.name: m.function(*sides) for m in floors}
    if "images" not in world.traits:
        for name, r in records.items():
            records[name] = replace(r, reference=r.reference.replace("images", "sequences"))
    records = {k: _detailed(r, extractor=extract.name, split=split) for k, r in records.items()}
    for metric in needing(names, "inception"):
        extract = load_inception(world, device)
        record = metric.function(extract(tokens), extract.reference("train"))
        records[metric.name] = _detailed(record, extractor=extract.name, split="train")
    return records


def _judged(
    tokens: Tensor, world: World, names: list[str], split: str, judge: Judge | None
) -> dict[str, Record]:
    """Measure by those `names` that need a judge, from one pass over the samples."""
    metrics, by_gradients = needing(names, "judge", "gradients"), needing(names, "gradients")
    if not metrics:
        return {}
    if judge is None:
        needy = sorted(metric.name for metric in metrics)
        raise ValueError(f"judge: None is not allowed for {needy}; hand one in (`models.load_judge`)")
    check_symbols(judge.name, judge.vocab_size, world)
    real = world.reference(split, len(tokens))
    if by_gradients:
        blocks = moments.default_blocks(judge, len(real))
        reference = moments.reference_gradients(judge, world, split, len(tokens), blocks)
        samples = moments.block_gradients(judge, tokens, blocks)
    else:
        samples, reference = moments.score(judge, tokens), moments.score(judge, real)
    details = moments.origin(world, split)
    return {m.name: _detailed(m.function(samples, reference), **details) for m in metrics}


def _detailed(record: Record, **details) -> Record:
    """Return a record with more details."""
    return replace(record, details={**record.details, **details})
