"""What one step of D-MMD descends: its gradient against automatic differentiation of divergences."""

import pytest
import torch

from dmmd_lite.denoisers.exact import log_posterior
from dmmd_lite.objectives.dmmd import DMMD, DMMDDraw, DMMDSettings
from dmmd_lite.processes import get_process
from dmmd_lite.studies.theory.descent import (
    TINY,
    masked_loss,
    noisy_divergence,
    smoothed,
    student_law,
    subset_divergences,
    subset_shares,
    subset_weights,
    uniform_loss,
)
from dmmd_lite.worlds import get_world

every_world = pytest.mark.parametrize("name", ["coins", "parity", "permutations"])


def setting(name, rng, noises=3):
    """A smoothed world and the logits of a student with some values of its input noise."""
    world = smoothed(get_world(name))
    shape = (noises, world.length, world.vocab_size)
    return world, torch.randn(shape, generator=rng, dtype=torch.float64).requires_grad_()


def slope(loss, logits):
    return torch.autograd.grad(loss, logits)[0]


@every_world
@pytest.mark.parametrize("weight", ["one", "bound"])
@pytest.mark.parametrize("s", ["bridge", "start"])
def test_masked_noise_descends_divergences_of_subsets(name, s, weight, rng):
    world, logits = setting(name, rng)
    weights = subset_weights(world.length, s, weight)
    log_p = logits.log_softmax(-1)
    exact = slope(subset_divergences(log_p, world, weights), logits)
    found = slope(masked_loss(logits.log_softmax(-1), world, weights), logits)
    assert (exact - found).abs().max() < 1e-12 < 1e-4 * exact.abs().max()
    tilted = weights * torch.arange(1, world.length + 1)
    other = slope(subset_divergences(logits.log_softmax(-1), world, tilted), logits)
    assert (exact - other).abs().max() > 1e-3 * exact.abs().max()


@every_world
@pytest.mark.parametrize("s", [0.2, 0.7])
def test_uniform_noise_has_another_gradient(name, s, rng):
    world, logits = setting(name, rng)
    process = get_process("uniform", world.vocab_size)
    exact = slope(noisy_divergence(logits.log_softmax(-1), world, process, s), logits)
    found = slope(uniform_loss(logits.log_softmax(-1), world, process, s, "exact"), logits)
    moment = slope(uniform_loss(logits.log_softmax(-1), world, process, s, "moment"), logits)
    assert (exact - found).abs().max() < 1e-12 < 1e-4 * exact.abs().max()
    assert (exact - moment).abs().max() > 1e-2 * exact.abs().max()


@every_world
def test_both_gradients_vanish_at_the_teacher(name, rng):
    """A student that is one product distribution of the teacher's own kind: no gradient is left."""
    world, logits = setting(name, rng, noises=1)
    law = student_law(logits.detach().log_softmax(-1), world)
    teacher = type(world)(world.name, world.vocab_size, world.all_sequences(), law.tolist(), world.symbols)
    process = get_process("uniform", world.vocab_size)
    for loss in (
        masked_loss(logits.log_softmax(-1), teacher, subset_weights(world.length)),
        uniform_loss(logits.log_softmax(-1), teacher, process, 0.4, "exact"),
        uniform_loss(logits.log_softmax(-1), teacher, process, 0.4, "moment"),
    ):
        assert slope(loss, logits).abs().max() < 1e-12


def test_the_loss_is_that_of_the_package(rng):
    """The enumerated loss of the coins is the package's own, weighted by the probability of every draw."""
    world, logits = setting("coins", rng)
    process = get_process("masked", 2)
    log_p = logits.log_softmax(-1)
    x, mask = world.all_sequences(), process.mask
    mixture = type(world)("g", 2, x, student_law(log_p.detach(), world).tolist(), world.symbols)
    method = DMMD(*(torch.nn.Identity() for _ in range(3)), process, DMMDSettings(1))
    total, weights = 0.0, subset_weights(2)
    for shown in ([False, False], [True, False], [False, True]):
        z = torch.where(torch.tensor(shown), x, mask)
        s = torch.full((len(x),), 0.5, dtype=torch.float64)
        phi, theta = (log_posterior(w, z, s, process, TINY) for w in (mixture, world))
        for one in log_p:
            draw = DMMDDraw(s, one.expand(len(x), -1, -1), x, z)
            values = method.generator_values(draw, theta, phi)["moment"] * process.loss_mask(z)
            p = one.detach()[torch.arange(2), x].sum(-1).exp() / len(log_p)
            total = total + weights[sum(shown)] * (p * values.sum(-1)).sum()
    ours = masked_loss(log_p, world, weights)
    assert total.item() == pytest.approx(ours.item(), abs=1e-12)
    assert torch.allclose(
        slope(total, logits), slope(masked_loss(logits.log_softmax(-1), world, weights), logits)
    )


def test_weights_are_the_integrals_they_stand_for(rng):
    s = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    for times, p in (("bridge", s), ("start", torch.ones_like(s))):
        for weight, w in (("one", torch.ones_like(s)), ("bound", 1 / s)):
            found = [(p * w * (1 - s) ** (m - 1) * s ** (5 - m)).mean().item() for m in range(1, 5)]
            assert subset_weights(4, times, weight).tolist() == pytest.approx(found, rel=1e-5)


def test_most_weight_falls_on_single_positions():
    """The formulas: (L - m + 2)(L - m + 1)/m for the bridge, (L - m + 1)/m for t = 1, 1/m with 1/s."""
    m, L = torch.arange(1, 5, dtype=torch.float64), 4
    for shares, expected in (
        (subset_shares(L), (L - m + 2) * (L - m + 1) / m),
        (subset_shares(L, "start"), (L - m + 1) / m),
        (subset_shares(L, "start", "bound"), 1 / m),
    ):
        torch.testing.assert_close(shares, expected / expected.sum())
    assert subset_shares(L)[0] > 0.7 and subset_shares(L)[-1] < 0.018
