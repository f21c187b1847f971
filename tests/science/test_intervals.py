"""Intervals: against known formulas, and how often they contain the expectation in simulations.

A metric's expectation at its number of samples is the mean over the trials, whose own error is negligible.
"""

import numpy as np
import pytest
import scipy.stats
import torch

from dmmd_lite.metrics import diversity, features
from dmmd_lite.metrics import feature_distances as distances
from dmmd_lite.metrics.intervals import (
    jackknife,
    mean_interval,
    mean_share,
    median_interval,
    share_interval,
    t_quantile,
    variation_interval,
)
from dmmd_lite.utils.records import Record
from dmmd_lite.worlds import get_world

TRIALS = 400


def coverage_of(records: list[Record]) -> float:
    """How often an interval contains the mean of all values."""
    expected = np.mean([r.value for r in records])
    return float(np.mean([r.low <= expected <= r.high for r in records]))


def assert_covers(measure, draw, rng, low=0.93, high=0.97):
    """Of `TRIALS` intervals of `measure` on what `draw` draws, 93 to 97 % contain the expectation."""
    assert low <= coverage_of([measure(draw(rng)) for _ in range(TRIALS)]) <= high


@pytest.mark.parametrize("df", [1, 2, 3, 7, 14.5, 200, 999, np.inf])
def test_quantiles_are_students(df):
    assert t_quantile(df) == pytest.approx(scipy.stats.t.ppf(0.975, df), rel=2e-3 if df > 500 else 1e-6)


@pytest.mark.parametrize("n", [3, 4, 5, 7])
def test_a_mean_of_few_values_is_covered(n, rng):
    """A bootstrap would cover 75 to 87 %."""
    found = [mean_interval(torch.randn(n, generator=rng).double().numpy()) for _ in range(4 * TRIALS)]
    assert 0.935 <= np.mean([low <= 0 <= high for _, low, high in found]) <= 0.965
    values = np.array([1.0, 2.0, 4.0, 8.0])
    left_out = (values.sum() - values) / 3
    assert jackknife(values.mean(), left_out) == pytest.approx(mean_interval(values)[1:])


@pytest.mark.parametrize("n, p", [(50, 0.02), (200, 0.01), (2000, 0.001), (500, 0.3), (100, 0.97)])
def test_shares_near_the_ends_have_intervals_that_cover(n, p):
    """Exactly: the probabilities of the counts whose interval contains p. Wilson's oscillates about 95 %."""
    counts = np.arange(n + 1)
    inside = [low <= p <= high for low, high in (share_interval(k / n, n) for k in counts)]
    assert 0.92 <= scipy.stats.binom.pmf(counts, n, p) @ inside <= 0.99
    wilson = scipy.stats.binomtest(3, n).proportion_ci(method="wilson")
    assert share_interval(3 / n, n) == pytest.approx((wilson.low, wilson.high))


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_no_share_is_certain(value):
    share, low, high = mean_share(np.full(2000, value))
    assert share == value and low <= value <= high and high - low == pytest.approx(3.84 / 2000, rel=0.01)


@pytest.mark.parametrize(
    "n, level, ends",
    [
        (1, 0, (0, 0)),
        (3, 0.75, (0, 2)),
        (5, 0.9375, (0, 4)),
        (7, 1 - 2**-6, (0, 6)),
        (21, 0.9733963, (5, 15)),
    ],
)
def test_a_median_lies_between_order_statistics_of_known_level(n, level, ends, rng):
    value, low, high, stated = median_interval(np.arange(n)[::-1])
    assert (value, low, high) == ((n - 1) / 2, *ends) and stated == pytest.approx(level, abs=1e-4)
    draws = torch.empty(4 * TRIALS, n).exponential_(generator=rng).double().numpy()
    inside = [low <= np.log(2) <= high for _, low, high, _ in map(median_interval, draws)]
    assert np.mean(inside) == pytest.approx(level, abs=0.02)


@pytest.fixture(scope="module")
def glyphs():
    """Features of many glyphs, to draw from, and of held-out ones."""
    world = get_world("glyphs")
    extract = features.load_features(world)
    return extract(world.sample(4000, torch.Generator().manual_seed(9))), extract.reference("test")[:400]


def of_pool(pool, n):
    """A function that draws n rows with replacement."""
    return lambda rng: pool[torch.randint(len(pool), (n,), generator=rng).numpy()]


@pytest.mark.slow
@pytest.mark.parametrize("n", [100, 400])
@pytest.mark.parametrize("metric", [distances.coverage, distances.kernel_distance, distances.frechet])
def test_metrics_on_features_cover(metric, n, glyphs, rng):
    """Of one half of the classes, as of students that lost some. The Fréchet distance covers more."""
    pool, reference = glyphs
    few = pool[pool[:, 0] > np.median(pool[:, 0])]
    assert_covers(lambda x: metric(x, reference), of_pool(few, n), rng, high=0.985)


@pytest.fixture(scope="module")
def texts():
    """Sequences of the world `markov`, to draw from."""
    return get_world("markov").sample(6000, torch.Generator().manual_seed(8))


@pytest.mark.slow
@pytest.mark.parametrize(
    "metric", [diversity.distinct_4grams, diversity.distinct_words, diversity.repetition]
)
def test_metrics_of_text_cover(metric, texts, rng):
    assert_covers(metric, lambda rng: texts[torch.randint(len(texts), (100,), generator=rng)], rng)


@pytest.mark.slow
@pytest.mark.parametrize("power", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("metric", [diversity.duplicates, diversity.distinct_4grams])
def test_metrics_of_text_with_duplicates_cover(metric, power, texts, rng):
    """Texts of a source that emits the k-th with a share of k^-power."""
    shares = torch.arange(1, len(texts) + 1).double() ** -power

    def draw(rng):
        return texts[torch.multinomial(shares, 200, True, generator=rng)]

    assert_covers(metric, draw, rng, high=0.985)


@pytest.mark.parametrize("first", [0.1, 0.5, 0.95])
def test_class_shares_cover(first, rng):
    shares = torch.tensor([first] + [(1 - first) / 9] * 9)
    reference = np.arange(10).repeat(30)

    def measure(classes):
        return distances.class_histogram(classes.numpy(), reference, 10)

    assert_covers(measure, lambda rng: torch.multinomial(shares, 300, True, generator=rng), rng)


@pytest.mark.slow
def test_a_total_variation_of_many_cells_covers(texts, rng):
    """Most of 729 pairs of symbols are rare, so that shares are near those of the reference everywhere."""
    pairs = (27 * texts[:, :-1] + texts[:, 1:]).numpy()
    exact = np.bincount(pairs.ravel(), minlength=27**2) / pairs.size

    def measure(items):
        return Record("variation", *variation_interval(items, exact), len(items), "all pairs")

    assert_covers(measure, of_pool(pairs, 64), rng)
