"""Categorical draws: the right distribution, no impossible class, no loss of tiny probabilities."""

import pytest
import torch
from helpers import LEAST_P, chi_square_p, count
from scipy.stats import kstest

from dmmd_lite.utils import rng as draws


def test_categorical_has_the_given_distribution(rng):
    logits = torch.randn(6, 11, generator=rng) * 2
    logits[:, ::3] = -torch.inf
    tokens = draws.categorical(logits.unsqueeze(1).expand(-1, 20_000, -1), rng)
    assert chi_square_p(count(tokens, 11), logits.double().softmax(-1)) > LEAST_P


def test_impossible_classes_are_not_drawn_at_the_ends(rng, monkeypatch):
    log_p = torch.tensor([0, 0.5, 0.5, 0]).log().expand(2, -1)
    ends = torch.tensor([0, 1 - 2**-53], dtype=torch.float64)
    monkeypatch.setattr(draws, "uniform", lambda shape, generator: ends)
    assert draws.categorical(log_p, rng).tolist() == [1, 2]


def test_classes_far_below_float32_resolution_are_told_apart(rng, monkeypatch):
    """4,096 classes of probability 2^-26 on either side of a likely one: the middle of each one's share of
    (0, 1) draws it, even where the log-probabilities come in float32."""
    n, q = 4096, 2.0**-26
    p = torch.cat([torch.full((n,), q), torch.tensor([1 - 2 * n * q]), torch.full((n,), q)]).double()
    u = p.cumsum(0) - p / 2
    chosen = torch.randint(len(p), (200,), generator=rng)
    monkeypatch.setattr(draws, "uniform", lambda shape, generator: u[chosen])
    tokens = draws.categorical(p.log().float().expand(len(chosen), -1), rng)
    assert torch.equal(tokens, chosen)


def test_uniform_is_uniform_below_the_24th_bit(rng):
    u = draws.uniform((20_000,), rng)
    assert u.dtype == torch.float64
    assert kstest(u.numpy(), "uniform").pvalue > LEAST_P
    assert kstest((u * 2**24 % 1).numpy(), "uniform").pvalue > LEAST_P


def test_generator_for_repeats():
    first, second = (draws.uniform((5,), draws.generator_for("cpu", 3)) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("shift", (0, 200, -200))
@pytest.mark.parametrize("dtype, tolerance", ((torch.float64, 1e-12), (torch.float32, 1e-6)))
def test_many_classes_are_picked_as_few_are(rng, shift, dtype, tolerance):
    """Two stages find, at any u, the class in whose share of the distribution function u lies. A constant may
    be added to the logarithms, even one with which their exponentials leave the range of float32."""
    classes, draws_ = 10_000, 2_000
    log_p = (torch.randn(classes, generator=rng).mul(3) + shift).to(dtype)
    log_p[torch.rand(classes, generator=rng) < 0.3] = -1e9  # never drawn
    u = torch.rand(draws_, generator=rng, dtype=torch.float64)
    token = draws.pick(log_p.expand(draws_, -1), u)
    cdf = torch.cat([torch.zeros(1), log_p.double().softmax(-1)]).double().cumsum(-1)
    assert (cdf[token] <= u + tolerance).all() and (u < cdf[token + 1] + tolerance).all()
    assert (log_p[token] > -1e9).all()
    edges = draws.pick(log_p.expand(2, -1), torch.tensor([0.0, 1 - 2.0**-53], dtype=torch.float64))
    possible = (log_p > -1e9).nonzero().flatten()
    assert edges.tolist() == [int(possible[0]), int(possible[-1])]


@pytest.mark.parametrize("classes", (5, 10_000))
def test_a_row_that_is_no_distribution_gives_minus_one(classes, rng):
    """NaN and +inf anywhere, and -inf everywhere; a draw for a loss takes class 0 there."""
    log_p = torch.zeros(4, classes)
    log_p[0, 2], log_p[1, 4], log_p[2] = torch.nan, torch.inf, -torch.inf
    u = torch.full((4,), 0.3, dtype=torch.float64)
    assert draws.pick(log_p, u).tolist()[:3] == [-1, -1, -1] and draws.pick(log_p, u)[3] == 0.3 * classes // 1
    assert draws.categorical(log_p, rng)[:3].tolist() == [0, 0, 0]
