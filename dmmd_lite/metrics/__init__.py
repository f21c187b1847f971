"""Metrics: each returns a `Record`. Here they are by name, with the worlds they apply to.

`exact_metrics` and `output_entropy` look at a denoiser; everything else judges samples, `evaluate_samples`.
`gradient_moment` and `perplexity` need a judge, see `judges.py`.
"""

from collections.abc import Iterable
from dataclasses import replace

from torch import Tensor

from dmmd_lite.metrics import gradient_moment as moments
from dmmd_lite.metrics import images, text
from dmmd_lite.metrics.diversity import DIVERSITY
from dmmd_lite.metrics.exact import exact_metrics
from dmmd_lite.metrics.features import EXTRACTORS, MOST_FEATURES, features_of
from dmmd_lite.metrics.judges import Judge, check_judge, load_judge
from dmmd_lite.metrics.text import output_entropy
from dmmd_lite.records import Record
from dmmd_lite.worlds.base import World
from dmmd_lite.worlds.enumerable import EnumerableWorld
from dmmd_lite.worlds.markov import Markov
from dmmd_lite.worlds.own import TokensWorld
from dmmd_lite.worlds.text import SYMBOLS, TextWorld

__all__ = [
    "METRICS",
    "OF_JUDGES",
    "Judge",
    "evaluate_samples",
    "exact_metrics",
    "load_judge",
    "metrics_for",
    "output_entropy",
]

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
    "nearest_training": "images",
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
OF_FEATURES = ("frechet", "frechet_floor", "kernel_distance", "coverage", "density")
MOST_REFERENCES = 2000  # real ones that features are compared with, the first of a split
OF_JUDGES = ("gradient_moment", "perplexity")


def metrics_for(world: World) -> list[str]:
    """Names of the metrics that apply to a world.

    "images" are the worlds with a feature extractor, "features" those and your own, where each token is a
    feature of its own; "letters" the texts in the 27 symbols.
    """
    is_text, extracted = isinstance(world, TextWorld), world.name in EXTRACTORS
    own = isinstance(world, TokensWorld) and world.length * world.vocab_size <= MOST_FEATURES
    kinds = {
        "any": True,
        "enumerable": isinstance(world, EnumerableWorld),
        "chain": isinstance(world, Markov),
        "images": extracted,
        "features": extracted or own,
        "judged": is_text or isinstance(world, Markov),
        "text": is_text,
        "letters": is_text and world.vocab_size == len(SYMBOLS),
    }
    return [name for name, kind in METRICS.items() if kinds[kind]]


def evaluate_samples(
    tokens: Tensor,
    world: World,
    names: Iterable[str],
    seed: int = 0,
    split: str = "test",
    judge: Judge | None = None,
) -> list[Record]:
    """The metrics called `names` of samples [n, L], in that order.

    Images and text are compared with real ones of `split`, text with at most n of them; `seed` is that of
    the bootstrap. judge: of the metrics that need one; by default the world's own at scale "laptop".
    A metric that is unknown, needs a denoiser or does not apply to the world is a ValueError, and so are
    fewer than 2 samples (4 for the gradient moment).
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
    records = _on_features(tokens, world, names, seed, split)
    records |= _judged(tokens, world, names, seed, split, judge)
    for name in names:
        if name not in records:
            records[name] = _on_tokens(name, tokens, world, seed, split)
    return [records[name] for name in names]


def _on_features(tokens: Tensor, world: World, names: list[str], seed: int, split: str) -> dict[str, Record]:
    """Records of those `names` that compare features, computed once for all of them, or classes."""
    wanted = [name for name in names if name in OF_FEATURES]
    classes = "class_histogram" in names
    if not wanted and not classes:
        return {}
    extract, records = features_of(world), {}
    if classes:
        ours, theirs = extract.classes(tokens), extract.classes(world.split(split))
        records["class_histogram"] = images.class_histogram(ours, theirs, extract.num_classes, seed)
    if wanted:
        samples, reference = extract(tokens), extract(world.split(split)[:MOST_REFERENCES])
    for name in wanted:
        sample = extract(world.split("train")) if name == "frechet_floor" else samples
        records[name] = getattr(images, name)(sample, reference, seed)
    origin = {"extractor": extract.name, "split": split}
    if isinstance(world, TokensWorld):
        records = {
            n: replace(r, reference=r.reference.replace("images", "sequences")) for n, r in records.items()
        }
    return {name: replace(r, details={**r.details, **origin}) for name, r in records.items()}


def _judged(
    tokens: Tensor, world: World, names: list[str], seed: int, split: str, judge: Judge | None
) -> dict[str, Record]:
    """Records of those `names` that need a judge, from one pass over the samples."""
    if not set(names) & set(OF_JUDGES):
        return {}
    if judge is None:
        judge = load_judge(None, world)
    check_judge(judge, world)
    real = moments.reference_tokens(world, split, len(tokens))
    if "gradient_moment" in names:
        blocks = moments.default_blocks(judge, len(real))
        reference = moments.reference_gradients(judge, world, split, len(tokens), blocks)
        samples = moments.block_gradients(judge, tokens, blocks)
        records = [moments.gradient_moment(samples, reference, seed)]
    else:
        samples, reference = moments.score(judge, tokens), moments.score(judge, real)
        records = []
    records.append(moments.perplexity(samples, reference, seed))
    return {r.name: replace(r, details={**r.details, **moments.origin(world, split)}) for r in records}


def _on_tokens(name: str, tokens: Tensor, world: World, seed: int, split: str) -> Record:
    """The record of a metric that reads the tokens themselves."""
    if name == "log_likelihood":
        return text.log_likelihood(tokens, world, seed)
    if name == "ngram_divergence":
        record = text.ngram_divergence(tokens, world, seed)
        floor = text.ngram_divergence_floor(*tokens.shape, world, seed=seed)
        return replace(record, details={"floor": floor})
    if name == "nearest_training":
        return images.nearest_training(tokens, world.split("train"), world.split(split), seed)
    if name in DIVERSITY:
        return DIVERSITY[name](tokens, seed, moments.reference_tokens(world, split, len(tokens)))
    return text.sample_entropy(tokens, seed)
