"""Noise processes: closed forms against Bayes on explicit transition matrices, draws against closed forms."""

import pytest
import torch
from helpers import (
    LEAST_P,
    bayes,
    chi_square_p,
    count,
    every_process,
    every_schedule,
    make_process,
    position_laws,
    sequences,
    transition,
)

from dmmd_lite.denoisers.base import to_leave_one_out, to_posterior
from dmmd_lite.denoisers.exact import log_posterior
from dmmd_lite.processes import PROCESSES, base, get_process
from dmmd_lite.processes.block_autoregressive import BlockAutoregressive
from dmmd_lite.processes.random_start import RandomStart
from dmmd_lite.worlds.enumerable import EnumerableWorld

V = 5


def possible_pairs(process, alpha_t):
    """All (z_t, x) of positive probability as columns z [P, 1] and x [P, 1]."""
    x, z = transition(process, alpha_t)[:V].nonzero(as_tuple=True)
    return z.unsqueeze(1), x.unsqueeze(1)


def exact_posterior(process, z, x, s, t):
    """q(z_s | z_t, x) by Bayes for columns z and x, [P, S]: Q_s[x, z_s] Q_{t|s}[z_s, z_t] / Q_t[x, z_t]."""
    alpha_s, alpha_t = process.schedule.alpha(s), process.schedule.alpha(t)
    Q_s, Q_ts, Q_t = (transition(process, a) for a in (alpha_s, alpha_t / alpha_s, alpha_t))
    z, x = z.squeeze(1), x.squeeze(1)
    return Q_s[x] * Q_ts[:, z].T / Q_t[x, z].unsqueeze(1)


@every_schedule
@every_process
def test_posterior_is_bayes(process_name, schedule, rng):
    process = get_process(process_name, V, schedule)
    times = torch.rand(8, 2, generator=rng, dtype=torch.float64).sort(-1).values
    edges = torch.tensor([[0, 0.5], [0.5, 1], [0, 1]], dtype=torch.float64)
    for s, t in torch.cat([times, edges]):
        z, x = possible_pairs(process, process.schedule.alpha(t))
        posterior = process.posterior(z, x, s.expand(len(z)), t.expand(len(z))).squeeze(1)
        torch.testing.assert_close(posterior, exact_posterior(process, z, x, s, t), rtol=0, atol=1e-10)
        torch.testing.assert_close(posterior.sum(-1), torch.ones(len(z)).double(), rtol=0, atol=1e-12)


@every_schedule
@every_process
def test_likelihood_is_the_transition_matrix(process_name, schedule):
    process, (_, t) = make_process(process_name, V, schedule)
    z = torch.arange(process.num_symbols).unsqueeze(0)
    Q_t = transition(process, process.schedule.alpha(t))[:V]
    torch.testing.assert_close(process.likelihood(z, t[None])[0], Q_t.T, rtol=0, atol=1e-15)


@every_process
def test_plug_in_is_the_mixture_for_masked_noise_only(process_name):
    process, (s, t) = make_process(process_name, V)
    z = torch.arange(process.num_symbols).unsqueeze(1)
    x = torch.tensor([0.4, 0.3, 0.2, 0.1, 0], dtype=torch.float64)
    s, t = s.expand(len(z)), t.expand(len(z))
    plug_in = process.posterior_given_probs(z, x.expand(len(z), 1, V), s, t)
    mixture = sum(x[c] * process.posterior(z, torch.full_like(z, c), s, t) for c in range(V))
    error = (plug_in - mixture).abs().max()
    assert error < 1e-14 if process_name == "masked" else error > 0.01


def correlated_world(rng):
    """Two tokens of five classes, equal with probability about 0.8."""
    probs = 0.16 * torch.eye(V) + 0.008 * (0.5 + torch.rand(V, V, generator=rng, dtype=torch.float64))
    return EnumerableWorld("toy", V, sequences(V, 2), (probs / probs.sum()).flatten(), "abcde")


def test_leave_one_out_plugs_in_and_posterior_mixes(rng):
    """The reverse step of a position by brute force: sum over x of p(x) q(z_s^l | x^l) q(z_t^l | z_s^l)
    q(z_t^other | x^other). Plugging in the leave-one-out distribution and mixing over the posterior both give
    it; exchanging the two does not (uniform noise)."""
    world = correlated_world(rng)
    process, (s, t) = make_process("uniform", V)
    alpha_s, alpha_t = process.schedule.alpha(s), process.schedule.alpha(t)
    Q_s, Q_ts, Q_t = (transition(process, a) for a in (alpha_s, alpha_t / alpha_s, alpha_t))
    joint = world.probs.reshape(V, V)
    first = torch.einsum("xy,xc,ca,yb->abc", joint, Q_s, Q_ts, Q_t)
    second = torch.einsum("xy,yc,cb,xa->abc", joint, Q_s, Q_ts, Q_t)
    truth = torch.stack([first, second], 2).flatten(0, 1)
    truth /= truth.sum(-1, keepdim=True)

    z = sequences(V, 2)
    s, t = s.expand(len(z)), t.expand(len(z))
    log_x = log_posterior(world, z, t, process, floor=0)
    log_loo = to_leave_one_out(log_x, z, t, process)
    torch.testing.assert_close(to_posterior(log_loo, z, t, process), log_x, rtol=0, atol=1e-12)

    def plug_in(log_p):
        return process.posterior_given_probs(z, log_p.exp(), s, t)

    def mixture(log_p):
        return sum(
            log_p[..., c, None].exp() * process.posterior(z, torch.full_like(z, c), s, t) for c in range(V)
        )

    for right in (plug_in(log_loo), mixture(log_x)):
        torch.testing.assert_close(right, truth, rtol=0, atol=1e-10)
    for wrong in (plug_in(log_x), mixture(log_loo)):
        assert (wrong - truth).abs().max() > 0.01


def test_leave_one_out_is_the_posterior_where_masked(rng):
    world = correlated_world(rng)
    process, (_, t) = make_process("masked", V)
    z = sequences(V + 1, 2)
    log_x = log_posterior(world, z, t.expand(len(z)), process, floor=0)
    p, _ = bayes(world.outcomes, world.probs, z, transition(process, process.schedule.alpha(t)))
    torch.testing.assert_close(log_x.exp(), position_laws(world.outcomes, p, V), rtol=0, atol=1e-12)
    log_loo = to_leave_one_out(log_x, z, t.expand(len(z)), process)
    masked = process.loss_mask(z)
    torch.testing.assert_close(log_loo[masked], log_x[masked], rtol=0, atol=1e-12)


@every_schedule
@every_process
def test_step_draws_from_the_posterior(process_name, schedule, rng):
    process, times = make_process(process_name, V, schedule)
    s, t = times.float()  # the type used in training
    z, x = possible_pairs(process, process.schedule.alpha(t))
    s, t = s.expand(len(z)), t.expand(len(z))
    drawn = process.step(z.expand(-1, 20_000), x.expand(-1, 20_000), s, t, rng)
    probs = process.posterior(z, x, s.double(), t.double()).squeeze(1)
    assert chi_square_p(count(drawn, process.num_symbols), probs) > LEAST_P


@every_schedule
@every_process
@pytest.mark.parametrize("t", [0.001, 0.5, 1.0])
def test_last_step_returns_x(process_name, schedule, t, rng, monkeypatch):
    process = get_process(process_name, V, schedule)
    s, t = torch.zeros(1), torch.tensor([t])
    x = torch.randint(V, (1, 10_000), generator=rng)
    z = process.corrupt(x, t, rng)
    assert torch.equal(process.step(z, x, s, t, rng), x)
    largest = torch.tensor(1 - 2**-53, dtype=torch.float64)
    monkeypatch.setattr(base, "uniform", lambda shape, generator: largest.expand(shape))
    assert torch.equal(process.step(z, x, s, t, rng), x)


@every_schedule
@every_process
def test_corrupt_draws_from_the_likelihood(process_name, schedule, rng):
    process = get_process(process_name, V, schedule)
    x = torch.arange(V).unsqueeze(1).expand(-1, 20_000)
    for t in (0.0, 0.3, 1.0):
        drawn = process.corrupt(x, torch.full((V,), t), rng)
        probs = transition(process, process.schedule.alpha(torch.tensor(t, dtype=torch.float64)))[:V]
        assert chi_square_p(count(drawn, process.num_symbols), probs) > LEAST_P


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="process: 'gaussian' is not allowed; choose one of"):
        get_process("gaussian", V)
    with pytest.raises(ValueError, match="schedule: 'sqrt' is not allowed; choose one of"):
        get_process("masked", V, "sqrt")


# --- paths from a random start ----------------------------------------------------------------------------

every_start = pytest.mark.parametrize(
    "process_name, masked", [("uniform", 0.0), ("masked", 0.3), ("masked", 1.0)]
)


def start_distribution(process):
    """pi of a process with a random start, over all values of z, [S]."""
    probs = torch.full((process.num_symbols,), (1 - process.masked) / V, dtype=torch.float64)
    if process.num_symbols > V:
        probs[V] = process.masked
    return probs


@every_start
def test_a_random_start_follows_one_path(process_name, masked):
    """Posterior and likelihood by enumerating starts, with arrivals at x by t, between t and s, or later."""
    process = RandomStart(get_process(process_name, V), masked)
    s, t = torch.tensor([0.3, 0.7], dtype=torch.float64)
    alpha_s, alpha_t = process.schedule.alpha(s), process.schedule.alpha(t)
    S, pi = process.num_symbols, start_distribution(process)
    joint = torch.zeros(V, S, S, dtype=torch.float64)  # of z_t and z_s given x
    for x in range(V):
        joint[x, x, x] += alpha_t
        for start in range(S):
            joint[x, start, x] += pi[start] * (alpha_s - alpha_t)
            joint[x, start, start] += pi[start] * (1 - alpha_s)
    z, x = (v.flatten().unsqueeze(1) for v in torch.meshgrid(torch.arange(S), torch.arange(V), indexing="ij"))
    likelihood = process.likelihood(torch.arange(S).unsqueeze(1), t.expand(S)).squeeze(1)
    torch.testing.assert_close(likelihood, joint.sum(-1).T, rtol=0, atol=1e-15)
    posterior = process.posterior(z, x, s.expand(len(z)), t.expand(len(z))).squeeze(1)
    evidence = joint.sum(-1)[x[:, 0], z[:, 0], None]
    possible = evidence[:, 0] > 0
    expected = (joint[x[:, 0], z[:, 0]] / evidence)[possible]
    torch.testing.assert_close(posterior[possible], expected, rtol=0, atol=1e-12)


@every_start
def test_draws_from_a_random_start(process_name, masked, rng):
    process, num = RandomStart(get_process(process_name, V), masked), 20_000
    S, pi = process.num_symbols, start_distribution(process)
    assert chi_square_p(count(process.prior((2, num), rng), S), pi.expand(2, S)) > LEAST_P
    x, t = torch.arange(V).unsqueeze(1).expand(-1, num), torch.full((V,), 0.7)
    probs = 0.3 * torch.eye(V, S, dtype=torch.float64) + 0.7 * pi
    assert chi_square_p(count(process.corrupt(x, t, rng), S), probs) > LEAST_P
    assert chi_square_p(count(process.corrupt(x, torch.ones(V), rng), S), pi.expand(V, S)) > LEAST_P
    z, x = (v.flatten().unsqueeze(1) for v in torch.meshgrid(torch.arange(S), torch.arange(V), indexing="ij"))
    s, t = torch.full((len(z),), 0.3), torch.full((len(z),), 0.7)
    drawn = process.step(z.expand(-1, num), x.expand(-1, num), s, t, rng)
    probs = process.posterior(z, x, s.double(), t.double()).squeeze(1)
    assert chi_square_p(count(drawn, S), probs) > LEAST_P
    x = torch.randint(V, (3, 1000), generator=rng)
    t = torch.tensor([0.001, 0.5, 1.0])
    assert torch.equal(process.step(process.corrupt(x, t, rng), x, torch.zeros(3), t, rng), x)


def test_a_step_of_uniform_noise_forgets_its_start_and_a_path_does_not():
    """At t = 1 the posterior of uniform noise does not depend on z, that of a path keeps it."""
    uniform, (s, _) = make_process("uniform", V)
    z, x = torch.arange(V).unsqueeze(1), torch.zeros(V, 1, dtype=torch.long)
    s, t = s.expand(V), torch.ones(V, dtype=torch.float64)
    forgets = uniform.posterior(z, x, s, t).squeeze(1)
    torch.testing.assert_close(forgets, forgets[:1].expand(V, V), rtol=0, atol=1e-15)
    keeps = RandomStart(uniform).posterior(z, x, s, t).squeeze(1)
    torch.testing.assert_close(keeps.diagonal()[1:], s[1:], rtol=0, atol=1e-15)


def test_impossible_starts_are_refused():
    with pytest.raises(ValueError, match="masked: 1.5 is not allowed"):
        RandomStart(get_process("masked", V), 1.5)
    with pytest.raises(ValueError, match="block: a random start is not allowed with blocks"):
        RandomStart(BlockAutoregressive(get_process("masked", V), 2), 0.5)


@every_schedule
@pytest.mark.parametrize("dtype", (torch.float32, torch.float64))
@pytest.mark.parametrize("process_name", (*PROCESSES, "random start"))
def test_the_posterior_is_a_distribution_at_all_times(process_name, dtype, schedule):
    """For every pair of z and x, possible or not, at s = t and at times of which kept fractions round to 1 or
    to 0. At s = t it is z_t, and noise becomes x at s = 0."""
    if process_name == "random start":
        process = RandomStart(get_process("masked", V, schedule), 0.5)
    else:
        process = get_process(process_name, V, schedule)
    z, x = torch.cartesian_prod(torch.arange(process.num_symbols), torch.arange(V)).T.unsqueeze(-1)
    for t in (0.0, 1e-300, 1e-20, 1e-12, 1e-9, 1e-6, 0.5, 1 - 1e-9, 1.0):
        for s in (0.0, t / 3, t):
            times = (torch.full((len(z),), time, dtype=dtype) for time in (s, t))
            posterior = process.posterior(z, x, *times)[:, 0]
            assert (posterior >= 0).all()
            torch.testing.assert_close(posterior.sum(-1), torch.ones(len(z), dtype=dtype), rtol=0, atol=1e-5)
            noisy = z == V if process_name == "masked" else z != x
            if s == t:
                torch.testing.assert_close(posterior.argmax(-1), z[:, 0])
            elif s == 0 and t >= 1e-20:
                torch.testing.assert_close(posterior.argmax(-1)[noisy[:, 0]], x[noisy])


@every_process
@pytest.mark.parametrize("t", [torch.rand(2, 1), torch.ones(2).long()], ids=["columns", "whole numbers"])
def test_times_of_another_shape_or_type_are_refused_and_not_broadcast(process_name, t, rng):
    process, x = get_process(process_name, V), torch.zeros(2, 3, dtype=torch.long)
    calls = [
        lambda: process.alpha(t),
        lambda: process.corrupt(x, t, rng),
        lambda: process.likelihood(x, t),
        lambda: process.posterior(x, x, torch.zeros(2), t),
        lambda: process.step(x, x, torch.zeros(2), t, rng),
    ]
    for call in calls:
        with pytest.raises(
            ValueError, match=r"^t: .* is not allowed; times must be floating-point numbers \[B"
        ):
            call()
