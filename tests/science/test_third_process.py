"""A third noise process, defined here and registered by name, works without a change of the package.

Noise is MASK with probability 0.8 and else a random token, drawn anew whenever a token is hit (GIDD,
arXiv 2503.04482). So a token that is not MASK may be noise, which neither masked nor uniform noise has.
"""

import pytest
import torch
from helpers import (
    LEAST_P,
    Table,
    bayes,
    chi_square_p,
    count,
    every_schedule,
    frequencies,
    position_laws,
    sequences,
    transition,
)
from torch.nn.functional import one_hot

from dmmd_lite.denoisers.exact import ExactDenoiser, log_posterior
from dmmd_lite.metrics.exact_laws import exact_law
from dmmd_lite.models.custom import distil, fit_teacher
from dmmd_lite.models.task import task_of
from dmmd_lite.objectives.dcd import DCD, DCDSettings
from dmmd_lite.objectives.dmmd import DMMD, DMMDSettings
from dmmd_lite.objectives.likelihood_bound import bound_at, likelihood_bound
from dmmd_lite.objectives.sdtt import SDTT, SDTTSettings
from dmmd_lite.processes import PROCESSES, Process, RandomStart, get_process
from dmmd_lite.sampling import sample
from dmmd_lite.utils.rng import generator_for, pick, uniform
from dmmd_lite.worlds import get_world

V = 5


class Mixed(Process):
    """Noise pi: MASK with probability 0.8, else a uniformly random token."""

    name = "mixed"

    @property
    def num_symbols(self):
        return self.vocab_size + 1

    @property
    def pi(self):
        pi = torch.full((self.num_symbols,), 0.2 / self.vocab_size, dtype=torch.float64)
        pi[-1] = 0.8
        return pi

    def _marginal(self, x, alpha):
        """alpha x + (1 - alpha) pi for probabilities x [..., V], [..., S]."""
        x = torch.cat([x, torch.zeros_like(x[..., :1])], -1)
        return alpha * x + (1 - alpha) * self.pi.to(x)

    def prior(self, shape, generator):
        return pick(self.pi.log().expand(*shape, -1).to(generator.device), uniform(shape, generator))

    def likelihood(self, z, t):
        every_x = torch.eye(self.vocab_size, dtype=t.dtype, device=z.device)
        of_every_z = self._marginal(every_x, self.alpha(t)[..., None, None])[:, 0]  # [B, V, S]
        return of_every_z.mT[torch.arange(len(z), device=z.device)[:, None], z]

    def posterior_given_probs(self, z, x, s, t):
        alpha_s, alpha_t = self.alpha(s).unsqueeze(-1), self.alpha(t).unsqueeze(-1)
        stay, z_hot = alpha_t / alpha_s, one_hot(z, self.num_symbols).to(x)
        to_z = stay * z_hot + (1 - stay) * self.pi.to(x)[z].unsqueeze(-1)
        joint = to_z * self._marginal(x, alpha_s)
        return joint / joint.sum(-1, keepdim=True)

    def may_change(self, z, u, s, t):
        return torch.ones_like(z, dtype=torch.bool)

    def step(self, z, x, s, t, generator, u=None):
        u = uniform(z.shape, generator) if u is None else u
        return pick(self.posterior(z, x, s.double(), t.double()).log(), u)

    def bound_integrand(self, log_x, x, z, t):
        """Compute the divergence of the rates at which the reverse process jumps from z to c. For a token x
        they are -(alpha'/alpha) pi_z m_x(c) / m_x(z) with m_x = alpha x + (1 - alpha) pi."""
        every_x = torch.eye(self.vocab_size, dtype=log_x.dtype)
        m = self._marginal(every_x, self.alpha(t)[..., None, None].to(log_x))  # [B, 1, V, S]
        m = m.expand(-1, z.shape[1], -1, -1)
        ratio = m / m.gather(-1, z[..., None, None].expand(*z.shape, self.vocab_size, 1))
        r_model = (log_x.exp().unsqueeze(-1) * ratio).sum(-2)
        r_target = ratio.gather(-2, x[..., None, None].expand(*x.shape, 1, self.num_symbols)).squeeze(-2)
        terms = r_target * (r_target / r_model).log() - r_target + r_model  # 0 at c = z
        scale = -self.schedule.alpha_prime(t) / self.schedule.alpha(t).clamp(min=1e-12)
        return terms.sum(-1) * scale.unsqueeze(-1) * self.pi.to(log_x)[z]


class Unbounded(Mixed):
    """The same noise, of which no bound is known."""

    name, bound_integrand = "unbounded", Process.bound_integrand


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    for process in (Mixed, Unbounded):
        monkeypatch.setitem(PROCESSES, process.name, process)


@every_schedule
def test_posterior_and_likelihood_are_bayes(schedule):
    process = get_process("mixed", V, schedule)
    s, t = torch.tensor([0.3, 0.7], dtype=torch.float64)
    alpha_s, alpha_t = process.schedule.alpha(s), process.schedule.alpha(t)
    Q_s, Q_ts, Q_t = (transition(process, a, process.pi) for a in (alpha_s, alpha_t / alpha_s, alpha_t))
    x, z = (v.flatten() for v in torch.meshgrid(torch.arange(V), torch.arange(V + 1), indexing="ij"))
    truth = Q_s[x] * Q_ts[:, z].T / Q_t[x, z].unsqueeze(1)
    times = s.expand(len(z)), t.expand(len(z))
    found = process.posterior(z[:, None], x[:, None], *times).squeeze(1)
    torch.testing.assert_close(found, truth, rtol=0, atol=1e-12)
    likelihood = process.likelihood(torch.arange(V + 1)[None], t[None])[0]
    torch.testing.assert_close(likelihood, Q_t[:V].T, rtol=0, atol=1e-15)


def test_draws_have_their_distributions(rng):
    process, num = get_process("mixed", V), 20_000
    assert chi_square_p(count(process.prior((1, num), rng), V + 1), process.pi[None]) > LEAST_P
    s, t = torch.full((V,), 0.3), torch.full((V,), 0.7)
    x = torch.arange(V)[:, None].expand(-1, num)
    expected = transition(process, 0.3, process.pi)[:V]
    assert chi_square_p(count(process.corrupt(x, t, rng), V + 1), expected) > LEAST_P
    z = torch.tensor([0, 1, 1, 5, 5])[:, None]
    expected = process.posterior(z, x[:, :1], s.double(), t.double()).squeeze(1)
    assert chi_square_p(count(process.step(z.expand(-1, num), x, s, t, rng), V + 1), expected) > LEAST_P


def test_the_exact_denoiser_is_bayes():
    world, process = get_world("coins"), get_process("mixed", 2)
    z, t = sequences(3, 2), torch.tensor(0.6, dtype=torch.float64)
    p, _ = bayes(world.outcomes, world.probs, z, transition(process, process.schedule.alpha(t), process.pi))
    log_x = log_posterior(world, z, t.expand(len(z)), process, floor=0)
    torch.testing.assert_close(log_x.exp(), position_laws(world.outcomes, p, 2), rtol=0, atol=1e-12)


@every_schedule
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_samples_have_the_distribution_of_the_plain_chain(schedule, steps, rng):
    process = get_process("mixed", 2, schedule)
    denoiser = Table(process, 3, rng)
    expected = exact_law(denoiser, process, get_world("parity"), steps, 0, rng)
    drawn = sample(denoiser, process, 20_000, 3, steps, generator=rng, trajectory=True)
    assert chi_square_p(frequencies(drawn.tokens, 2)[None], expected) > LEAST_P
    assert drawn.evaluations == steps and 0 < (drawn.trajectory[0] < 2).double().mean() < 0.5


def test_the_bound_of_the_exact_denoiser_is_the_entropy(rng):
    world, process = get_world("coins"), get_process("mixed", 2)
    nats = likelihood_bound(ExactDenoiser(world, process, 1e-12), process, world.sample(4000, rng), rng)
    assert abs(float(nats.mean()) - world.entropy()) < 5 * float(nats.std()) / len(nats) ** 0.5
    assert float(nats.std()) / len(nats) ** 0.5 < 0.05


def test_a_process_without_a_bound_is_named(rng, tmp_path):
    world, process = get_world("coins"), get_process("unbounded", 2)
    words = "process: 'unbounded' is not allowed here; no likelihood bound"
    with pytest.raises(ValueError, match=words):
        bound_at(ExactDenoiser(world, process), process, world.sample(4, rng), torch.full((4,), 0.5), rng)
    with pytest.raises(ValueError, match=words):
        fit_teacher(world, tmp_path, "unbounded", updates=1, batch_size=4)


def test_a_teacher_learns_and_its_student_trains(tmp_path):
    world = get_world("coins")
    network = {"width": 16, "depth": 1, "heads": 2, "time_width": 8}
    teacher = fit_teacher(world, tmp_path / "teacher", "mixed", network=network, updates=300, lr=1e-2)
    assert isinstance(teacher.process, Mixed) and isinstance(task_of(teacher.recipe).process, Mixed)
    expected = exact_law(teacher.denoiser, teacher.process, world, 4, 0, generator_for("cpu", 0))
    drawn = teacher.sample(20_000, 4, seed=1).tokens
    assert chi_square_p(frequencies(drawn, 2)[None], expected) > LEAST_P
    assert (expected - world.law()).abs().sum() / 2 < 0.15  # untrained 0.5, the exact denoiser 0.098
    student = distil(teacher, tmp_path / "student", 2, updates=2, batch_size=8)
    assert student.process.name == "mixed"
    assert set(student.sample(50, 2).tokens.flatten().tolist()) == {0, 1}


@pytest.mark.parametrize("updates", ["fused", "alternating"])
def test_a_dmmd_step_has_gradients(updates, rng):
    process = get_process("mixed", 2)
    players = [Learnt(process, rng) for _ in range(3)]
    method = DMMD(*players, process, DMMDSettings(2, updates=updates))
    for step in range(2):
        terms = method.losses(step, torch.randint(2, (16, 2), generator=rng), rng)
        sum(value for parts in terms.values() for value in parts.values()).backward()
    for player in players[:2]:
        assert player.start.grad.isfinite().all() and player.start.grad.any()
    assert players[2].start.grad is None


class Learnt(Table):
    """A table of logits with a gradient."""

    def __init__(self, process, rng):
        super().__init__(process, 2, rng)
        self.start = torch.nn.Parameter(self.start)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda f, p: DMMD(f, f, f, p, DMMDSettings(2, target="soft")), "target: 'soft' .* for mixed noise"),
        (lambda f, p: DMMD(f, f, f, p, DMMDSettings(2, form="reverse_kernel")), "form: .* for mixed noise"),
        (
            lambda f, p: DMMD(f, f, f, p, DMMDSettings(1, times="start", reverse="forward", masked=0.5)),
            "masked: 0.5 .* for mixed noise",
        ),
        (
            lambda f, p: DMMD(f, f, f, p, DMMDSettings(1, times="start", reverse="count")),
            "reverse: 'count' is not allowed here",
        ),
        (lambda f, p: DCD(f, f, p, DCDSettings(2)), "process: 'mixed' is not allowed for DCD"),
        (lambda f, p: SDTT(f, f, p, SDTTSettings(2)), "process: 'mixed' is not allowed for SDTT"),
        (lambda f, p: RandomStart(p), "process: 'mixed' is not allowed with a random start"),
    ],
)
def test_methods_for_other_noise_refuse_it(make, words, rng):
    process = get_process("mixed", 2)
    with pytest.raises(ValueError, match=words):
        make(Table(process, 2, rng), process)
