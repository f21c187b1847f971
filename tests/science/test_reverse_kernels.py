"""Reverse kernels as tables, against laws pushed forward and sums over every path."""

import itertools

import pytest
import torch
from helpers import every_process

from dmmd_lite.denoisers.exact import ExactDenoiser, log_posterior
from dmmd_lite.metrics.exact_laws import exact_law
from dmmd_lite.processes import get_process
from dmmd_lite.studies.theory.reverse_kernels import (
    all_states,
    distance,
    implied_posterior,
    noisy_law,
    product_kernel,
    times,
    true_kernel,
)
from dmmd_lite.worlds import get_world


@every_process
def test_the_true_kernel_takes_one_noisy_law_to_the_other(process_name):
    world = get_world("parity")
    process = get_process(process_name, world.vocab_size)
    before, after = noisy_law(world, process, 0.8), noisy_law(world, process, 0.3)
    assert before.sum() == pytest.approx(1)
    assert torch.allclose(before @ true_kernel(world, process, 0.3, 0.8), after, atol=1e-12)


@every_process
def test_product_kernels_make_the_samplers_law(process_name):
    """Two steps, from the prior, as `exact_law` has them."""
    world = get_world("coins")
    process = get_process(process_name, world.vocab_size)
    z = all_states(process, world.length)
    law = noisy_law(world, process, 1.0)
    for t, s in ((1.0, 0.5), (0.5, 0.0)):
        x = (
            log_posterior(world, z, times(t, z), process, 0).exp().nan_to_num(0.5)
        )  # at t = 1 no token is left
        law = law @ product_kernel(x, process, s, t)
    clean = law[(z < world.vocab_size).all(-1)]
    exact = ExactDenoiser(world, process, floor=0)
    expected = exact_law(exact, process, world, 2, 0, torch.Generator().manual_seed(0))[0]
    assert torch.allclose(clean, expected, atol=1e-6)


@every_process
def test_the_implied_posterior_is_bayes_over_every_path(process_name, rng):
    world, s, t = get_world("coins"), 0.4, 0.7
    process = get_process(process_name, world.vocab_size)
    z = all_states(process, world.length)
    x = torch.rand(len(z), 2, 2, generator=rng, dtype=torch.float64).softmax(-1)
    weight = torch.rand(len(z), generator=rng, dtype=torch.float64)
    weight /= weight.sum()
    joint = torch.zeros(len(z), 2, 2, dtype=torch.float64)  # of z_s and the tokens
    for tokens in itertools.product(range(2), repeat=2):
        drawn = torch.tensor(tokens).expand(len(z), 2)
        q = process.posterior(z, drawn, times(s, z), times(t, z))  # [S, L, symbols]
        onward = torch.stack([q[:, place][:, z[:, place]] for place in range(2)]).prod(0)
        likely = weight * x[:, 0, tokens[0]] * x[:, 1, tokens[1]]
        for place in range(2):
            joint[:, place, tokens[place]] += likely @ onward
    p, posterior = implied_posterior(x, weight, process, s, t)
    assert torch.allclose(p, joint[:, 0].sum(-1), atol=1e-12) and p.sum() == pytest.approx(1)
    known = p > 0
    assert torch.allclose(posterior[known], (joint / joint.sum(-1, keepdim=True))[known], atol=1e-12)


def test_distance_is_zero_only_between_equal_kernels():
    kernel = torch.eye(3, dtype=torch.float64)
    weight = torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64)
    assert distance(kernel, kernel, weight) == 0
    assert distance(kernel, kernel[[1, 0, 2]], weight) == pytest.approx(1)
