"""Likelihood and n-grams of token sequences under an exact Markov chain."""

import numpy as np
from torch import Tensor

from dmmd_lite.metrics.bootstrap import bootstrap_mean, bootstrap_weights, interval
from dmmd_lite.utils.records import Record
from dmmd_lite.utils.rng import generator_for
from dmmd_lite.worlds.markov import Markov


def log_likelihood(tokens: Tensor, world: Markov, seed: int = 0) -> Record:
    """Compute the log-likelihood of samples [n, L] under the exact chain, the mean in nats per character.

    The value of the chain itself is in the details. A higher value is not better: such text has too little
    entropy.
    """
    length = tokens.shape[1]
    per_sequence = world.log_prob(tokens).cpu().numpy() / length
    details = {"chain": -world.entropy(length) / length}
    return Record("log_likelihood", *bootstrap_mean(per_sequence, seed), len(tokens), "exact chain", details)


def ngram_divergence(tokens: Tensor, world: Markov, seed: int = 0) -> Record:
    """Compute the total variation between pooled trigrams of samples [n, L] and the chain's exact trigrams.

    Finite samples bias it upwards: compare with `ngram_divergence_floor`, in the details. The interval is
    over sequences.
    """
    trigrams, exact = _trigrams(tokens, world), world.trigram_law().flatten().numpy()
    value = _divergence(trigrams, np.ones(len(tokens)), exact)
    weights = bootstrap_weights(len(tokens), seed)
    replicates = np.array([_divergence(trigrams, w, exact) for w in weights])
    details = {"floor": ngram_divergence_floor(*tokens.shape, world, seed=seed)}
    bounds = interval(value, replicates)
    return Record("ngram_divergence", value, *bounds, len(tokens), "exact trigram law", details)


def ngram_divergence_floor(num: int, length: int, world: Markov, repeats: int = 5, seed: int = 0) -> float:
    """Compute the mean divergence of `repeats` sets of `num` exact samples of the chain."""
    generator, exact = generator_for("cpu", seed), world.trigram_law().flatten().numpy()
    sets = (_trigrams(world.sample(num, generator, length=length), world) for _ in range(repeats))
    return float(np.mean([_divergence(trigrams, np.ones(num), exact) for trigrams in sets]))


def _trigrams(tokens: Tensor, world: Markov) -> np.ndarray:
    """Number every three symbols in a row, [n, L - 2]."""
    x, v = tokens.cpu().numpy(), world.vocab_size
    return (x[:, :-2] * v + x[:, 1:-1]) * v + x[:, 2:]


def _divergence(trigrams: np.ndarray, weights: np.ndarray, exact: np.ndarray) -> float:
    """Compute the total variation of trigrams [n, L - 2] from `exact`; sequence i counts weights[i] times."""
    counts = np.bincount(trigrams.ravel(), np.repeat(weights, trigrams.shape[1]), minlength=len(exact))
    return float(np.abs(counts / counts.sum() - exact).sum() / 2)
