"""Objectives against exact answers: every draw of a small world is enumerated, and sums replace samples where
possible. Gradients, optima, schedules of the players, weights, the continuous-time bound."""

import math

import numpy as np
import pytest
import torch
from helpers import (
    LEAST_P,
    Table,
    chi_square_p,
    every_process,
    frequencies,
    make_process,
    sequences,
    tiny_network,
    transition,
)
from scipy.stats import binomtest, kstest, ttest_ind
from torch.nn.functional import one_hot

from dmmd_lite.denoisers.base import Denoiser, NetworkDenoiser, to_leave_one_out, to_posterior
from dmmd_lite.denoisers.exact import ExactDenoiser, log_posterior
from dmmd_lite.objectives import dmmd
from dmmd_lite.objectives import terms as teacher
from dmmd_lite.objectives.denoising import DenoisingObjective
from dmmd_lite.objectives.dmmd import DMMD, DMMDDraw, DMMDSettings
from dmmd_lite.objectives.likelihood_bound import likelihood_bound
from dmmd_lite.objectives.terms import cross_entropy, stratified_times
from dmmd_lite.processes import get_process
from dmmd_lite.processes.base import LOG_ZERO
from dmmd_lite.processes.uniform import rate_ratio
from dmmd_lite.worlds import get_world
from dmmd_lite.worlds.enumerable import EnumerableWorld

V, L = 3, 2
REVERSE_KERNEL = {"form": "reverse_kernel", "weight": "bound"}
every_weight = pytest.mark.parametrize("weight", ["one", "mean", "bound"])


def random_world(rng):
    """Return a world of two tokens of three classes in which every pair is possible."""
    probs = torch.rand(V**L, generator=rng, dtype=torch.float64) + 0.1
    return EnumerableWorld("toy", V, sequences(V, L), (probs / probs.sum()).tolist(), "abc")


def distil(process, rng, steps=1, **settings):
    """Return D-MMD among random tables: student, auxiliary and teacher are unrelated."""
    return DMMD(
        *(Table(process, L, rng).double() for _ in range(3)), process, DMMDSettings(steps, **settings)
    )


def every_draw(method, world, s, t):
    """Return all draws of Algorithm 1 at times s < t, with their probabilities [N]."""
    process, student = method.process, method.players["generator"]
    z, x = sequences(process.num_symbols, L), sequences(V, L)
    a, b, c = (
        i.flatten() for i in torch.meshgrid(*map(torch.arange, (len(z), len(x), len(z))), indexing="ij")
    )
    p_zt = world.probs @ transition(process, process.alpha(t))[world.outcomes.unsqueeze(1), z].prod(-1)
    log_x = student(z, t.expand(len(z)))
    p_x = log_x[:, None].expand(-1, len(x), -1, -1).gather(-1, x.expand(len(z), -1, -1)[..., None])
    p_x = p_x.squeeze(-1).sum(-1).exp()
    p_zs = process.posterior(z[a], x[b], s.expand(len(a)), t.expand(len(a)))
    p = p_zt[a] * p_x[a, b] * p_zs.gather(-1, z[c].unsqueeze(-1)).squeeze(-1).prod(-1)
    a, b, c, p = (i[p > 0] for i in (a, b, c, p))
    return p, DMMDDraw(s.expand(len(a)), log_x[a], x[b], z[c])


def student_law(p, draw, process):
    """Enumerate g, the distribution of x given z_s, at the z_s of the draws, [N, L, V]."""
    index = draw.z_s @ process.num_symbols ** torch.arange(L - 1, -1, -1)
    joint = torch.zeros(process.num_symbols**L, L, V, dtype=p.dtype)
    joint.index_add_(0, index, p[:, None, None] * one_hot(draw.x, V))
    return (joint / joint.sum(-1, keepdim=True))[index]


def per_draw(terms, draw, log_teacher, log_auxiliary):
    """Sum a method's loss terms for every draw alone, [N]."""

    def alone(s, log_x, x, z_s, *others):
        one = DMMDDraw(s[None], log_x[None], x[None], z_s[None])
        return sum(terms(one, *(log_p[None] for log_p in others)).values())

    return torch.func.vmap(alone)(draw.s, draw.log_x, draw.x, draw.z_s, log_teacher, log_auxiliary)


def setting(process_name, rng, **settings):
    """Return a method with all its draws on a random world, and the teacher's log-probabilities at z_s."""
    process, (s, t) = make_process(process_name, V)
    method = distil(process, rng, **settings)
    p, draw = every_draw(method, random_world(rng), s, t)
    return method, p, draw, method.teacher(draw.z_s, draw.s)


@every_process
def test_the_enumeration_is_what_the_method_draws(process_name, rng, monkeypatch):
    process, (s, t) = make_process(process_name, V)
    method, world = distil(process, rng), random_world(rng)
    p, draw = every_draw(method, world, s, t)
    assert p.sum() == pytest.approx(1)
    monkeypatch.setattr(method, "draw_times", lambda n, *_: (s.expand(n), t.expand(n)))
    drawn = method.draw(world.sample(50_000, rng), rng)
    symbols, length = process.num_symbols, 2 * L
    counts = frequencies(torch.cat([drawn.x, drawn.z_s], 1), symbols)
    pairs = torch.cat([draw.x, draw.z_s], 1) @ symbols ** torch.arange(length - 1, -1, -1)
    law = torch.zeros(symbols**length, dtype=torch.float64).index_add(0, pairs, p.detach())
    assert chi_square_p(counts[None], law[None]) > LEAST_P


AUXILIARIES = [
    ("masked", {}),
    ("masked", {"target": "soft"}),
    ("masked", {"weight": "mean"}),
    ("masked", {"anchor": False}),
    ("uniform", {}),
    ("uniform", {"anchor": False}),
    ("uniform", {**REVERSE_KERNEL, "anchor": False}),
]


@pytest.mark.parametrize("process_name, settings", AUXILIARIES)
def test_auxiliary_is_fitted_to_the_mean_of_student_and_teacher(process_name, settings, rng):
    """With student and teacher frozen, a free table of logits ends at (g + theta)/2, at g without anchor."""
    method, p, draw, log_teacher = setting(process_name, rng, **settings)
    logits = torch.zeros(method.process.num_symbols**L, L, V, dtype=torch.float64, requires_grad=True)
    index = draw.z_s @ method.process.num_symbols ** torch.arange(L - 1, -1, -1)
    optimizer = torch.optim.LBFGS(
        [logits], max_iter=500, tolerance_grad=1e-9, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def loss():
        optimizer.zero_grad()
        log_auxiliary = logits.log_softmax(-1)[index]
        value = p @ per_draw(method.auxiliary_terms, draw, log_teacher, log_auxiliary)
        value.backward()
        return value

    optimizer.step(loss)
    expected = student_law(p, draw, method.process)
    if method.settings.anchor:
        expected = (expected + log_teacher.exp()) / 2
    scored = method.process.loss_mask(draw.z_s)
    fitted = logits.detach().softmax(-1)[index]
    torch.testing.assert_close(fitted[scored], expected[scored], rtol=0, atol=1e-5)


def test_auxiliary_of_the_reverse_kernel_is_the_mean_of_the_jump_rates(rng):
    """Appendix D: the optimum pi(phi) = (E[pi(x)] + pi(theta)) / 2 in the limit ds -> 0."""
    method, p, draw, log_teacher = setting("uniform", rng, **REVERSE_KERNEL)
    process = method.process
    alpha, q = process.alpha(draw.s).unsqueeze(-1), process.likelihood(draw.z_s, draw.s)
    laws = [student_law(p, draw, process).log(), log_teacher]
    rates = [
        rate_ratio(to_leave_one_out(law, draw.z_s, draw.s, process).exp(), draw.z_s, alpha) for law in laws
    ]
    mean = sum(rates) / sum(rates).sum(-1, keepdim=True)  # alpha v + (1 - alpha) / V for the wanted v
    log_v = ((mean - (1 - alpha) / V) / alpha).log()
    log_auxiliary = to_posterior(log_v, draw.z_s, draw.s, process).requires_grad_()
    (p @ per_draw(method.auxiliary_terms, draw, log_teacher, log_auxiliary.log_softmax(-1))).backward()
    index = draw.z_s @ V ** torch.arange(L - 1, -1, -1)
    slope = torch.zeros(V**L, L, V, dtype=torch.float64).index_add(0, index, log_auxiliary.grad)
    assert q.min() > 0 and slope.abs().max() < 1e-12 < 1e-3 * log_auxiliary.grad.abs().max()


@every_weight
@every_process
def test_generator_gradient_formula(process_name, weight, rng):
    """dL/dlogit_c = p_c (d_c - sum_j p_j d_j), times the weight, at scored positions and nowhere else."""
    method, _, draw, log_teacher = setting(process_name, rng, weight=weight)
    process = method.process
    logits = draw.log_x.detach().clone().requires_grad_()
    log_auxiliary = method.players["auxiliary"](draw.z_s, draw.s)
    live = DMMDDraw(draw.s, logits.log_softmax(-1), draw.x, draw.z_s)
    method.generator_terms(live, log_teacher, log_auxiliary)["moment"].backward()
    p, d = logits.detach().exp(), log_auxiliary - log_teacher
    scored = process.loss_mask(draw.z_s)
    w = {
        "one": torch.ones(len(p)) / L,
        "mean": 1 / scored.sum(-1).clamp(min=1),
        "bound": process.loss_weight(draw.s) / L,
    }[weight]
    expected = p * (d - (p * d).sum(-1, keepdim=True)) * (w[:, None] * scored).unsqueeze(-1) / len(p)
    torch.testing.assert_close(logits.grad, expected, rtol=0, atol=1e-12)


FORMS = [
    ("masked", {}),
    ("uniform", {}),
    ("uniform", REVERSE_KERNEL),
    ("uniform", {"form": "reverse_kernel"}),
]


@every_weight
@pytest.mark.parametrize("process_name, form", FORMS)
def test_no_generator_gradient_where_teacher_and_auxiliary_agree(process_name, form, weight, rng):
    process = get_process(process_name, V)
    student, same = (NetworkDenoiser(tiny_network(process, L, rng), process) for _ in range(2))
    method = DMMD(
        student, same, same, process, DMMDSettings(2, **{**form, "weight": weight, "updates": "fused"})
    )
    x = torch.randint(V, (64, L), generator=rng)
    terms = method.losses(0, x, rng)
    terms["generator"]["moment"].backward()
    grads = [p.grad for p in student.parameters()]
    assert all(g is not None and not g.any() for g in grads)
    assert terms["auxiliary"]["student"] > 0


@pytest.mark.parametrize("terms", ["generator_terms", "auxiliary_terms"])
def test_reverse_kernel_is_the_limit_of_short_steps(terms, rng):
    """Appendix D with pi_{s-ds}(v) from equation 4, divided by ds."""
    method, _, draw, log_teacher = setting("uniform", rng, form="reverse_kernel")
    process, ds = method.process, 1e-6
    log_auxiliary = method.players["auxiliary"](draw.z_s, draw.s)

    def kernel(v):
        return process.posterior_given_probs(draw.z_s, v, draw.s - ds, draw.s)

    def divergence(first, second):
        return (first * (first / second).log()).sum((-1, -2))

    pi_teacher, pi_auxiliary = (
        kernel(to_leave_one_out(log_p, draw.z_s, draw.s, process).exp())
        for log_p in (log_teacher, log_auxiliary)
    )
    if terms == "generator_terms":
        pi_student = kernel(draw.log_x.exp())
        finite = (pi_student * (pi_auxiliary / pi_teacher).log()).sum((-1, -2))
    else:
        pi_student = kernel(one_hot(draw.x, V).double())
        finite = divergence(pi_student, pi_auxiliary) + divergence(pi_teacher, pi_auxiliary)
    limit = per_draw(getattr(method, terms), draw, log_teacher, log_auxiliary)
    torch.testing.assert_close(limit, finite / ds / L, rtol=1e-4, atol=1e-5)


@every_weight
def test_only_masked_positions_of_z_s_count(weight, rng):
    method, _, draw, log_teacher = setting("masked", rng, weight=weight)
    log_auxiliary = method.players["auxiliary"](draw.z_s, draw.s)
    revealed = ~method.process.loss_mask(draw.z_s)
    impossible = one_hot(torch.randint(V, draw.z_s.shape, generator=rng), V) == 0
    spoilt = [
        torch.where(revealed.unsqueeze(-1) & impossible, LOG_ZERO, log_p).requires_grad_()
        for log_p in (draw.log_x.detach(), log_teacher, log_auxiliary)
    ]
    plain, changed = (
        [
            *method.generator_terms(DMMDDraw(draw.s, log_x, draw.x, draw.z_s), log_t, log_a).values(),
            *method.auxiliary_terms(draw, log_t, log_a).values(),
        ]
        for log_x, log_t, log_a in ((draw.log_x, log_teacher, log_auxiliary), spoilt)
    )
    torch.testing.assert_close(changed, plain, rtol=0, atol=0)
    for gradient in torch.autograd.grad(sum(changed), spoilt):
        assert gradient.isfinite().all() and not gradient[revealed].any()


def test_mean_and_bound_are_one_weight_for_linear_masked_noise(rng):
    """If z_s does not depend on s given its masked positions, both weights give a set of n of the L positions
    the same total over s ~ U(0, 1), up to the constant L / (L + 1)."""
    process, length = get_process("masked", V), 4
    masked = sequences(2, length).bool()
    u, w = np.polynomial.legendre.leggauss(8)  # exact for polynomials in s of degree 15
    s, w = torch.from_numpy((u + 1) / 2), torch.from_numpy(w / 2)
    n = masked.sum(-1)
    chance = w[:, None] * s[:, None] ** n * (1 - s[:, None]) ** (length - n)  # [times, patterns]
    per_position = torch.rand(len(masked), length, generator=rng, dtype=torch.float64)
    z_s = torch.where(masked, process.mask, 0)
    totals = {}
    for weight in ("mean", "bound"):
        method = DMMD(*[Denoiser()] * 3, process, DMMDSettings(1, weight=weight))
        totals[weight] = sum(
            c * method.reduce(loss[None], DMMDDraw(time[None], None, None, z[None]))
            for time, row in zip(s, chance, strict=True)
            for c, loss, z in zip(row, per_position, z_s, strict=True)
        )
    assert float(totals["mean"]) == pytest.approx(float(totals["bound"]) * length / (length + 1), rel=1e-12)


@every_process
@pytest.mark.parametrize("updates", ["alternating", "fused"])
@pytest.mark.parametrize("auxiliary_updates", [1, 3])
def test_each_turn_reaches_its_player_only(process_name, updates, auxiliary_updates, rng):
    process = get_process(process_name, V)
    student, auxiliary, master = (NetworkDenoiser(tiny_network(process, L, rng), process) for _ in range(3))
    method = DMMD(
        student,
        auxiliary,
        master,
        process,
        DMMDSettings(2, updates=updates, auxiliary_updates=auxiliary_updates),
    )
    x = torch.randint(V, (32, L), generator=rng)
    turns = []
    for step in range(8):
        terms = method.losses(step, x, rng)
        turns.append(sorted(terms))
        for name, player in method.players.items():
            if name in terms:
                sum(terms[name].values()).backward()
                reached = {
                    n for n, p in method.players.items() if any(q.grad is not None for q in p.parameters())
                }
                assert reached == {name}
                assert all(p.grad.isfinite().all() for p in player.parameters())
                player.zero_grad()
    assert all(p.grad is None for p in master.parameters())
    both, generator, other = ["auxiliary", "generator"], ["generator"], ["auxiliary"]
    if updates == "fused":
        assert turns == ([both] * 8 if auxiliary_updates == 1 else [both, other, other] * 2 + [both, other])
    else:
        assert turns == ([generator, *[other] * auxiliary_updates] * 4)[:8]


@pytest.mark.parametrize("steps", [1, 4, 16])
def test_bridge_times(steps, rng):
    """s is uniform, the gap at most 1/k, and t = 1 has probability 1/(2k)."""
    n = 50_000
    s, t = distil(get_process("masked", V), rng, steps=steps).draw_times(n, rng, "cpu")
    assert (s <= t).all() and (t <= 1).all() and (t - s).max() < 1 / steps + 1e-6
    assert binomtest(int((t == 1).sum()), n, 1 / (2 * steps)).pvalue > LEAST_P
    assert kstest(s.numpy(), "uniform").pvalue > LEAST_P


def test_other_times(rng):
    process = get_process("masked", V)
    s, t = distil(process, rng, times="start").draw_times(5000, rng, "cpu")
    assert (t == 1).all() and kstest(s.numpy(), "uniform").pvalue > LEAST_P
    s, t = distil(process, rng, times="independent", reverse="forward").draw_times(5000, rng, "cpu")
    assert 0.4 < (s < t).float().mean() < 0.6


def test_forward_re_noising_forgets_z_t(rng, monkeypatch):
    process, (s, t) = make_process("masked", V)
    method = distil(process, rng, reverse="forward")
    monkeypatch.setattr(method, "draw_times", lambda n, *_: (s.expand(n), t.expand(n)))
    drawn = method.draw(torch.zeros(20_000, L, dtype=torch.long), rng)
    kept = drawn.z_s == drawn.x
    assert (kept | (drawn.z_s == process.mask)).all()
    assert binomtest(int(kept.sum()), kept.numel(), float(process.schedule.alpha(s))).pvalue > LEAST_P


def test_the_teacher_is_sharpened_with_a_finite_delta(rng):
    process = get_process("masked", V)
    method = distil(process, rng, temperature=0.5, top_p=0.5)
    z, t = torch.full((1, L), process.mask), torch.ones(1)
    log_p = (2 * method.teacher.denoiser(z, t)).log_softmax(-1)
    ratio = (method.teacher(z, t) - log_p).flatten(0, 1)
    assert ((ratio.amax(-1) - ratio.amin(-1)) < 2 + 1e-6).all() and ratio.amax() > 0


@pytest.mark.parametrize(
    "process_name, settings, words",
    [
        ("uniform", {"target": "soft"}, "target: 'soft' is not allowed for uniform noise"),
        ("masked", {"form": "reverse_kernel"}, "form: 'reverse_kernel' is not allowed for masked noise"),
        (
            "masked",
            {"times": "independent"},
            "reverse: 'posterior' is not allowed; it needs times with s <= t",
        ),
        ("masked", {"weight": "two"}, "weight: 'two' is not allowed; choose one of"),
        ("masked", {"steps": 0}, "steps: 0 is not allowed"),
        ("masked", {"auxiliary_updates": 0}, "auxiliary_updates: 0 is not allowed"),
        ("masked", {"temperature": -1.0}, "temperature: -1.0 is not allowed"),
        ("masked", {"temperature": 0.0}, "temperature: 0.0 is not allowed; it must be a finite number, ab"),
        ("masked", {"top_p": math.nan}, "top_p: nan is not allowed"),
    ],
)
def test_impossible_settings_are_refused(process_name, settings, words, rng):
    with pytest.raises(ValueError, match=words):
        distil(get_process(process_name, V), rng, **settings)


# --- teachers ---------------------------------------------------------------------------------------------


@every_process
def test_cross_entropy_is_minimal_at_the_exact_posterior(process_name, rng):
    world, (process, (_, t)) = random_world(rng), make_process(process_name, V)
    z = sequences(process.num_symbols, L)
    p = world.probs[:, None] * transition(process, process.alpha(t))[world.outcomes.unsqueeze(1), z].prod(-1)
    exact = log_posterior(world, z, t.expand(len(z)), process, floor=0).clamp(min=LOG_ZERO)
    logits = exact.clone().requires_grad_()
    log_x = logits.log_softmax(-1)
    for x, p_z in zip(world.outcomes, p, strict=True):
        nats = cross_entropy(x.expand(len(z), L), log_x) * process.loss_mask(z)
        (p_z @ nats.sum(-1)).backward(retain_graph=True)
    assert logits.grad.abs().max() < 1e-12


@every_process
def test_exact_targets_change_no_expectation(process_name, rng):
    process, world = get_process(process_name, 2), get_world("coins")
    student = Table(process, 2, rng)
    values = []
    for exact in (None, ExactDenoiser(world, process)):
        method = DenoisingObjective(student, process, exact=exact)
        losses = [
            method.losses(0, world.sample(200, rng), rng)["denoiser"]["cross_entropy"] for _ in range(50)
        ]
        values.append(torch.stack(losses).numpy())
    assert ttest_ind(*values).pvalue > LEAST_P


@every_process
def test_bound_of_the_exact_denoiser_is_the_entropy(process_name, rng):
    process, world = get_process(process_name, 2), get_world("coins")
    exact, x = ExactDenoiser(world, process), world.sample(4000, rng)
    nats = likelihood_bound(exact, process, x, rng)
    assert nats.shape == (4000,)
    assert abs(nats.mean() - world.entropy()) < 5 * nats.std() / len(nats) ** 0.5
    per_token = DenoisingObjective(exact, process, "bound").losses(0, x, rng)["denoiser"]["bound"]
    assert per_token * 2 == pytest.approx(world.entropy(), rel=0.2)


def test_times_are_stratified(rng):
    t = stratified_times(1000, rng)
    assert torch.equal((t * 1000).ceil().long(), torch.arange(1, 1001))


@pytest.mark.parametrize("u", [0.0, 1 - 2**-53])
def test_losses_are_finite_at_the_ends_of_time(u, rng, monkeypatch):
    """At these times single-precision alpha would round to 0 or 1."""
    for module in (dmmd, teacher):
        monkeypatch.setattr(module, "uniform", lambda shape, _: torch.full(shape, u, dtype=torch.float64))
    process, world = get_process("uniform", 2), get_world("coins")
    denoisers = [Table(process, 2, rng) for _ in range(3)]
    method = DMMD(*denoisers, process, DMMDSettings(1, **REVERSE_KERNEL, updates="fused"))
    x = world.sample(1, rng)
    terms = method.losses(0, x, rng)
    assert all(value.isfinite() for player in terms.values() for value in player.values())
    assert likelihood_bound(denoisers[0], process, x, rng, times=1).isfinite().all()


def test_unknown_loss_is_refused():
    with pytest.raises(ValueError, match="loss: 'mse' is not allowed; choose one of"):
        DenoisingObjective(Denoiser(), get_process("masked", V), "mse")
