"""Metrics: each returns a `Record`. Here they are by name, with the worlds they apply to.

`exact_metrics` and `output_entropy` look at a denoiser; everything else judges samples, `evaluate_samples`.
`gradient_moment` and `perplexity` need a judge, see `judges.py`; distances between sets of images need
features, see `features.py`, and `fid` those of `inception.py`.
"""

from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from dmmd_lite.metrics import chain, entropy, references
from dmmd_lite.metrics import feature_distances as distances
from dmmd_lite.metrics import gradient_moment as moments
from dmmd_lite.metrics.diversity import DIVERSITY
from dmmd_lite.metrics.features import MOST_FEATURES, Features, OneHot, load_features
from dmmd_lite.metrics.inception import Inception, load_inception
from dmmd_lite.metrics.judges import Judge, check_symbols
from dmmd_lite.utils.records import Record
from dmmd_lite.utils.rng import generator_for
from dmmd_lite.worlds.base import World
from dmmd_lite.worlds.enumerable import EnumerableWorld
from dmmd_lite.worlds.image_sets import ImageSet
from dmmd_lite.worlds.images import ImageWorld
from dmmd_lite.worlds.markov import Markov
from dmmd_lite.worlds.text import SYMBOLS, TextWorld
from dmmd_lite.worlds.tokens import TokensWorld

METRICS = {  # name: the kind of world it applies to
    "total_variation": "enumerable",
    "kl": "enumerable",
    "invalid_mass": "enumerable",
    "log_likelihood": "chain",
    "ngram_divergence": "chain",
    "frechet": "images",
    "frechet_floor": "images",
    "kernel_distance": "features",
    "coverage": "features",
    "density": "features",
    "class_histogram": "images",
    "nearest_training": "finite",
    "fid": "published",
    "gradient_moment": "judged",
    "perplexity": "judged",
    "distinct_4grams": "text",
    "distinct_words": "letters",
    "duplicates": "text",
    "repetition": "text",
    "output_entropy": "any",
    "sample_entropy": "any",
}
OF_DENOISERS = ("total_variation", "kl", "invalid_mass", "output_entropy")  # not to be had from samples
OF_FEATURES = ("frechet", "frechet_floor", "kernel_distance", "coverage", "density", "fid")
OF_CLASSIFIERS = ("class_histogram",)
OF_JUDGES = ("gradient_moment", "perplexity")
MOST_REFERENCES = 2000  # of your own sequences that samples are compared with, always the same of a split
ON_REQUEST = ("fid",)  # measured only where they are named


def metrics_for(world: World) -> list[str]:
    """Names of the metrics that apply to a world.

    "features" are image worlds and your own, where each token is a feature of its own, if that makes no more
    than `MOST_FEATURES`; "finite" are image worlds with a training set that could be copied, "published" the
    sets that FID is known of, "letters" the texts in the 27 symbols.
    """
    is_text = isinstance(world, TextWorld)
    own = isinstance(world, TokensWorld) and world.length * world.vocab_size <= MOST_FEATURES
    kinds = {
        "any": True,
        "enumerable": isinstance(world, EnumerableWorld),
        "chain": isinstance(world, Markov),
        "images": isinstance(world, ImageWorld),
        "features": isinstance(world, ImageWorld) or own,
        "finite": isinstance(world, ImageWorld) and not world.endless,
        "published": isinstance(world, ImageSet),
        "judged": is_text or isinstance(world, Markov),
        "text": is_text,
        "letters": is_text and world.vocab_size == len(SYMBOLS),
    }
    return [name for name, kind in METRICS.items() if kinds[kind]]


def check_features(
    names: Iterable[str],
    world: World,
    num: int,
    features: str | None = None,
    device: torch.device | str = "cpu",
) -> None:
    """ValueError unless the features that the metrics `names` need are there and `num` samples are enough."""
    names = set(names)
    if names & {*OF_FEATURES, *OF_CLASSIFIERS} - {"fid"}:
        extract = _extractor(world, features)
        if "frechet" in names:
            distances.check_number(num, extract.dim)
    elif features is not None:
        raise ValueError(
            f"features: {features!r} is not allowed; none of the metrics {sorted(names)} reads it"
        )
    if "fid" in names:
        distances.check_number(num, Inception.dim)
        load_inception(world.name, device)


def evaluate_samples(
    tokens: Tensor,
    world: World,
    names: Iterable[str],
    seed: int = 0,
    split: str = "test",
    judge: Judge | None = None,
    features: str | None = None,
    device: torch.device | str = "cpu",
) -> list[Record]:
    """The metrics called `names` of samples [n, L], in that order.

    Images and text are compared with real ones of `split`, text with at most n of them, FID's always with the
    whole training set; `seed` is that of the bootstrap. judge: of the metrics that need one; by default the
    world's own at scale "laptop". features: of the images, see `load_features`. device: where FID's network
    runs. A metric that is unknown, needs a denoiser or does not apply to the world is a ValueError, and so
    are fewer than 2 samples (4 for the gradient moment), and images that are not the world's.
    """
    names = list(names)
    allowed = [name for name in metrics_for(world) if name not in OF_DENOISERS]
    for name in names:
        if name not in allowed:
            raise ValueError(
                f"metric: {name!r} is not allowed for samples of {world.name}; choose from {allowed}"
            )
    if len(tokens) < 2:
        raise ValueError(f"samples: {len(tokens)!r} is not allowed; metrics need at least 2")
    _check_samples(tokens, world)
    records = _on_features(tokens, world, names, seed, split, features, device)
    records |= _judged(tokens, world, names, seed, split, judge)
    for name in names:
        if name not in records:
            records[name] = _on_tokens(name, tokens, world, seed, split)
    return [records[name] for name in names]


def _check_samples(tokens: Tensor, world: World) -> None:
    images = isinstance(world, ImageWorld)
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
    """Records of those `names` that compare features, computed once for all of them, or classes."""
    check_features(names, world, len(tokens), features, device)
    wanted = [name for name in names if name in OF_FEATURES and name != "fid"]
    records, origin = {}, {"split": split}
    if wanted or "class_histogram" in names:
        extract = _extractor(world, features)
        origin = {"extractor": extract.name, "split": split}
    if "class_histogram" in names:
        ours, theirs = extract.classes(tokens), extract.classes(world.stored(split))
        records["class_histogram"] = distances.class_histogram(ours, theirs, extract.num_classes, seed)
    if wanted:
        samples = extract(tokens)
        if isinstance(world, TokensWorld):
            rows = world.split(split)
            order = torch.randperm(len(rows), generator=generator_for("cpu", references.REFERENCE_SEED))
            reference = extract(rows[order[:MOST_REFERENCES]])
        else:
            reference = _features_of(extract, world, split)
    for name in wanted:
        if name == "frechet_floor":
            num = max(len(tokens), distances.FLOOR_IMAGES)
            training = extract(world.training_images(num, generator_for("cpu", seed)))
            records[name] = distances.frechet_floor(training, reference, seed)
        else:
            records[name] = getattr(distances, name)(samples, reference, seed)
    records = {name: replace(r, details={**r.details, **origin}) for name, r in records.items()}
    if isinstance(world, TokensWorld):
        records = {
            n: replace(r, reference=r.reference.replace("images", "sequences")) for n, r in records.items()
        }
    if "fid" in names:
        extract = load_inception(world.name, device)
        training = _features_of(extract, world, "train")
        records["fid"] = replace(
            distances.frechet(extract(tokens), training, seed),
            name="fid",
            reference=f"{len(training)} training images",
            details={"extractor": extract.name, "split": "train"},
        )
    return records


def _extractor(world: World, features: str | None) -> Features | OneHot:
    """What compares a world's samples: a classifier of images, or the tokens as they are."""
    if not isinstance(world, TokensWorld):
        return load_features(world.name, features)
    if features is not None:
        raise ValueError(f"features: {features!r} is not allowed for {world.name}, which is no image world")
    return OneHot(world.vocab_size)


@lru_cache(maxsize=4)
def _features_of(extract: Features, world: ImageWorld, split: str) -> np.ndarray:
    """Features of all images of a split, kept because sweeps ask for them again and again."""
    return extract(world.stored(split))


def _judged(
    tokens: Tensor, world: World, names: list[str], seed: int, split: str, judge: Judge | None
) -> dict[str, Record]:
    """Records of those `names` that need a judge, from one pass over the samples."""
    if not set(names) & set(OF_JUDGES):
        return {}
    if judge is None:
        raise ValueError(f"judge: None is not allowed for {sorted(set(names) & set(OF_JUDGES))}; give one")
    check_symbols(judge.name, judge.vocab_size, world)
    real = references.reference_tokens(world, split, len(tokens))
    if "gradient_moment" in names:
        blocks = moments.default_blocks(judge, len(real))
        reference = moments.reference_gradients(judge, world, split, len(tokens), blocks)
        samples = moments.block_gradients(judge, tokens, blocks)
        records = [moments.gradient_moment(samples, reference, seed)]
    else:
        samples, reference = moments.score(judge, tokens), moments.score(judge, real)
        records = []
    records.append(moments.perplexity(samples, reference, seed))
    return {r.name: replace(r, details={**r.details, **references.origin(world, split)}) for r in records}


def _on_tokens(name: str, tokens: Tensor, world: World, seed: int, split: str) -> Record:
    """The record of a metric that reads the tokens themselves."""
    if name == "log_likelihood":
        return chain.log_likelihood(tokens, world, seed)
    if name == "ngram_divergence":
        record = chain.ngram_divergence(tokens, world, seed)
        floor = chain.ngram_divergence_floor(*tokens.shape, world, seed=seed)
        return replace(record, details={"floor": floor})
    if name == "nearest_training":
        return distances.nearest_training(tokens, world.stored("train"), world.stored(split), seed)
    if name in DIVERSITY:
        return DIVERSITY[name](tokens, seed, references.reference_tokens(world, split, len(tokens)))
    return entropy.sample_entropy(tokens, seed)
