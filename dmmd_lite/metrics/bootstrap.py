"""Bootstrap weights: how often each sample is drawn in each replicate."""

import numpy as np


def bootstrap_weights(n: int, seed: int = 0, replicates: int = 200) -> np.ndarray:
    """Multinomial counts [replicates, n], float64; every row sums to n."""
    return np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), replicates).astype(float)
