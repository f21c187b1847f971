"""Duo's DCD against enumeration: the Gaussian transform, coupled pairs, the loss, its optimum, refusals."""

import math

import pytest
import torch
from helpers import LEAST_P, Table, chi_square_p, count, sequences
from scipy.stats import binomtest, ttest_1samp
from torch import nn
from torch.nn.functional import one_hot

from dmmd_lite.denoisers.base import Denoiser, to_leave_one_out, to_posterior
from dmmd_lite.denoisers.exact import ExactDenoiser
from dmmd_lite.objectives.dcd import DCD, DCDSettings
from dmmd_lite.objectives.terms import divergence_between
from dmmd_lite.processes import get_process
from dmmd_lite.processes.gaussian_coupling import coupled, kept_fraction, signal_of
from dmmd_lite.worlds import get_world
from dmmd_lite.worlds.enumerable import EnumerableWorld

every_size = pytest.mark.parametrize("vocab_size", [2, 5, 27])


class Independent(Denoiser):
    """A trainable denoiser of independent tokens, whose leave-one-out distribution is always the same."""

    def __init__(self, process, logits):
        super().__init__()
        self.process, self.logits = process, nn.Parameter(logits.double())

    def forward(self, z, t, noise=None):
        return to_posterior(self.logits.log_softmax(-1).expand(len(z), -1, -1), z, t.double(), self.process)


# --- the Gaussian transform -------------------------------------------------------------------------------


def test_the_kept_fraction_is_the_quoted_one():
    assert float(kept_fraction(torch.tensor(0.4), 27)) == pytest.approx(0.0473, abs=5e-5)
    signals = torch.tensor([0.4, 0.6, 0.8, 0.9, 0.97])
    quoted = [0.0085, 0.022, 0.078, 0.237, 0.860]
    assert kept_fraction(signals, 256).tolist() == pytest.approx(quoted, abs=6e-4)


@pytest.mark.parametrize("vocab_size", [2, 27, 256])
@pytest.mark.parametrize("signal", [0.1, 0.4, 0.8, 0.95])
def test_the_kept_fraction_is_that_of_gaussian_draws(vocab_size, signal, rng):
    n = 20_000
    w = math.sqrt(1 - signal**2) * torch.randn(n, vocab_size, generator=rng)
    w[:, 0] += signal
    hits = int((w.argmax(-1) == 0).sum())
    alpha = float(kept_fraction(torch.tensor(signal), vocab_size))
    assert binomtest(hits, n, alpha + (1 - alpha) / vocab_size).pvalue > LEAST_P


def test_two_classes_have_a_closed_form():
    """For two classes P = Phi(a / (sigma sqrt(2))), from the larger of two Gaussians."""
    a = torch.linspace(0, 0.99, 100, dtype=torch.float64)
    p = torch.special.ndtr(a / (2 * (1 - a**2)).sqrt())
    torch.testing.assert_close(kept_fraction(a, 2), 2 * p - 1, atol=1e-6, rtol=0)


@pytest.mark.parametrize("vocab_size", [2, 27, 50_257])
def test_the_transform_grows_from_zero_to_one_and_back(vocab_size):
    alpha = torch.linspace(0, 1, 1001, dtype=torch.float64)
    signal = signal_of(alpha, vocab_size)
    assert signal[0] == 0 and (signal.diff() > 0).all() and signal[-1] < 1
    torch.testing.assert_close(kept_fraction(signal, vocab_size), alpha, atol=2e-9, rtol=0)
    assert float(kept_fraction(torch.tensor(1.0), vocab_size)) == pytest.approx(1, abs=2e-9)


# --- coupled pairs ----------------------------------------------------------------------------------------


@every_size
@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.9])
def test_each_of_a_pair_has_the_marginal_of_uniform_noise(vocab_size, alpha, rng):
    n, kept = 20_000, torch.tensor([[alpha]])
    x = torch.randint(vocab_size, (1, 1), generator=rng).expand(1, n)
    for z in coupled(x, [kept, kept / 2 + 0.5], vocab_size, rng):
        law = kept * one_hot(x[:, 0], vocab_size) + (1 - kept) / vocab_size
        assert chi_square_p(count(z, vocab_size), law.double()) > LEAST_P
        kept = kept / 2 + 0.5


@pytest.mark.parametrize("vocab_size", [2, 5])
def test_pairs_are_those_of_one_gaussian(vocab_size, rng):
    """Frequencies of (z_t, z_s) agree with explicit argmaxes of the same epsilon at both times."""
    n, signals = 40_000, torch.tensor([0.5, 0.8], dtype=torch.float64)
    epsilon = torch.randn(n, vocab_size, generator=rng, dtype=torch.float64)
    token = one_hot(torch.tensor(1), vocab_size)
    pair = [(a * token + (1 - a**2).sqrt() * epsilon).argmax(-1) for a in signals]
    explicit = (pair[0] * vocab_size + pair[1]).bincount(minlength=vocab_size**2)
    alphas = [kept_fraction(a, vocab_size).view(1, 1) for a in signals]
    pair = coupled(torch.ones(n, 1, dtype=torch.long), alphas, vocab_size, rng)
    drawn = (pair[0] * vocab_size + pair[1]).flatten().bincount(minlength=vocab_size**2)
    law = pair_law(1, alphas, vocab_size).flatten()
    for counts in (explicit, drawn):
        assert chi_square_p(counts[None], law[None]) > LEAST_P


@every_size
def test_a_token_once_kept_stays_kept(vocab_size, rng):
    x = torch.randint(vocab_size, (500, 4), generator=rng)
    alphas = torch.rand(7, generator=rng).sort().values
    path = coupled(x, list(alphas.view(7, 1, 1).expand(7, 500, 1)), vocab_size, rng)
    changes = 0
    for early, late in zip(path[:-1], path[1:], strict=True):
        assert ((early == late) | (late == x)).all()
        changes += int((early != late).sum())
    assert changes > 0


def pair_law(x, alphas, vocab_size):
    """Return P(z_t, z_s) for a token x at alpha_t < alpha_s: x at both times, at s only, or at neither."""
    early, late = (float(alpha + (1 - alpha) / vocab_size) for alpha in alphas)
    law = torch.zeros(vocab_size, vocab_size, dtype=torch.float64)
    law[x, x] = early
    for other in set(range(vocab_size)) - {x}:
        law[other, x] = (late - early) / (vocab_size - 1)
        law[other, other] = (1 - late) / (vocab_size - 1)
    return law


# --- the loss ---------------------------------------------------------------------------------------------


def expected_loss(method, world, t, s):
    """Compute the mean loss over positions and all pairs of paths."""
    process, V, length = method.process, world.vocab_size, world.length
    alphas = [1 - t, 1 - s]
    z = sequences(V, length)
    laws = {}
    for name, denoiser, time in (("student", method.players["student"], t), ("target", method.teacher, s)):
        at = torch.full((len(z),), time, dtype=torch.float64)
        laws[name] = to_leave_one_out(denoiser(z, at).double(), z, at, process).detach()
    log_target = laws["target"].clamp(min=math.log(method.settings.clamp))
    total = 0.0
    for x, p_x in zip(world.outcomes, world.probs, strict=True):
        tables = [pair_law(int(token), alphas, V) for token in x]
        for i, z_t in enumerate(z):
            for j, z_s in enumerate(z):
                p = math.prod(
                    float(table[a, b]) for table, a, b in zip(tables, z_t.tolist(), z_s.tolist(), strict=True)
                )
                if p:
                    value = divergence_between(method.settings.divergence, laws["student"][i], log_target[j])
                    total += float(p_x) * p * float(value.mean())
    return total


@pytest.mark.parametrize("divergence", ("reverse_kl", "forward_kl"))
@pytest.mark.parametrize("exact", [True, False])
def test_the_loss_is_that_of_all_pairs(divergence, exact, rng, monkeypatch):
    process, world = get_process("uniform", 2), get_world("coins")
    teacher = ExactDenoiser(world, process, 1e-9) if exact else Table(process, 2, rng)
    settings = DCDSettings(2, rounds=2, divergence=divergence, clamp=1e-3)
    method = DCD(Table(process, 2, rng), teacher, process, settings)
    monkeypatch.setattr(method, "draw_times", lambda n, *_: torch.full((n,), 0.8))
    expected = expected_loss(method, world, 0.8, 0.8 - settings.jump(0))
    losses = []
    for _ in range(40):
        (value,) = method.losses(0, world.sample(500, rng), rng)["student"].values()
        losses.append(float(value))
    assert ttest_1samp(losses, expected).pvalue > LEAST_P


@pytest.mark.parametrize("divergence", ("reverse_kl", "forward_kl"))
def test_no_loss_and_no_gradient_where_the_student_is_consistent(divergence, rng):
    """If tokens are independent, their leave-one-out distribution is the same all along a path."""
    p = torch.rand(2, 3, generator=rng, dtype=torch.float64) + 0.1
    p /= p.sum(-1, keepdim=True)
    outcomes = sequences(3, 2)
    world = EnumerableWorld(
        "pairs", 3, outcomes, (p[0][outcomes[:, 0]] * p[1][outcomes[:, 1]]).tolist(), "abc"
    )
    process, settings = (
        get_process("uniform", 3),
        DCDSettings(1, rounds=3, round_updates=5, divergence=divergence),
    )
    student = Independent(process, p.log())
    method = DCD(student, ExactDenoiser(world, process, 1e-12), process, settings)
    for step in (0, 5, 10):
        loss = method.losses(step, world.sample(64, rng), rng)["student"][divergence]
        (gradient,) = torch.autograd.grad(loss, student.logits)
        assert loss.abs() < 1e-5 and gradient.abs().max() < 1e-5  # exact posteriors have float32 precision
    other = DCD(Independent(process, -p.log()), method.teacher, process, settings)
    assert other.losses(0, world.sample(64, rng), rng)["student"][divergence] > 1e-3


def test_the_target_is_asked_a_jump_closer_to_the_data(rng):
    process, world = get_process("uniform", 2), get_world("coins")

    class Watched(Table):
        def forward(self, z, t, noise=None):
            self.seen = t
            return super().forward(z, t, noise)

    for steps, rounds in ((1, 1), (4, 3)):
        student, teacher = Watched(process, 2, rng), Watched(process, 2, rng)
        settings = DCDSettings(steps, rounds=rounds, earliest=0.05)
        DCD(student, teacher, process, settings).losses(0, world.sample(1000, rng), rng)
        gap = student.seen - teacher.seen
        assert (teacher.seen >= 0.05).all() and (gap <= settings.jump(0) + 1e-6).all()
        cut = teacher.seen == 0.05
        assert (gap[~cut] > settings.jump(0) - 1e-6).all() and (gap >= 0).all()
        assert cut.all() if steps == 1 else 0 < cut.sum() < len(cut)


def test_forward_kl_ends_at_the_mean_of_the_targets(rng):
    """One step from t = 1, where z_t is uninformative, ends at the product of the data's marginals only."""
    process, world = get_process("uniform", 2), get_world("coins")
    teacher = ExactDenoiser(world, process, 1e-9)
    for heads, at_end in ((0.6, True), (0.8, False)):
        student = Independent(process, torch.tensor([[heads, 1 - heads]] * 2).log())
        settings = DCDSettings(1, rounds=1, divergence="forward_kl", clamp=1e-9, earliest=1e-3)
        method = DCD(student, teacher, process, settings)
        gradients = []
        for _ in range(40):
            loss = method.losses(0, world.sample(200, rng), rng)["student"]["forward_kl"]
            gradients.append(float(torch.autograd.grad(loss, student.logits)[0][:, 0].sum()))
        assert (ttest_1samp(gradients, 0).pvalue > LEAST_P) == at_end


# --- refusals ---------------------------------------------------------------------------------------------


def test_masked_noise_is_refused():
    process = get_process("masked", 2)
    with pytest.raises(ValueError, match="process: 'masked' is not allowed for DCD; choose 'uniform'"):
        DCD(Denoiser(), Denoiser(), process, DCDSettings(1))


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"steps": 0}, "steps: 0 is not allowed; it must be a whole number of at least 1"),
        ({"divergence": "mse"}, "divergence: 'mse' is not allowed; choose one of"),
        ({"earliest": 0.0}, "earliest: 0.0 is not allowed; it must lie in \\(0, 1\\)"),
        ({"clamp": 1.0}, "clamp: 1.0 is not allowed; it must lie in \\(0, 1\\)"),
    ],
)
def test_impossible_settings_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        DCDSettings(**{"steps": 1, **changes})
