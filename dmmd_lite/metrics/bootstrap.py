"""The bootstrap: how often each sample is drawn in each replicate, and intervals from replicates."""

import numpy as np


def bootstrap_weights(n: int, seed: int = 0, replicates: int = 200) -> np.ndarray:
    """Draw multinomial counts [replicates, n], float64; every row sums to n."""
    return np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), replicates).astype(float)


def interval(value: float, replicates: np.ndarray) -> tuple[float, float]:
    """Compute the 95 % bootstrap interval of `value` from replicates [R].

    The replicates are centred on the estimate first: distances between samples are biased upwards on
    resampled data, and their plain percentiles would not even contain the estimate.
    """
    low, high = np.quantile(replicates - replicates.mean(), [0.025, 0.975])
    return float(value + low), float(value + high)


def bootstrap_mean(values: np.ndarray, seed: int = 0, replicates: int = 1000) -> tuple[float, float, float]:
    """Compute the mean of per-sample values [n] with its 95 % bootstrap interval: (value, low, high)."""
    draws = np.random.default_rng(seed).multinomial(
        len(values), np.full(len(values), 1 / len(values)), replicates
    )
    value = float(values.mean())
    return value, *interval(value, draws @ values / len(values))
