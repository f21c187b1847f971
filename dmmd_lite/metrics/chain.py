"""Likelihood and n-grams of token sequences under an exact Markov chain."""

import numpy as np
from torch import Tensor

from dmmd_lite.metrics.intervals import mean_interval, variation, variation_interval
from dmmd_lite.utils.records import Record
from dmmd_lite.utils.rng import generator_for
from dmmd_lite.worlds.markov import Markov


def log_likelihood(tokens: Tensor, world: Markov) -> Record:
    """Compute the log-likelihood of samples [n, L] under the exact chain, the mean in nats per character.

    The value of the chain itself is in the details. A higher value is not better: such text has too little
    entropy.
    """
    length = tokens.shape[1]
    per_sequence = world.log_prob(tokens).cpu().numpy() / length
    details = {"chain": -world.entropy(length) / length}
    return Record("log_likelihood", *mean_interval(per_sequence), len(tokens), "exact chain", details)


def ngram_divergence(tokens: Tensor, world: Markov, seed: int = 0) -> Record:
    """Compute the total variation between pooled trigrams of samples [n, L] and the chain's exact trigrams.

    Finite samples bias it upwards: compare with `ngram_divergence_floor`, in the details. The interval is
    over sequences.
    """
    trigrams, exact = _trigrams(tokens, world), world.trigram_law().flatten().numpy()
    value, low, high = variation_interval(trigrams, exact)
    details = {"floor": ngram_divergence_floor(*tokens.shape, world, seed=seed)}
    return Record("ngram_divergence", value, low, high, len(tokens), "exact trigram law", details)


def ngram_divergence_floor(num: int, length: int, world: Markov, repeats: int = 5, seed: int = 0) -> float:
    """Compute the mean divergence of `repeats` sets of `num` exact samples of the chain."""
    generator, exact = generator_for("cpu", seed), world.trigram_law().flatten().numpy()
    sets = (_trigrams(world.sample(num, generator, length=length), world) for _ in range(repeats))
    return float(np.mean([variation(trigrams, exact) for trigrams in sets]))


def _trigrams(tokens: Tensor, world: Markov) -> np.ndarray:
    """Number every three symbols in a row, [n, L - 2]."""
    x, v = tokens.cpu().numpy(), world.vocab_size
    return (x[:, :-2] * v + x[:, 1:-1]) * v + x[:, 2:]
