"""Single-precision draws: the bias is what the formula says, and this package's draws have none."""

import pytest
import torch
from helpers import LEAST_P, Table, chi_square_p, make_process

from dmmd_lite.studies.theory.single_precision import common_samples, drawn_law, kept_share, ratio_sampler
from dmmd_lite.utils.rng import categorical

NUM = 40_000


def counts(drawn, classes):
    return torch.bincount(drawn, minlength=classes)[None]


def test_kept_share_at_known_points():
    least = 2.0**-24
    q = torch.tensor([1e-30, least, 1e6 * least], dtype=torch.float64)
    assert kept_share(q).tolist() == pytest.approx([0, 1 / (torch.e - 1), 1], abs=1e-5)
    assert kept_share(q, bits=200)[1:].tolist() == pytest.approx([1, 1], abs=1e-6)


def test_coarse_uniforms_have_the_biased_distribution(rng):
    """32 classes of probability 2^-11 beside a likely one, with uniforms of 10 bits: a = 2."""
    p = torch.full((33,), 2.0**-11, dtype=torch.float64)
    p[-1] = 1 - 32 * 2.0**-11
    hits = int((ratio_sampler(p.expand(NUM, -1), rng, bits=10) < 32).sum())
    due, biased = NUM * 32 * 2.0**-11, NUM * 32 * 2.0**-11 * float(kept_share(p[:1], 10)[0])
    assert abs(hits - biased) < 6 * biased**0.5
    assert hits < due - 6 * due**0.5


def test_double_precision_and_this_packages_draws_have_the_given_distribution(rng):
    p = torch.tensor([0.9, 0.05, 0.03, 0.02], dtype=torch.float64)
    assert chi_square_p(counts(ratio_sampler(p.expand(NUM, -1), rng), 4), p[None]) > LEAST_P
    assert chi_square_p(counts(categorical(p.log().expand(NUM, -1), rng), 4), p[None]) > LEAST_P


def test_the_drawn_law_loses_its_tail_as_steps_grow():
    p = torch.tensor([0.9, 0.1 - 1e-6, 1e-6], dtype=torch.float64)
    few, many = drawn_law(p, 1.0), drawn_law(p, 1e-3)
    assert few.sum() == pytest.approx(1) and many.sum() == pytest.approx(1)
    assert few[2] == pytest.approx(1e-6, rel=0.05) and many[2] < 1e-9


def test_samples_of_a_model_are_as_cold_as_expected(rng):
    """Cut to 8 bits they are much less surprising than due, as the formula says; in float32, with four
    classes and few steps, as surprising as due. The table is always the same, the draws are not."""
    process, _ = make_process("masked", 4)
    model = Table(process, 2, torch.Generator().manual_seed(0))
    for bits in (8, None):
        tokens, surprise, expected = common_samples(model, process, 5000, 2, 8, rng, bits)
        assert tokens.shape == (5000, 2) and len(surprise) == len(expected) == 10_000
        assert int(tokens.max()) <= 3, "a position is still masked"
        error = float(surprise.std()) / 100
        assert abs(float(surprise.mean() - expected.mean())) < 5 * error
        assert (float(expected.mean()) < -3 * error) == (bits == 8)
