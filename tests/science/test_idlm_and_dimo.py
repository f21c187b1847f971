"""IDLM and Di[M]O, settings of D-MMD, against their sources' formulas, optima and distributions."""

import math

import numpy as np
import pytest
import torch
from helpers import (
    LEAST_P,
    Counting,
    Table,
    chi_square_p,
    count,
    every_process,
    frequencies,
    sequences,
    tiny_network,
)
from scipy.stats import kstest
from torch.nn.functional import one_hot

from dmmd_lite.denoisers.base import Denoiser, NetworkDenoiser, to_leave_one_out
from dmmd_lite.denoisers.exact import ExactDenoiser
from dmmd_lite.objectives.dimo import dimo
from dmmd_lite.objectives.dmmd import DMMD, DMMDDraw, DMMDSettings
from dmmd_lite.objectives.idlm import idlm
from dmmd_lite.processes import get_process
from dmmd_lite.processes.base import LOG_ZERO
from dmmd_lite.processes.block_autoregressive import BlockAutoregressive
from dmmd_lite.processes.random_start import RandomStart
from dmmd_lite.worlds.enumerable import EnumerableWorld

V, L = 3, 2
PRESETS = [
    pytest.param("masked", idlm(4, "masked"), id="idlm-masked"),
    pytest.param("uniform", idlm(4, "uniform"), id="idlm-uniform"),
    pytest.param("masked", dimo(), id="dimo"),
    pytest.param("masked", dimo(beta=-0.2), id="dimo-jeffreys"),
]


def random_world(rng):
    """Return a world of two tokens of three classes in which every pair is possible."""
    probs = torch.rand(V**L, generator=rng, dtype=torch.float64) + 0.1
    return EnumerableWorld("toy", V, sequences(V, L), (probs / probs.sum()).tolist(), "abc")


def tables(process, settings, rng):
    """Return a method among random tables in double precision."""
    generator = Table(settings.process(process), L, rng)
    others = [Table(process, L, rng) for _ in range(2)]
    return DMMD(*(table.double() for table in (generator, *others)), process, settings)


def networks(process, settings, rng):
    """Return a method among tiny networks."""
    paths = settings.process(process)
    generator = NetworkDenoiser(tiny_network(process, L, rng), paths)
    others = [NetworkDenoiser(tiny_network(process, L, rng), process) for _ in range(2)]
    return DMMD(generator, *others, process, settings)


def random_draw(method, rng, num=50):
    """Return unrelated distributions of student, teacher and auxiliary, with tokens, states and times."""
    s = torch.rand(num, generator=rng, dtype=torch.float64).clamp(min=0.05)
    laws = [torch.randn(num, L, V, generator=rng, dtype=torch.float64).log_softmax(-1) for _ in range(3)]
    x = torch.randint(V, (num, L), generator=rng)
    z_s = method.process.corrupt(x, s, rng)
    return DMMDDraw(s, laws[0], x, z_s), laws[1], laws[2]


# --- what all presets share ---------------------------------------------------------------------------------


@pytest.mark.parametrize("process_name, settings", PRESETS)
def test_no_generator_gradient_where_teacher_and_auxiliary_agree(process_name, settings, rng):
    method = networks(get_process(process_name, V), settings, rng)
    generator, x, largest = method.players["generator"], torch.randint(V, (64, L), generator=rng), []
    for teacher in (method.teacher, method.players["auxiliary"]):
        method.teacher = teacher
        sum(method.losses(0, x, rng)["generator"].values()).backward()
        largest.append(max(float(p.grad.abs().max()) for p in generator.parameters()))
        generator.zero_grad()
    rounding = 0 if settings.tau is None else 1e-3  # tau: gradients through both inputs differ by rounding
    assert largest[1] <= rounding * largest[0] and largest[0] > 0


@pytest.mark.parametrize("updates", ["alternating", "fused"])
@pytest.mark.parametrize("process_name, settings", PRESETS)
def test_each_turn_reaches_its_player_only(process_name, settings, updates, rng):
    settings = DMMDSettings(**{**vars(settings), "updates": updates})
    method = networks(get_process(process_name, V), settings, rng)
    x = torch.randint(V, (32, L), generator=rng)
    for step in range(2):
        terms = method.losses(step, x, rng)
        assert sorted(terms) == (
            ["auxiliary", "generator"] if updates == "fused" else [["generator"], ["auxiliary"]][step]
        )
        for name in terms:
            sum(terms[name].values()).backward()
            for other, player in method.players.items():
                reached = [p.grad is not None and bool(p.grad.isfinite().all()) for p in player.parameters()]
                assert all(reached) if other == name else not any(reached)
                player.zero_grad()
    assert all(p.grad is None for p in method.teacher.parameters())


def test_the_teacher_is_not_asked_without_need(rng):
    for settings, calls in ((idlm(4, "masked"), 1), (dimo(), 1), (DMMDSettings(4), 2)):
        method = networks(get_process("masked", V), settings, rng)
        method.teacher = Counting(method.teacher)
        for step in range(2):
            method.losses(step, torch.randint(V, (8, L), generator=rng), rng)
        assert method.teacher.calls == calls


# --- masked IDLM --------------------------------------------------------------------------------------------


def test_masked_idlm_is_its_formula(rng):
    """L_gen = w sum p (log phi - log theta), L_aux = -w sum p log phi over masked positions, per token."""
    process = get_process("masked", V)
    method = tables(process, idlm(4, "masked"), rng)
    draw, log_teacher, log_auxiliary = random_draw(method, rng)
    p, w, masked = draw.log_x.exp(), 1 / draw.s, (draw.z_s == process.mask).double()
    generator = (w[:, None] * masked * (p * (log_auxiliary - log_teacher)).sum(-1)).sum(-1).mean() / L
    auxiliary = -(w[:, None] * masked * (p * log_auxiliary).sum(-1)).sum(-1).mean() / L
    found = {
        **method.generator_terms(draw, log_teacher, log_auxiliary),
        **method.auxiliary_terms(draw, log_teacher, log_auxiliary),
    }
    assert found.keys() == {"moment", "student"}
    torch.testing.assert_close(found["moment"], generator)
    torch.testing.assert_close(found["student"], auxiliary)
    live = torch.randn(draw.log_x.shape, generator=rng, dtype=torch.float64).requires_grad_()
    draw = DMMDDraw(draw.s, live.log_softmax(-1), draw.x, draw.z_s)
    assert not method.auxiliary_terms(draw, log_teacher, log_auxiliary)["student"].requires_grad


def test_masked_idlm_noises_the_soft_prediction(rng, monkeypatch):
    """z_s ~ Cat(alpha_s p + (1 - alpha_s) MASK), p = x_eta(z_t), every position alone given z_t."""
    process, (s, t) = get_process("masked", V), torch.tensor([0.6, 1.0])
    method = tables(process, idlm(4, "masked"), rng)
    monkeypatch.setattr(method, "draw_times", lambda n, *_: (s.expand(n), t.expand(n)))
    z_s = method.draw(torch.zeros(50_000, L, dtype=torch.long), rng).z_s
    p = method.players["generator"](torch.full((1, L), process.mask), t[None])[0].exp()
    law = torch.cat([(1 - s) * p, s.expand(L, 1)], 1)
    assert chi_square_p(frequencies(z_s, V + 1)[None], (law[0][:, None] * law[1]).flatten()[None]) > LEAST_P


def test_masked_idlm_times_are_independent(rng):
    s, t = tables(get_process("masked", V), idlm(4, "masked"), rng).draw_times(20_000, rng, "cpu")
    assert kstest(s.numpy(), "uniform").pvalue > LEAST_P and kstest(t.numpy(), "uniform").pvalue > LEAST_P
    assert abs(np.corrcoef(s.numpy(), t.numpy())[0, 1]) < 5 / 20_000**0.5


def law_given(process, probs, x, z):
    """Return the log-probabilities of every position given z [Z, L], for x [N, L] of probabilities [N];
    masked noise."""
    agrees = ((z[:, None] == x) | (z[:, None] == process.mask)).all(-1).double()
    joint = agrees * probs
    marginal = torch.einsum("zn,nlv->zlv", joint, one_hot(x, V).double())
    return (marginal / joint.sum(-1)[:, None, None]).clamp(min=1e-300).log()


def masked_patterns(x, process):
    """Return every way to mask x [N, L]: states [N, P, L] and how many positions each masks, [P]."""
    masks = sequences(2, L).bool()
    return torch.where(masks, process.mask, x[:, None]), masks.sum(-1)


def test_masked_idlm_at_its_auxiliary_optimum_is_the_reverse_divergence(rng):
    """The mean over times of L_gen is KL(student || world), per token, if auxiliary and teacher are the exact
    posteriors of student and world: the bound of masked noise is tight."""
    process, world = get_process("masked", V), random_world(rng)
    method = tables(process, idlm(4, "masked"), rng)
    x, start = sequences(V, L), torch.tensor([[process.mask, 1]])  # a state z_t with one known token
    log_x = method.players["generator"](start, torch.tensor([0.7], dtype=torch.float64))
    log_x = torch.stack([log_x[0, 0], torch.randn(V, generator=rng, dtype=torch.float64).log_softmax(-1)])[
        None
    ]
    p_x = log_x[0, 0][x[:, 0]].exp() * log_x[0, 1][x[:, 1]].exp()
    z, n = masked_patterns(x, process)
    u, weights = np.polynomial.legendre.leggauss(6)
    total = 0
    for time, weight in zip((u + 1) / 2, weights / 2, strict=True):
        for k, pattern in zip(n, z.unbind(1), strict=True):
            s = torch.full((len(x),), time, dtype=torch.float64)
            chance = time ** int(k) * (1 - time) ** (L - int(k)) * p_x
            teacher = law_given(process, world.probs, world.outcomes, pattern)
            auxiliary = law_given(process, p_x, x, pattern)
            for i, c in enumerate(chance):
                one = DMMDDraw(s[i : i + 1], log_x, x[i : i + 1], pattern[i : i + 1])
                value = method.generator_terms(one, teacher[i : i + 1], auxiliary[i : i + 1])["moment"]
                total += float(weight * c * value)
    assert total * L == pytest.approx(float((p_x * (p_x / world.law()).log()).sum()), rel=1e-9)


# --- the auxiliary's optimum without anchor -----------------------------------------------------------------


@pytest.mark.parametrize("settings", [idlm(4, "masked"), dimo()], ids=["idlm", "dimo"])
def test_the_auxiliary_is_best_at_the_distribution_of_the_student(settings, rng):
    """The loss of a free table of logits, which is convex, has gradient 0 at the distribution of x given z_s,
    with the smoothing of the targets."""
    process = get_process("masked", V)
    method = tables(process, settings, rng)
    start = sequences(process.num_symbols, L)
    weights = torch.rand(len(start), generator=rng, dtype=torch.float64)
    log_x = method.players["generator"](start, torch.ones(len(start), dtype=torch.float64)).detach()
    if settings.masked is None:  # a state of masks is general enough, because known tokens have no loss
        start, weights, log_x = (v[-1:] for v in (start, weights, log_x))
    x = sequences(V, L)
    a, b = (
        i.flatten() for i in torch.meshgrid(torch.arange(len(start)), torch.arange(len(x)), indexing="ij")
    )
    p = weights[a] * log_x[a, 0, x[b, 0]].exp() * log_x[a, 1, x[b, 1]].exp()
    states, _ = masked_patterns(x[b], process)
    N, P = states.shape[:2]
    a, b, p = (v.repeat_interleave(P, 0) for v in (a, b, p))
    draw = DMMDDraw(torch.full((N * P,), 0.5, dtype=torch.float64), log_x[a], x[b], states.reshape(-1, L))
    index = draw.z_s @ process.num_symbols ** torch.arange(L - 1, -1, -1)
    joint = torch.zeros(process.num_symbols**L, L, V, dtype=torch.float64)
    joint.index_add_(0, index, p[:, None, None] * one_hot(draw.x, V))
    law = joint / joint.sum(-1, keepdim=True)
    epsilon = settings.smoothing or 0
    slopes = []
    for table in ((1 - epsilon) * law + epsilon / V, law.flip(-1)):
        logits = table.nan_to_num(1 / V).clamp(min=1e-300).log().requires_grad_()
        log_auxiliary = logits.log_softmax(-1)[index]
        values = method.auxiliary_values(draw, log_auxiliary.detach(), log_auxiliary)
        assert values.keys() == {"student"}
        (p[:, None] * values["student"] * process.loss_mask(draw.z_s)).sum().backward()
        slopes.append(float((logits.grad / joint.sum(-1, keepdim=True)).nan_to_num().abs().max()))
    assert slopes[0] < 1e-10 and slopes[1] > 1e-3


# --- uniform IDLM -------------------------------------------------------------------------------------------


def duo_bound(log_loo, p, z, alpha, alpha_prime):
    """Compute the uniform bound for data p, a vector, and an observed token z, as in IDLM's source: per
    position, x_bar = V alpha v + 1 - alpha, (alpha'/(V alpha)) (V/x_bar_z - V/y_bar_z
    - sum_c (x_bar_c/x_bar_z) log[(y_bar_z/y_bar_c)(x_bar_c/x_bar_z)])."""
    x, y = (V * alpha * v + 1 - alpha for v in (p, log_loo.exp()))
    x_z, y_z = (v.gather(-1, z.unsqueeze(-1)) for v in (x, y))
    first = V / x_z - V / y_z
    second = (x / x_z * (y_z.log() - y.log() + x.log() - x_z.log())).sum(-1, keepdim=True)
    return (alpha_prime / (V * alpha) * (first - second)).squeeze(-1)


def test_uniform_idlm_is_its_formula(rng, monkeypatch):
    """Value and gradients of both losses, the latter through the point that teacher and auxiliary read."""
    process, num = get_process("uniform", V), 200
    settings = idlm(4, "uniform", tau=0.3)
    method = networks(process, settings, rng)
    student, auxiliary = method.players.values()
    x = torch.randint(V, (num, L), generator=rng)
    s, t = torch.rand(2, num, generator=rng) * 0.8 + 0.1  # the printed bound is inaccurate at the ends
    monkeypatch.setattr(method, "draw_times", lambda *_: (s, t))
    state, found = rng.get_state(), {}
    for step in range(2):
        rng.set_state(state)
        found |= method.losses(step, x, rng)
    found["generator"]["moment"].backward()
    found["auxiliary"]["student"].backward()
    gradients = [p.grad.clone() for player in (student, auxiliary) for p in player.parameters()]
    for player in (student, auxiliary):
        player.zero_grad()

    rng.set_state(state)
    p = student(process.corrupt(x, t, rng), t).exp()
    xi = torch.randn(num, L, V, generator=rng)
    alpha = (1 - s)[:, None, None]
    ratio = inverse_of_erf(alpha.double()).float()  # by bisection, for V = 3
    noisy = (ratio * p + xi) / (1 + ratio**2).sqrt()

    def bounds(p, noisy):
        point, z = (noisy / 0.3).softmax(-1), noisy.argmax(-1)
        return [
            duo_bound(to_leave_one_out(f.log_x(f.hidden(point, s), z, s), z, s, process), p, z, alpha, -1)
            for f in (method.teacher, auxiliary)
        ]

    of_teacher, of_auxiliary = bounds(p, noisy)
    generator = (of_teacher - of_auxiliary).sum(-1).mean() / L
    generator.backward()
    auxiliary.zero_grad()
    of_auxiliary = bounds(p.detach(), noisy.detach())[1].sum(-1).mean() / L
    of_auxiliary.backward()
    expected = [p.grad for player in (student, auxiliary) for p in player.parameters()]
    torch.testing.assert_close(found["generator"]["moment"], generator, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found["auxiliary"]["student"], of_auxiliary, rtol=1e-3, atol=1e-4)
    scale = max(float(g.abs().max()) for g in expected)
    for one, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-3 * scale)


def inverse_of_erf(alpha):
    """Solve (V E[Phi(u + r)^(V-1)] - 1)/(V - 1) = alpha for r by bisection on Gauss-Hermite quadrature."""
    u, w = np.polynomial.hermite_e.hermegauss(60)
    u, w = torch.from_numpy(u), torch.from_numpy(w / w.sum())
    low, high = torch.zeros_like(alpha), torch.full_like(alpha, 12.0)
    for _ in range(60):
        middle = (low + high) / 2
        hit = (torch.special.ndtr(u + middle.unsqueeze(-1)) ** (V - 1)) @ w
        below = (V * hit - 1) / (V - 1) < alpha
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return low


class Fixed(Denoiser):
    """A denoiser that is certain of one sequence."""

    def __init__(self, x):
        super().__init__()
        self.certain = torch.where(one_hot(x, V).bool(), 0.0, LOG_ZERO)

    def forward(self, z, t, noise=None):
        return self.certain.expand(len(z), -1, -1)


def test_uniform_idlm_of_a_certain_student_is_its_surprise(rng):
    """If the student and the auxiliary are certain of one x, the mean of L_gen is -log p(x) per token: a
    point of the simplex at small tau is a token of uniform noise, and the bound is tight."""
    process, world, num = get_process("uniform", V), random_world(rng), 40_000
    x = world.outcomes[int(torch.randint(V**L, (), generator=rng))]
    certain = Fixed(x)
    teacher = ExactDenoiser(world, process, floor=0)
    method = DMMD(certain, certain, teacher, process, idlm(4, "uniform"))
    s = (torch.rand(num, generator=rng) * 0.998 + 0.001).double()  # the ends add less than the tolerance
    method.draw_times = lambda n, *_: (s, s)
    with torch.enable_grad():
        kept = {}
        method.generator_terms = lambda draw, *logs: (
            kept.update(v=method.generator_values(draw, *logs)) or {"moment": kept["v"]["moment"].mean()}
        )
        method.losses(0, x.expand(num, L), rng)
    values = kept["v"]["moment"].detach().sum(-1)
    expected = -math.log(world.law()[int(x @ V ** torch.arange(L - 1, -1, -1))])
    assert abs(float(values.mean()) - expected) < 5 * float(values.std()) / num**0.5 + 0.01 * expected


class OfArgmax(Table):
    """A table that reads a point of the simplex by its largest class."""

    def forward(self, z, t, noise=None):
        return super().forward(z.argmax(-1) if z.is_floating_point() else z, t)


class Certain(Table):
    """A table that is certain of one token at every position, a different one for every z."""

    def forward(self, z, t, noise=None):
        return torch.where(one_hot(super().forward(z, t).argmax(-1), V).bool(), 0.0, LOG_ZERO)


def test_uniform_idlm_is_its_mean_over_all_states(rng):
    """At one s and t, from one x, the mean is taken over z_t, the student's tokens given z_t, and z_s."""
    process, (s, t) = get_process("uniform", V), torch.tensor([0.4, 0.7])
    student, others = Certain(process, L, rng), [OfArgmax(process, L, rng) for _ in range(2)]
    method = DMMD(student, *others, process, idlm(4, "uniform"))
    method.draw_times = lambda n, *_: (s.expand(n), t.expand(n))
    data, states = torch.randint(V, (1, L), generator=rng), sequences(V, L)
    keep, expected = 1 - torch.stack([s, t]).double(), {"moment": 0.0, "student": 0.0}

    def chance(z, x, alpha):
        return (alpha * (z == x) + (1 - alpha) / V).prod(-1)

    hard = student(states, t.expand(len(states))).exp().argmax(-1)  # of every z_t
    for z_t_chance, x in zip(chance(states, data, keep[1]), hard, strict=True):
        bounds = [
            duo_bound(
                to_leave_one_out(f(states, s.expand(len(states))), states, s.expand(len(states)), process),
                one_hot(x, V).expand(len(states), -1, -1),
                states,
                keep[0],
                -1,
            ).sum(-1)
            for f in (method.teacher, method.players["auxiliary"])
        ]
        weight = z_t_chance * chance(states, x, keep[0]) / L
        expected["moment"] += float((weight * (bounds[0] - bounds[1])).sum())
        expected["student"] += float((weight * bounds[1]).sum())
    found = {"moment": [], "student": []}
    for step in range(100):
        for terms in method.losses(step, data.expand(2000, L), rng).values():
            for name, value in terms.items():
                found[name].append(float(value.detach()))
    for name, values in found.items():
        values = np.array(values)
        assert abs(values.mean() - expected[name]) < 5 * values.std(ddof=1) / len(values) ** 0.5 + 1e-4


# --- Di[M]O -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.0, 1.0, -0.2])
def test_dimo_gradient(beta, rng):
    """The gradient in the generator's logits is that of
    (1 - beta) KL(theta || softmax l) + beta KL(softmax l || theta) at softmax l = phi, at masked positions
    and nowhere else; the loss is half its square."""
    process = get_process("masked", V)
    method = tables(process, dimo(beta=beta), rng)
    draw, log_teacher, log_auxiliary = random_draw(method, rng)
    at = (log_auxiliary + torch.randn(len(draw.s), L, 1, generator=rng, dtype=torch.float64)).requires_grad_()
    log_p, theta = at.log_softmax(-1), log_teacher.exp()
    forward, reverse = (theta * (log_teacher - log_p)).sum(), (log_p.exp() * (log_p - log_teacher)).sum()
    (expected,) = torch.autograd.grad((1 - beta) * forward + beta * reverse, at)
    expected = expected * process.loss_mask(draw.z_s).unsqueeze(-1) / len(draw.s) / L
    logits = torch.randn(draw.log_x.shape, generator=rng, dtype=torch.float64).requires_grad_()
    live = DMMDDraw(draw.s, logits.log_softmax(-1), draw.x, draw.z_s)
    loss = method.generator_terms(live, log_teacher, log_auxiliary)["logits"]
    loss.backward()
    torch.testing.assert_close(logits.grad, expected, rtol=0, atol=1e-12)
    assert expected.abs().max() > 1e-4
    assert float(loss.detach()) == pytest.approx(0.5 * len(draw.s) * L * float(expected.square().sum()))


def test_dimo_losses_are_their_means_over_all_states(rng):
    """At one s, the mean is taken over starts, x given the start, and choices of positions to mask."""
    process, s = get_process("masked", V), torch.tensor(0.5)  # n = 1 of the two positions
    method = tables(process, dimo(beta=-0.2), rng)
    method.draw_times = lambda n, *_: (s.expand(n), torch.ones(n))
    starts, x = sequences(V + 1, L), sequences(V, L)
    share = torch.where(starts == V, method.settings.masked, (1 - method.settings.masked) / V).prod(-1)
    log_x = method.players["generator"](starts, torch.ones(len(starts))).double()
    expected = {"logits": 0.0, "student": 0.0}
    for place in range(L):
        z = x.clone()
        z[:, place] = process.mask
        theta, phi = (f(z, s.expand(len(z)))[:, place] for f in (method.teacher, method.players["auxiliary"]))
        reverse = phi.exp() * (phi - theta)
        reverse = reverse - phi.exp() * reverse.sum(-1, keepdim=True)
        g = 1.2 * (phi.exp() - theta.exp()) - 0.2 * reverse
        nats = -(0.9 * phi.gather(-1, x[:, [place]])[:, 0] + 0.1 * phi.mean(-1))
        chance = (share[:, None] * log_x[:, 0][:, x[:, 0]].exp() * log_x[:, 1][:, x[:, 1]].exp()).sum(0) / L
        expected["logits"] += float((chance * g.square().sum(-1)).sum()) / 2 / L
        expected["student"] += float((chance * nats).sum()) / L
    found = {"logits": [], "student": []}
    for step in range(100):
        for terms in method.losses(step, torch.zeros(1000, L, dtype=torch.long), rng).values():
            for name, value in terms.items():
                found[name].append(float(value.detach()))
    for name, values in found.items():
        values = np.array(values)
        assert len(values) == 50
        assert abs(values.mean() - expected[name]) < 5 * values.std(ddof=1) / len(values) ** 0.5


def test_reverse_divergence_of_dimo_is_dmmd_at_the_auxiliary(rng):
    """With beta 1 the gradient is equation 11's where the student's probabilities are the auxiliary's."""
    process = get_process("masked", V)
    ours, theirs = (tables(process, settings, rng) for settings in (DMMDSettings(1), dimo(beta=1.0)))
    draw, log_teacher, log_auxiliary = random_draw(ours, rng)
    gradients = []
    for method in (ours, theirs):
        logits = log_auxiliary.clone().requires_grad_()
        live = DMMDDraw(draw.s, logits.log_softmax(-1), draw.x, draw.z_s)
        sum(method.generator_terms(live, log_teacher, log_auxiliary).values()).backward()
        gradients.append(logits.grad)
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-14)
    assert gradients[0].abs().max() > 1e-4


def test_dimo_auxiliary_loss_is_smoothed_cross_entropy(rng):
    process = get_process("masked", V)
    method = tables(process, dimo(), rng)
    draw, log_teacher, log_auxiliary = random_draw(method, rng)
    nats = torch.nn.functional.cross_entropy(
        log_auxiliary.mT, draw.x, label_smoothing=0.1, reduction="none"
    )  # log-probabilities are logits too
    expected = (nats * process.loss_mask(draw.z_s)).sum(-1).mean() / L
    found = method.auxiliary_terms(draw, log_teacher, log_auxiliary)
    assert found.keys() == {"student"}
    torch.testing.assert_close(found["student"], expected)


def test_dimo_masks_exact_counts(rng):
    process, length, num = get_process("masked", V), 7, 5000
    settings = dimo()
    generator = NetworkDenoiser(tiny_network(process, length, rng), RandomStart(process, settings.masked))
    method = DMMD(generator, Denoiser(), Denoiser(), process, settings)
    with torch.no_grad():
        draw = method.draw(torch.zeros(num, length, dtype=torch.long), rng)
    masked = draw.z_s == process.mask
    assert torch.equal(masked.sum(-1), (length * draw.s).round().clamp(min=1).long())
    assert torch.equal(draw.z_s[~masked], draw.x[~masked])
    ratio = draw.s.double().numpy()
    assert kstest(ratio, lambda r: 1 - np.cos(np.pi / 2 * np.clip(r, 0, 1))).pvalue > LEAST_P
    alone = masked[masked.sum(-1) == 3]
    places = alone.double().sum(0).long()  # every position is masked equally often
    assert chi_square_p(places[None], torch.full((1, length), 1 / length)) > LEAST_P


def test_dimo_starts_from_masks_and_random_tokens(rng):
    process, num = get_process("masked", V), 20_000
    seen = []

    class Spy(Table):
        def forward(self, z, t, noise=None):
            assert (t == 1).all()
            seen.append(z)
            return super().forward(z, t, noise)

    method = DMMD(Spy(RandomStart(process, 0.6), L, rng), Denoiser(), Denoiser(), process, dimo())
    method.draw(torch.zeros(num, L, dtype=torch.long), rng)
    law = torch.tensor([0.4 / V] * V + [0.6], dtype=torch.float64)
    assert chi_square_p(frequencies(seen[0], V + 1)[None], (law[:, None] * law).flatten()[None]) > LEAST_P
    assert chi_square_p(count(seen[0].T, V + 1), law[None]) > LEAST_P


@every_process
def test_impossible_settings_are_refused(process_name):
    process = get_process(process_name, V)
    wrong = [
        ({"beta": math.nan}, "beta: nan is not allowed"),
        ({"beta": 0.0, "form": "reverse_kernel"}, "beta: 0.0 is not allowed"),
        ({"masked": 0.5}, "masked: 0.5 is not allowed"),
        ({"masked": 1.5, "times": "start", "reverse": "forward"}, "masked: 1.5 is not allowed"),
        ({"smoothing": 2.0}, "smoothing: 2.0 is not allowed"),
        ({"smoothing": 0.1, "target": "soft"}, "smoothing: 0.1 is not allowed"),
        ({"tau": 0.1}, "tau: 0.1 is not allowed"),
        (
            {"tau": 0.1, "form": "reverse_kernel", "reverse": "forward"},
            "tau: 0.1 is not allowed; it needs form reverse_kernel, target soft",
        ),
        (
            {"smoothing": 0.1, "form": "reverse_kernel"},
            "smoothing: 0.1 is not allowed; it needs form cross_entropy",
        ),
        (
            {"tau": 0.0, "form": "reverse_kernel", "target": "soft", "anchor": False},
            "tau: 0.0 is not allowed",
        ),
    ]
    for settings, words in wrong:
        with pytest.raises(ValueError, match=words):
            DMMDSettings(1, **settings)
    with pytest.raises(
        ValueError, match="process: 'gaussian' is not allowed for IDLM; choose 'masked' or 'uniform'"
    ):
        idlm(1, "gaussian")
    with pytest.raises(ValueError, match="tau: 0.001 is not allowed with blocks"):
        DMMD(*[Denoiser()] * 3, BlockAutoregressive(get_process("uniform", V), 2), idlm(1, "uniform"))
    words = {"masked": "form: 'reverse_kernel' is not", "uniform": "reverse: 'count' is not allowed"}
    with pytest.raises(ValueError, match=words[process_name]):
        DMMD(*[Denoiser()] * 3, process, dimo() if process_name == "uniform" else idlm(1, "uniform"))
    if process_name == "uniform":
        settings = DMMDSettings(1, times="start", reverse="forward", masked=0.5)
        with pytest.raises(ValueError, match="masked: 0.5 is not allowed for uniform noise"):
            DMMD(*[Denoiser()] * 3, process, settings)
