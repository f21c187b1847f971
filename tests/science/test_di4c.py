"""Di4C against enumeration: its formulas, its expected loss, its optima, its control variate, its lambdas."""

import itertools
import math

import pytest
import torch
from helpers import LEAST_P, Counting, Table, chi_square_p, every_process, sequences, tiny_network, wake
from scipy.stats import binomtest, kstest, ttest_1samp
from torch import nn

from dmmd_lite.denoisers.base import Denoiser, NetworkDenoiser
from dmmd_lite.denoisers.exact import ExactDenoiser, log_posterior
from dmmd_lite.denoisers.hybrid import Hybrid
from dmmd_lite.metrics.exact_laws import total_variation
from dmmd_lite.models.loading import load_model, method_of
from dmmd_lite.models.task import task_of
from dmmd_lite.networks.transformer import CONTINUOUS, Transformer
from dmmd_lite.objectives.di4c import Di4C, Di4CDraw, Di4CSettings
from dmmd_lite.processes import get_process
from dmmd_lite.processes.base import LOG_ZERO
from dmmd_lite.recipes.catalogue import get_recipe
from dmmd_lite.sampling import sample
from dmmd_lite.studies.theory.limits import best_mixture
from dmmd_lite.utils.rng import integers
from dmmd_lite.worlds import get_world
from dmmd_lite.worlds.enumerable import EnumerableWorld

V = L = 2
TINY = {"width": 16, "depth": 1, "heads": 2, "time_width": 8}
every_variate = pytest.mark.parametrize("control_variate", [True, False])


class Mixture(Denoiser):
    """A mixture with a categorical lambda, which chooses one of several denoisers."""

    def __init__(self, *components):
        super().__init__()
        self.components = nn.ModuleList(components)

    def draw_noise(self, batch, generator):
        return integers(len(self.components), (batch,), generator)

    def forward(self, z, t, noise=None):
        return torch.stack([component(z, t) for component in self.components])[noise, torch.arange(len(z))]


class Constant(Denoiser):
    """A denoiser that is certain of one class for every z and t."""

    def __init__(self, process, certain):
        super().__init__()
        self.process, self.certain = process, certain

    def forward(self, z, t, noise=None):
        log_x = torch.full((*z.shape, V), LOG_ZERO)
        log_x[..., self.certain] = 0
        return self.process.carry_over(log_x, z)


class Free(Denoiser):
    """A denoiser with free logits for every z, the same at all times."""

    def __init__(self, process, rng):
        super().__init__()
        self.process = process
        self.logits = nn.Parameter(torch.randn(process.num_symbols**L, L, V, generator=rng))

    def forward(self, z, t, noise=None):
        log_x = self.logits[number(z, self.process)].log_softmax(-1)
        return self.process.carry_over(log_x, z)


def number(z, process):
    """Return the index of z [B, L] among all states."""
    return z @ process.num_symbols ** torch.arange(L - 1, -1, -1)


def tables(process, components, rng):
    return Mixture(*(Table(process, L, rng) for _ in range(components)))


def di4c(process, rng, student=None, teacher=None, components=2, **settings):
    student = student or tables(process, components, rng)
    return Di4C(student, teacher or Table(process, L, rng), process, Di4CSettings(1, **settings))


def times(n, *values):
    return (torch.full((n,), value, dtype=torch.float64) for value in values)


def total(terms):
    return sum(terms.values())


@every_variate
@every_process
def test_terms_are_the_formulas_of_the_paper(process_name, control_variate, rng):
    process, world = get_process(process_name, V), get_world("coins")
    method = di4c(
        process, rng, components=3, samples=3, control_variate=control_variate, initial=0.3, data_weight=0.7
    )
    x, (t, u) = (
        world.sample(40, rng),
        torch.rand(2, 40, generator=rng, dtype=torch.float64).sort(0)[0].flip(0),
    )
    draw = method.draw(x, t, u, rng)
    found = method.terms(draw)

    def lme(values):
        return math.log(sum(math.exp(v) for v in values) / len(values))

    for b in range(40):
        p, positions = draw.log_x[b].exp(), [d for d in range(L) if process.loss_mask(draw.z_t[b])[d]]
        mean, n = p.mean(0), len(p)

        def log_p(j, d, x, p=p):
            return math.log(p[j, d, x[d]])

        def C(x, positions=positions, n=n):
            joint = lme([sum(log_p(j, d, x) for d in positions) for j in range(n)])
            if not control_variate:
                return joint
            return joint - sum(lme([log_p(j, d, x) for j in range(n)]) for d in positions)

        def kl(target, law, positions=positions):
            return sum(
                q * math.log(q / law[d][c]) for d in positions for c, q in enumerate(target[d].tolist()) if q
            )

        a = 0.7 / (1 + math.exp(-20 * (t[b] - 0.5)))
        teacher, later = draw.log_teacher[b].exp(), draw.log_later[b].exp()
        marginals = (1, 1) if control_variate else (1 - a, 0)
        L_d = -a * C(x[b]) + marginals[0] * kl(teacher, mean)
        L_c = -sum(C(one) for one in draw.sampled[b]) / n + marginals[1] * kl(later, mean)
        L_0 = sum(kl(teacher, p[j]) for j in range(n)) / n
        expected = [L_0 / 0.3, L_d, 0] if t[b] < 0.3 else [0, L_d, L_c]
        for name, value in zip(("initial", "data", "consistency"), expected, strict=True):
            assert float(found[name][b]) == pytest.approx(float(value), abs=1e-9)


def probability(log_x, x):
    """Compute the probability of sequences x [X, L] under product distributions [..., L, V], [..., X]."""
    return sum(log_x[..., d, x[:, d]] for d in range(L)).exp()


def mean_kl(p, target, law):
    """Sum p [N] times the KL of distributions [N, L, V] over positions, where p is not 0."""
    nats = (torch.xlogy(target, target) - torch.xlogy(target, law)).sum((-1, -2))
    return (p[p > 0] * nats[p > 0]).sum()


@every_process
def test_the_loss_is_its_expectation_over_all_states(process_name, rng):
    """Coins, two components, two lambdas at z_t: all x_0, z_t, lambda, z_u, lambda' and x are enumerated."""
    process, world, t, u = get_process(process_name, V), get_world("coins"), 0.7, 0.4
    teacher = ExactDenoiser(world, process)
    method = di4c(process, rng, teacher=teacher, samples=2, data_weight=0.8)
    components, a = method.players["student"].components, 0.8 / (1 + math.exp(-20 * (t - 0.5)))
    z, x = sequences(process.num_symbols, L), sequences(V, L)
    at_t, at_u = times(len(z), t, u)
    q_t = process.likelihood(z, at_t)
    p_zx = torch.stack([q_t[:, range(L), one].prod(-1) for one in x], 1) * world.law()  # p(z_t, x_0)
    p_z, log_teacher = p_zx.sum(1), teacher(z, at_t).double()
    onward = sum(  # p(z_u | z_t) of every position, [Z, L, S]
        log_teacher[..., c, None].exp() * process.posterior(z, torch.full_like(z, c), at_u, at_t)
        for c in range(V)
    )
    p_zu = torch.stack([onward[:, d, z[:, d]] for d in range(L)]).prod(0)  # p(z_u | z_t), [Z, Z]
    later = torch.stack([component(z, at_u) for component in components])  # [lambda', Z, L, V]
    p_zx_later = p_z[:, None] * torch.einsum("zu,mux->zx", p_zu, probability(later, x)) / 2  # p(z_t, x^j)
    first = (p_zu / 2).repeat(1, 2)  # p(lambda', z_u | z_t)
    both = p_z[:, None, None] * first[:, :, None] * first[:, None]
    target = later.flatten(0, 1).exp()
    target = (target[:, None] + target) / 2
    expected = 0
    for chosen in itertools.product(components, repeat=2):
        log_x = torch.stack([component(z, at_t) for component in chosen])  # [2, Z, L, V]
        mean = log_x.exp().mean(0)
        C = (probability(log_x, x).mean(0) / probability(mean.log(), x)).log()
        weight = p_zx_later + a * p_zx
        expected -= (weight[weight > 0] * C[weight > 0]).sum() / 4
        expected += mean_kl(p_z, log_teacher.exp(), mean) / 4
        law = mean[:, None, None].expand(-1, *target.shape)
        expected += mean_kl(both, target.expand_as(law), law) / 4
    n = 40_000
    found = total(method.terms(method.draw(world.sample(n, rng), *times(n, t, u), rng)))
    assert ttest_1samp(found.numpy(), float(expected)).pvalue > LEAST_P


@every_process
def test_one_lambda_leaves_the_plain_divergences(process_name, rng):
    """For a mixture of one component, or one that ignores lambda, C is 0 and has no gradient."""
    process, world = get_process(process_name, V), get_world("coins")
    ignores = NetworkDenoiser(tiny_network(process, L, rng, mixture=4), process)
    for student, n in ((tables(process, 1, rng), 1), (tables(process, 1, rng), 3), (ignores, 3)):
        method = di4c(process, rng, student=student, samples=n, initial=0.3)
        x, (t, u) = world.sample(50, rng), times(50, 0.7, 0.4)
        draw = method.draw(x, t.float(), u.float(), rng)
        log_x = draw.log_x.detach().requires_grad_()
        draw = Di4CDraw(**{**vars(draw), "log_x": log_x})
        C = method.correlation(draw.sampled, draw)
        assert C.abs().max() < 1e-5
        (slope,) = torch.autograd.grad(C.sum(), log_x, retain_graph=True)
        assert slope.abs().max() < 1e-5
        scored = process.loss_mask(draw.z_t)
        one, terms = log_x[:, 0], method.terms(draw)
        for name, log_target in (("data", draw.log_teacher), ("consistency", draw.log_later)):
            kl = (log_target.exp() * (log_target - one)).sum(-1)
            torch.testing.assert_close(terms[name], torch.where(scored, kl, 0).sum(-1), atol=1e-5, rtol=1e-5)
        assert not terms["initial"].any()


@every_process
def test_student_that_is_the_teacher_has_no_marginal_divergence(process_name, rng):
    """L_0 and L_d are 0 at every z_t, and L_c is 0 without a step, where z_u is z_t."""
    process, world = get_process(process_name, V), get_world("coins")
    exact = ExactDenoiser(world, process)
    method = di4c(process, rng, student=exact, teacher=exact, initial=0.5)
    x, t = world.sample(200, rng), torch.rand(200, generator=rng).clamp(min=0.01)
    terms = method.terms(method.draw(x, t, t, rng))
    assert all(value.abs().max() < 1e-4 for value in terms.values())
    assert method.terms(method.draw(x, t, t / 2, rng))["consistency"].abs().max() > 0.01


@every_process
def test_consistency_is_at_rest_where_a_step_changes_no_marginal(process_name, rng):
    """With independent positions the mean of the exact distributions after a step is the one before it. The
    exact student therefore has no expected gradient, over all z_t and z_u; another student has one."""
    p = torch.rand(L, V, generator=rng, dtype=torch.float64).softmax(-1)
    x = sequences(V, L)
    world = EnumerableWorld("independent", V, x, probability(p.log(), x).tolist(), "HT")
    process = get_process(process_name, V)
    exact = ExactDenoiser(world, process, floor=0)
    z = sequences(process.num_symbols, L)
    before, after = (v.flatten() for v in torch.meshgrid(*[torch.arange(len(z))] * 2, indexing="ij"))
    t, u = times(len(before), 0.7, 0.4)
    log_t = log_posterior(world, z[before], t, process, 0).clamp(min=-1e9)
    log_u = log_posterior(world, z[after], u, process, 0).clamp(min=-1e9)
    onward = sum(
        log_t[..., c, None].exp() * process.posterior(z[before], torch.full_like(z[before], c), u, t)
        for c in range(V)
    )
    p_step = onward.gather(-1, z[after].unsqueeze(-1)).squeeze(-1).prod(-1)
    method = di4c(process, rng, student=exact, teacher=exact, samples=1)
    other = Table(process, L, rng)
    for log_x, at_rest in ((log_t, True), (other(z[before], t), False)):
        logits = log_x.clone().requires_grad_()
        sampled = z[before].clamp(max=V - 1).unsqueeze(1)  # C of one lambda is 0 for all samples
        draw = Di4CDraw(
            t, sampled[:, 0], z[before], logits.log_softmax(-1).unsqueeze(1), log_t, sampled, log_u
        )
        (p_step @ method.terms(draw)["consistency"]).backward()
        slope = torch.zeros(len(z), L, V, dtype=torch.float64).index_add(0, before, logits.grad)
        assert (slope.abs().max() < 1e-12) == at_rest


@every_process
def test_the_control_variate_changes_no_expected_gradient(process_name, rng):
    """The mean is taken over x_0 given z_t, for an exact teacher, and over both x^j; all are enumerated."""
    process, world = get_process(process_name, V), get_world("coins")
    z, x, t = sequences(process.num_symbols, L), sequences(V, L), torch.tensor([0.7]).double()
    p_zx = torch.stack([process.likelihood(z, t)[:, range(L), one].prod(-1) for one in x], 1) * world.law()
    z, p_zx = z[p_zx.sum(1) > 0], p_zx[p_zx.sum(1) > 0]
    each = torch.arange(len(z))
    log_teacher = log_posterior(world, z, t.expand(len(z)), process, 0).clamp(min=-1e9)
    later = torch.stack([Table(process, L, rng)(z, t.expand(len(z))) for _ in range(2)], 1)  # [Z, 2, L, V]
    log_later = later.exp().mean(1).log().clamp(min=-1e9)
    p_x = probability(later, x)
    logits = torch.randn(len(z), 2, L, V, generator=rng, dtype=torch.float64, requires_grad=True)

    def gradient(name, weight, i, x_0, sampled, control_variate):
        method = di4c(process, rng, samples=2, control_variate=control_variate, data_weight=0.8)
        log_x = process.carry_over(logits.log_softmax(-1).flatten(0, 1), z.repeat_interleave(2, 0))
        log_x = log_x.view_as(logits)[i]
        draw = Di4CDraw(t.expand(len(i)), x_0, z[i], log_x, log_teacher[i], sampled, log_later[i])
        return torch.autograd.grad(weight @ method.terms(draw)[name], logits)[0]

    i, a = (v.flatten() for v in torch.meshgrid(each, torch.arange(len(x)), indexing="ij"))
    weight, sampled = p_zx[i, a], x[a][:, None].expand(-1, 2, -1)
    live = weight > 0
    data = [gradient("data", weight[live], i[live], x[a][live], sampled[live], cv) for cv in (True, False)]
    i, a, b = (v.flatten() for v in torch.meshgrid(each, *[torch.arange(len(x))] * 2, indexing="ij"))
    weight, sampled = p_x[i, 0, a] * p_x[i, 1, b], torch.stack([x[a], x[b]], 1)
    live = weight > 0
    consistency = [
        gradient("consistency", weight[live], i[live], x[a][live], sampled[live], cv) for cv in (True, False)
    ]
    for with_it, without in (data, consistency):
        torch.testing.assert_close(without, with_it, rtol=0, atol=1e-9)
        assert with_it.abs().max() > 0.01


def test_free_mixture_learns_the_coins_beyond_the_product_limit(rng):
    """Five components can represent the coins exactly; one step of a short training comes close to them."""
    process, world = get_process("masked", V), get_world("coins")
    student = Mixture(*(Free(process, rng) for _ in range(5)))
    exact = ExactDenoiser(world, process)
    method = di4c(process, rng, student=student, teacher=exact, samples=16, data_weight=1.0)
    optimizer = torch.optim.Adam(student.parameters(), lr=0.1)
    for step in range(150):
        optimizer.zero_grad()
        total(method.losses(step, world.sample(64, rng), rng)["student"]).backward()
        optimizer.step()
    z = torch.full((1, L), process.mask)
    laws = torch.stack([component(z, torch.ones(1)) for component in student.components])[:, 0].detach()
    law = probability(laws, world.all_sequences()).mean(0)
    assert total_variation(law.double(), world) < 0.05 < best_mixture(world, 1, restarts=4)[0]


@every_process
def test_only_the_student_learns(process_name, rng):
    process, world = get_process(process_name, V), get_world("coins")
    student = NetworkDenoiser(tiny_network(process, L, rng, mixture=8), process)
    nn.init.normal_(student.network.noise_projection.weight)
    teacher = NetworkDenoiser(tiny_network(process, L, rng), process)
    method = di4c(process, rng, student=student, teacher=teacher)
    terms = method.losses(0, world.sample(64, rng), rng)
    assert set(terms) == {"student"} and set(terms["student"]) == {"initial", "data", "consistency"}
    total(terms["student"]).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in student.parameters())
    assert all(p.grad is None for p in teacher.parameters())


def test_teachers_steps(rng):
    t = torch.rand(5000, generator=rng).clamp(min=0.01)
    process = get_process("masked", V)
    constant = di4c(process, rng, delta=0.05).earlier(t, rng)
    torch.testing.assert_close(constant, (t - 0.05).clamp(min=0))
    halves = di4c(process, rng, delta=0.05, delta_rule="half").earlier(t, rng)
    torch.testing.assert_close(halves, torch.where(t < 0.1, t / 2, t - 0.05))
    late = torch.ones(5000, dtype=torch.float64)
    delta = late - di4c(process, rng, delta=1e-2, delta_rule="log_uniform").earlier(late, rng)
    assert kstest((delta * 1e3).log10().numpy(), "uniform").pvalue > LEAST_P


def test_data_weights(rng):
    t, process = torch.tensor([0.0, 0.5, 1.0]), get_process("masked", V)
    expected = {
        "sigmoid": [1 / (1 + math.e**10), 0.5, 1 / (1 + math.e**-10)],
        "linear": t.tolist(),
        "constant": [1, 1, 1],
    }
    for shape, values in expected.items():
        a = di4c(process, rng, data_weight=0.3, data_shape=shape).data_weight(t)
        torch.testing.assert_close(a, 0.3 * torch.tensor(values))


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"samples": 0}, "samples: 0 is not allowed; it must be a whole number of at least 1"),
        ({"delta": 0.0}, "delta: 0.0 is not allowed; it must lie in \\(0, 1]"),
        ({"initial": 1.5}, "initial: 1.5 is not allowed; it must lie in \\(0, 1]"),
        ({"delta_rule": "fixed"}, "delta_rule: 'fixed' is not allowed; choose one of"),
        ({"data_shape": "cosine"}, "data_shape: 'cosine' is not allowed; choose one of"),
        ({"data_weight": -1.0}, "data_weight: -1.0 is not allowed; it must be a finite number"),
        ({"data_weight": math.nan}, "data_weight: nan is not allowed; it must be a finite number"),
    ],
)
def test_impossible_settings_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        Di4CSettings(1, **settings)
    with pytest.raises(ValueError, match="steps: 0 is not allowed"):
        Di4CSettings(0)


# --- lambda -----------------------------------------------------------------------------------------------


IMAGE = (4, 4, 1)


def networks(rng, image_shape, mixture):
    """Return networks without and with lambda, of the same weights; the projection of lambda is zero."""
    made = []
    for values in (0, mixture):
        torch.manual_seed(rng.initial_seed())
        network = Transformer(4, 3, 16, image_shape=image_shape, mixture=values, **TINY)
        made.append(wake(network, torch.Generator().manual_seed(rng.initial_seed())))
    made[1].load_state_dict({**made[1].state_dict(), **made[0].state_dict()})
    return made


@pytest.mark.parametrize("image_shape", [None, IMAGE])
def test_lambda_has_no_effect_until_its_projection_is_trained(image_shape, rng):
    plain, mixture = networks(rng, image_shape, CONTINUOUS)
    z, t = torch.randint(4, (3, 16), generator=rng), torch.rand(3, generator=rng)
    values = mixture.draw_noise(3, rng)
    expected = plain(z, t)
    torch.testing.assert_close(mixture(z, t, values), expected, rtol=0, atol=0)
    nn.init.normal_(mixture.noise_projection.weight)
    moved = mixture(z, t, values)
    assert (moved - expected).abs().amax((1, 2)).min() > 1e-3
    torch.testing.assert_close(mixture(z, t, values), moved, rtol=0, atol=0)
    assert (mixture(z, t, (values + 0.5) % 1) - moved).abs().amax((1, 2)).min() > 1e-3


@pytest.mark.parametrize("values", [1, 3, CONTINUOUS])
def test_lambda_is_one_of_its_values_for_every_sequence(values, rng):
    network = tiny_network(get_process("masked", V), L, rng, mixture=values)
    drawn = network.draw_noise(3000, rng)
    assert drawn.shape == (3000,) and 0 <= drawn.min() and drawn.max() <= 1
    if values == CONTINUOUS:
        assert kstest(drawn.numpy(), "uniform").pvalue > LEAST_P
    else:
        counts = torch.stack([(drawn - (j + 0.5) / values).abs() < 1e-6 for j in range(values)]).sum(1)
        assert (
            counts.sum() == 3000 and chi_square_p(counts[None], torch.full((1, values), 1 / values)) > LEAST_P
        )


def test_the_student_begins_as_its_start(rng):
    recipe = get_recipe("coins-masked-di4c-1", "smoke")
    method, name = method_of(task_of(recipe))
    student, start = method.players[name], load_model(recipe.start, "smoke").denoiser
    z, t = torch.randint(3, (20, L), generator=rng), torch.rand(20, generator=rng)
    values = student.draw_noise(20, rng)
    assert values.unique().numel() == 20
    assert torch.equal(student(z, t, values), start(z, t))


def test_a_network_takes_lambda_or_noise():
    with pytest.raises(ValueError, match="mixture: 2 is not allowed with noise 1; one of them is 0"):
        Transformer(4, 3, 16, noise=1, mixture=2, **TINY)
    with pytest.raises(ValueError, match="mixture: -1 is not allowed"):
        Transformer(4, 3, 16, mixture=-1, **TINY)


def test_lambda_is_fresh_in_every_step_of_the_sampler(rng):
    """With two certain components, HH and TT, one step gives equal pairs; in four steps lambda may change."""
    process = get_process("masked", V)
    certain = [Constant(process, c) for c in range(V)]
    once, often = (
        sample(Mixture(*certain), process, 400, L, steps, generator=rng).tokens for steps in (1, 4)
    )
    assert (once[:, 0] == once[:, 1]).all()
    assert binomtest(int((once[:, 0] == 0).sum()), 400, 0.5).pvalue > LEAST_P
    apart = 3 / 4 / 2  # revealed in different steps of the four, with different lambdas
    assert binomtest(int((often[:, 0] != often[:, 1]).sum()), 400, apart).pvalue > LEAST_P


# --- the teacher's last steps -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "steps, switch_time, by_teacher", [(10, 0.3, 3), (4, 0.5, 2), (3, 0.0, 0), (3, 1.0, 3)]
)
def test_hybrid_leaves_the_last_steps_to_the_teacher(steps, switch_time, by_teacher, rng):
    process = get_process("uniform", V)
    student, teacher = (Counting(Constant(process, c)) for c in range(V))
    hybrid = Hybrid(student, teacher, switch_time)
    tokens = sample(hybrid, process, 50, L, steps, generator=rng).tokens
    assert (student.calls, teacher.calls) == (steps - by_teacher, by_teacher)
    assert (tokens == (1 if by_teacher else 0)).all()


def test_hybrid_of_many_times(rng):
    """Every sequence is switched by its time, and the noise is the student's."""
    process = get_process("masked", V)
    student, teacher = tables(process, 2, rng), Table(process, L, rng)
    hybrid = Hybrid(student, teacher, 0.5)
    z, t = torch.randint(3, (40, L), generator=rng), torch.rand(40, generator=rng)
    noise = hybrid.draw_noise(40, rng)
    expected = torch.where((t > 0.5)[:, None, None], student(z, t, noise), teacher(z, t))
    torch.testing.assert_close(hybrid(z, t, noise), expected, rtol=0, atol=0)
    with pytest.raises(ValueError, match="switch_time: 1.5 is not allowed"):
        Hybrid(student, teacher, 1.5)
