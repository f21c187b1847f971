"""Confidence intervals of metrics.

An interval covers the expectation of its metric at the same number of samples, with the reference held fixed,
in 95 % of repetitions. What few units are behind is met by quantiles of Student's t distribution. Errors are
estimated without resampling: a bootstrap set contains only 63 % of the distinct samples, which distorts every
statistic of their union, such as `coverage`.

Intervals of shares always have a width. That of another mean has none where all n values are equal: without
bounds, nothing is known of values that were not drawn but that they have a probability below 3 / n.
"""

from math import comb, inf, sqrt
from statistics import NormalDist

import numpy as np

from dmmd_lite.utils.records import LEVEL

ROUNDING = 1e-12  # maximum standard error that is a matter of rounding
NORMAL_FROM = 1000  # degrees of freedom; from here on the normal quantile is within 0.2 % of Student's
SPLITS = 100  # random divisions into halves
FEWEST_DF = 3  # degrees of freedom that an estimated number of them is raised to
ORDERS = 10  # owners of an item up to which `union_error` counts; weights fall towards the end


def t_quantile(df: float = inf) -> float:
    """Compute how many standard errors a 95 % interval reaches to each side with `df` degrees of freedom.

    The tangent of an angle with density cos^(df - 1) is a Student t variable, divided by sqrt(df).
    """
    if df > NORMAL_FROM:
        return NormalDist().inv_cdf((1 + LEVEL) / 2)
    edges = np.linspace(0, np.pi / 2, 20_001)
    mass = np.cumsum(np.cos((edges[1:] + edges[:-1]) / 2) ** (max(df, 1) - 1))
    return float(sqrt(max(df, 1)) * np.tan(np.interp(LEVEL, mass / mass[-1], edges[1:])))


def around(value: float, error: float, df: float = inf, minimum: float = -inf) -> tuple[float, float]:
    """Compute the interval (low, high) of a value with a standard error of `df` degrees of freedom.

    minimum: of what the value can be.
    """
    reach = t_quantile(df) * error
    return min(value, max(minimum, value - reach)), value + reach


def mean_interval(values: np.ndarray, minimum: float = -inf) -> tuple[float, float, float]:
    """Compute the mean of independent values [n] with Student's t interval: (value, low, high)."""
    value, error = float(values.mean()), float(values.std(ddof=1)) / sqrt(len(values))
    return value, *around(value, error, len(values) - 1, minimum)


def jackknife(value: float, left_out: np.ndarray, minimum: float = -inf) -> tuple[float, float]:
    """Compute the interval (low, high) of a smooth statistic from its values [n] without each unit."""
    return around(value, jackknife_error(left_out), len(left_out) - 1, minimum)


def jackknife_error(left_out: np.ndarray) -> float:
    """Compute the standard error of a smooth statistic from its values [n] without each unit."""
    n = len(left_out)
    return float(sqrt((n - 1) / n * ((left_out - left_out.mean()) ** 2).sum()))


def share_interval(share: float, n: float, error: float = 0.0, df: float = inf) -> tuple[float, float]:
    """Compute Wilson's interval (low, high) of a share, which has a width even at 0 and 1.

    Args:
    n: independent units that the share was counted on.
    error: the standard error, where it is not that of n independent units; 0 (but for rounding) stands for
    theirs.
    df: its degrees of freedom.
    """
    if error > ROUNDING and 0 < share < 1:
        n = share * (1 - share) / error**2
    z = t_quantile(df)
    middle, reach = share + z**2 / (2 * n), z * sqrt(share * (1 - share) / n + (z / n) ** 2 / 4)
    scale = 1 + z**2 / n
    return max(0.0, min((middle - reach) / scale, share)), min(1.0, max((middle + reach) / scale, share))


def mean_share(values: np.ndarray) -> tuple[float, float, float]:
    """Compute the mean of values [n] in [0, 1] with Wilson's interval: (value, low, high)."""
    value, n = float(values.mean()), len(values)
    return value, *share_interval(value, n, float(values.std(ddof=1)) / sqrt(n), n - 1)


def variation(items: np.ndarray, reference: np.ndarray) -> float:
    """Compute the total variation between the shares of items [...] and of a reference [number of items]."""
    shares = np.bincount(items.ravel(), minlength=len(reference)) / items.size
    return float(np.abs(shares - reference).sum() / 2)


def variation_interval(items: np.ndarray, reference: np.ndarray) -> tuple[float, float, float]:
    """Compute the total variation between the shares of items [n, k], k of each sample, and those of a
    reference [number of items], with its interval: (value, low, high).

    The error is that of random halves over sqrt(2): a total variation has a kink wherever shares are equal,
    at which a jackknife is up to 1.7 times too wide, but its variance is proportional to 1 / n everywhere.
    """
    n, rng, value = len(items), np.random.default_rng(0), variation(items, reference)
    orders = (rng.permutation(n) for _ in range(SPLITS))
    halves = ((items[order[: n // 2]], items[order[-(n // 2) :]]) for order in orders)
    gaps = np.array([variation(a, reference) - variation(b, reference) for a, b in halves])
    error = sqrt((gaps**2).mean()) / 2
    return value, *share_interval(value, n, error, min(n - 1, SPLITS))


def union_error(signature: np.ndarray, owners: np.ndarray, influence: np.ndarray) -> tuple[float, float]:
    """Compute the standard error of the number of items in the union of n independent samples, and its
    degrees of freedom.

    The variance is sum_S (-1)^(|S| + 1) g_S^2, g_S being the number of items that exactly the samples S own:
    the expected number of new items in as many new samples by the series of Good and Toulmin (1956), with
    items that come together counted together. Its end is smoothed as by Efron and Thisted (1976). The degrees
    of freedom are Satterthwaite's.

    Args:
    signature: a number for each item, equal for items with the same owners [items].
    owners: number of samples that own each item, above 0 [items].
    influence: items that each sample alone owns [n], less what it adds to a normalisation.
    """
    _, first, together = np.unique(signature[owners > 1], return_index=True, return_counts=True)
    order = owners[owners > 1][first]
    tail = [sum(comb(ORDERS, k) for k in range(r, ORDERS + 1)) / 2**ORDERS for r in range(ORDERS + 2)]
    weight = np.array(tail)[order.clip(max=ORDERS + 1)] * np.where(order % 2, 1, -1)
    alone = (influence - influence.mean()) ** 2
    parts = np.concatenate([alone, weight * together.astype(float) ** 2])
    variance = parts.sum() if parts.sum() > 0 else alone.sum()
    return sqrt(variance), max(FEWEST_DF, 2 * variance**2 / max((parts**2).sum(), 1e-300))


def owner_numbers(n: int) -> np.ndarray:
    """Draw a number for each of n samples, float64 [n]; sums of different samples differ, and are exact."""
    return np.random.default_rng(0).integers(1, 2**52 // n, n).astype(float)


def median_interval(values: np.ndarray) -> tuple[float, float, float, float]:
    """Compute the median of values [n] between two order statistics: (value, low, high, level).

    The level, exact for any distribution, is the smallest of at least 95 %, or that of all values if they are
    too few.
    """
    ordered, n = np.sort(values), len(values)
    levels = [1 - sum(comb(n, k) for k in range(out + 1)) / 2 ** (n - 1) for out in range((n + 1) // 2)]
    out = max([k for k, level in enumerate(levels) if level >= LEVEL], default=0)
    return float(np.median(ordered)), float(ordered[out]), float(ordered[n - 1 - out]), levels[out]
