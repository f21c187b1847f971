"""ReDi: the distribution of its pairs, its expected loss by enumeration, and the effects of a coupling."""

import numpy as np
import pytest
import torch
from helpers import (
    LEAST_P,
    Table,
    bayes,
    chi_square_p,
    frequencies,
    sequences,
    tiny_network,
)
from scipy.stats import ttest_1samp, ttest_ind
from torch.nn.functional import one_hot

from dmmd_lite.denoisers.base import Denoiser, NetworkDenoiser
from dmmd_lite.denoisers.exact import ExactDenoiser
from dmmd_lite.metrics.exact_laws import exact_law, total_variation
from dmmd_lite.objectives.denoising import DenoisingObjective
from dmmd_lite.objectives.redi import ReDi, ReDiSettings
from dmmd_lite.processes import get_process
from dmmd_lite.processes.masked import Masked
from dmmd_lite.processes.random_start import RandomStart
from dmmd_lite.utils.rng import generator_for
from dmmd_lite.worlds import get_world
from dmmd_lite.worlds.enumerable import EnumerableWorld

V, L = 2, 2


class Free(Table):
    """A trainable table of logits."""

    def __init__(self, process, rng):
        super().__init__(process, L, rng)
        self.start = torch.nn.Parameter(self.start)
        self.drift = torch.nn.Parameter(self.drift)


class Copying(Denoiser):
    """A denoiser that is certain that every token equals the first one; a MASK there counts as token 0."""

    def __init__(self):
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def forward(self, z, t, noise=None):
        first = z[:, :1].expand_as(z) % V
        return torch.where(one_hot(first, V).bool(), 0.0, -1e9)


def make(process_name, teacher, rng, student=None, **settings):
    """Return ReDi of a free student over V classes, with a teacher of the ordinary noise."""
    process, settings = get_process(process_name, V), ReDiSettings(1, **settings)
    student = student or Free(settings.process(process), rng)
    return ReDi(student, teacher(process), process, settings)


def exact(process):
    return ExactDenoiser(get_world("coins"), process, floor=0)


def pairs_of(tokens):
    """Return starts and ends, tokens [N, 2 L], as indices."""
    return tokens @ (V + 1) ** torch.arange(2 * L - 1, -1, -1)


# --- pairs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("process_name, masked", [("uniform", 0.3), ("masked", 1.0)])
@pytest.mark.parametrize("pool_steps", [1, 4])
def test_pairs_have_the_distributions_of_start_and_sampler(process_name, masked, pool_steps, rng):
    """The sampler runs the teacher on the paths of the start."""
    method = make(process_name, exact, rng, masked=masked, pool_steps=pool_steps)
    start, end = method.make_pool(1, 20_000, L, rng)
    symbols = method.process.num_symbols
    pi = method.process.likelihood(torch.arange(symbols)[:, None], torch.ones(symbols)).double()[:, 0, 0]
    assert chi_square_p(frequencies(start, symbols)[None], (pi[:, None] * pi).flatten()[None]) > LEAST_P
    law = exact_law(method.teacher, method.process, get_world("coins"), pool_steps, 0, rng)
    assert chi_square_p(frequencies(end, V)[None], law) > LEAST_P


def test_later_pairs_come_from_the_previous_student(rng):
    """Under masked noise the student draws all pairs, since the teacher knows no random start."""
    method = make("masked", exact, rng, pool_steps=2)
    method.copies["previous"].load_state_dict(Free(method.process, rng).state_dict())
    _, end = method.make_pool(1, 20_000, L, rng)
    world = get_world("coins")
    law = exact_law(method.copies["previous"], method.process, world, 2, 0, rng)
    other = exact_law(method.players["student"], method.process, world, 2, 0, rng)
    assert chi_square_p(frequencies(end, V)[None], law) > LEAST_P
    assert (law - other).abs().max() > 0.01


def test_a_deterministic_model_couples_deterministically(rng):
    method = make("uniform", lambda _: Copying(), rng, pool_steps=3)
    start, end = method.make_pool(1, 500, L, rng)
    assert torch.equal(end, start[:, :1].expand_as(end)) and start.unique(dim=0).shape == (4, L)


def test_the_step_of_uniform_noise_would_not_couple(rng):
    """With ordinary steps of uniform noise, start and end of the exact sampler are independent; on the path
    of a random start they are not."""
    uniform, num = get_process("uniform", V), 10_000
    method = make("uniform", exact, rng, pool_steps=4)
    independence = {}
    for name, process in (("path", method.process), ("noise", uniform)):
        method.process = process
        pair = torch.cat(method.make_pool(1, num, L, rng), 1)
        joint = (
            (pair @ V ** torch.arange(2 * L - 1, -1, -1)).bincount(minlength=V ** (2 * L)).view(V**L, V**L)
        )
        product = joint.double().sum(1, keepdim=True) * joint.double().sum(0) / num**2
        merged = torch.where(product > 0, product, 1e-12)
        independence[name] = float(((joint / num - product) ** 2 / merged).sum() * num)
    assert independence["noise"] < 60 < 1000 < independence["path"]  # chi-square of 9 degrees: 60 at p = 1e-9


def conditional_total_correlation(start, end):
    """Compute the plug-in estimate of TC(x | x_1) from pairs, in nats."""
    total = 0.0
    for row in start.unique(dim=0):
        given = end[(start == row).all(-1)]
        joint = frequencies(given, V).double().view(V, V) / len(given)
        product = joint.sum(1, keepdim=True) * joint.sum(0)
        total += len(given) / len(start) * float((torch.xlogy(joint, joint / product.clamp(min=1e-12))).sum())
    return total


def test_rectified_pairs_leave_less_to_be_correlated(rng):
    """The paper's measure of the factorisation error is compared with the total correlation of the coins,
    which is that of independent pairs."""
    method = make("uniform", exact, rng, pool_steps=16)
    start, end = method.make_pool(1, 8000, L, rng)
    p = get_world("coins").probs
    independent = float(-(p * p.log()).sum())
    assert conditional_total_correlation(start, end) < 0.8 * independent


# --- the loss -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("process_name, masked", [("uniform", 0.3), ("masked", 1.0)])
@pytest.mark.parametrize("distill", [False, True])
@torch.no_grad()
def test_the_expected_loss_of_pairs_by_enumeration(process_name, masked, distill, rng):
    """The loss of certain pairs (start, copied first token) is a sum over times, starts and arrivals."""
    settings = {"masked": masked, "rounds": 1, "round_updates": 10, "uses": 10, "distill": distill}
    method = make(process_name, lambda _: Copying(), rng, **settings)
    process, student = method.process, method.players["student"]
    if process_name == "masked":  # two outcomes, not one
        method._pool_round, rows = 1, torch.randint(V, (1000, 1), generator=rng)
        method._pool = torch.full((1000, L), process.mask), rows.expand(-1, L)
    x = torch.zeros(500, L, dtype=torch.long)  # never looked at
    losses = [float(method.losses(0, x, rng)["student"]["cross_entropy"]) for _ in range(40)]
    start, end = method._pool
    pair, weight = torch.cat([start, end], 1).unique(dim=0, return_counts=True)
    start, end = pair[:, :L], pair[:, L:]
    arrived = sequences(2, L).bool()
    z = torch.where(arrived, end[:, None], start[:, None])  # [pairs, patterns, L]
    nodes, weights = np.polynomial.legendre.leggauss(20)
    times = [(1.0, 1.0)] if distill else zip((nodes + 1) / 2, weights / 2, strict=True)
    expected = 0.0
    for t, share in times:
        t = torch.tensor(t).float()
        chance = torch.where(arrived, 1 - t, t).prod(-1)
        log_x = student(z.flatten(0, 1), t.expand(len(pair) * len(arrived))).view(*z.shape, V)
        nats = -log_x.gather(-1, end[:, None, :, None].expand(-1, len(arrived), -1, 1)).squeeze(-1)
        nats = (nats * process.loss_mask(z)).sum(-1) / L
        expected += float((nats * chance).sum(-1) @ weight.float() / weight.sum()) * share
    assert ttest_1samp(losses, expected).pvalue > LEAST_P


def test_a_start_of_masks_changes_nothing(rng):
    """The pairs are independent, so the loss is that of a teacher trained on the sampler's distribution."""
    method = make("masked", exact, rng, masked=1.0, pool_steps=3, uses=1, round_updates=10**6)
    assert isinstance(method.process, Masked)
    method._pool = method.make_pool(1, 50_000, L, rng)
    method._pool_round = 1
    law = exact_law(method.teacher, method.process, get_world("coins"), 3, 0, rng)[0]
    sampler = EnumerableWorld("sampler", V, sequences(V, L), law.tolist(), "HT")
    other = DenoisingObjective(method.players["student"], method.process)
    ours, theirs = (
        [float(loss(0, sampler.sample(500, rng), rng)[name]["cross_entropy"].detach()) for _ in range(60)]
        for loss, name in ((method.losses, "student"), (other.losses, "denoiser"))
    )
    assert ttest_ind(ours, theirs).pvalue > LEAST_P


def test_the_round_on_data_is_the_ordinary_training_of_random_starts(rng):
    """The loss is the cross-entropy under the noise process whose pi is the distribution of the start."""
    method, world = make("masked", exact, rng), get_world("coins")
    other = DenoisingObjective(method.players["student"], method.process)
    assert isinstance(method.process, RandomStart) and method.round_of(0) == 0
    ours, theirs = (
        [float(loss(0, world.sample(500, rng), rng)[name]["cross_entropy"].detach()) for _ in range(60)]
        for loss, name in ((method.losses, "student"), (other.losses, "denoiser"))
    )
    assert ttest_ind(ours, theirs).pvalue > LEAST_P


def test_random_starts_are_learned_exactly_by_the_posterior(rng):
    """The exact denoiser of a random start is Bayes' rule with its pi."""
    process, world = RandomStart(get_process("masked", V), 0.3), get_world("coins")
    t, z = torch.tensor([0.6], dtype=torch.float64), sequences(V + 1, L)
    pi = torch.tensor([0.35, 0.35, 0.3], dtype=torch.float64)
    Q = 0.4 * torch.eye(V, V + 1, dtype=torch.float64) + 0.6 * pi
    p, _ = bayes(world.outcomes, world.probs, z, Q)
    expected = torch.einsum("zn,nlv->zlv", p, one_hot(world.outcomes, V).double())
    found = ExactDenoiser(world, process, floor=0)(z, t.expand(len(z))).double().exp()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_perturbed_paths_begin_at_noised_data(rng):
    """Paths begin at z_u ~ q(z_u | x), the model completes them to x' from u, and t is below u."""
    method = make("uniform", lambda _: Copying(), rng, perturbed=True, pool_steps=2)
    x = get_world("coins").sample(20_000, rng)
    start, u, end = method.draw(1, x, rng)
    assert torch.equal(end, start[:, :1].expand_as(end)) and 0 < u.min() and u.max() <= 1
    kept = (start == x).float()
    wanted = 1 - u / 2  # alpha + (1 - alpha)/V
    assert abs(float((kept.mean(-1) - wanted).mean())) < 5 * 0.5 / (2 * len(x)) ** 0.5
    assert torch.corrcoef(torch.stack([u, kept.mean(-1)]))[0, 1] < -0.2


# --- training -----------------------------------------------------------------------------------------------


def test_distillation_of_a_deterministic_coupling_fits_it(rng):
    """One step can be exact: x is a function of x_1, so a product distribution given x_1 suffices."""
    method = make("uniform", lambda _: Copying(), rng, rounds=1, distill=True, round_updates=150, uses=150)
    student, process = method.players["student"], method.process
    optimizer = torch.optim.Adam(student.parameters(), lr=0.1)
    x = torch.zeros(200, L, dtype=torch.long)  # never looked at
    for step in range(150):
        optimizer.zero_grad()
        method.losses(step, x, rng)["student"]["cross_entropy"].backward()
        optimizer.step()
    copied = EnumerableWorld("copied", V, torch.tensor([[0, 0], [1, 1]]), [0.5, 0.5], "HT")
    law = exact_law(student, process, copied, 1, 0, rng)
    assert len(method._pool[0]) == 200
    assert float(total_variation(law, copied)) < 0.01
    untrained = exact_law(Free(process, rng), process, copied, 1, 0, rng)
    assert float(total_variation(untrained, copied)) > 0.05


@pytest.mark.parametrize("process_name, first", [("uniform", 1), ("masked", 0)])
def test_rounds(process_name, first, rng):
    """Rounds determine when pairs change and which model draws them; the last round has no end."""
    process = get_process(process_name, V)
    settings = ReDiSettings(1, rounds=2, round_updates=3, pool_steps=2, uses=3)
    student = NetworkDenoiser(tiny_network(process, L, rng), settings.process(process))
    teacher = NetworkDenoiser(tiny_network(process, L, rng), process)
    method = ReDi(student, teacher, process, settings)
    assert [method.round_of(step) for step in range(11)] == [min(first + step // 3, 2) for step in range(11)]
    x, pools = torch.zeros(8, L, dtype=torch.long), {}
    for step in range(11):
        before = {key: value.clone() for key, value in student.state_dict().items()}
        method.losses(step, x, rng)
        pools.setdefault(method._pool_round, []).append(method._pool)
        copied = method.copies["previous"].state_dict()
        begins = step % 3 == 0 and 0 < step < 3 * (3 - first)
        same = all(torch.equal(copied[key], before[key]) for key in before)
        if begins:
            assert same
        elif step > 0:
            assert not same  # copies are only made where a round begins
        with torch.no_grad():
            for p in student.parameters():
                p.add_(0.01)  # an update
    assert sorted(pools) == ([1, 2] if first else [-1, 1, 2])
    for number, found in pools.items():
        assert all(pool is found[0] for pool in found)
        if number > 0:
            assert found[0][0].shape == (8, L)


def test_a_resumed_run_has_the_same_pairs(rng):
    """A new method with the same copies, used from the middle of a round, draws the same pairs."""
    settings = {"rounds": 2, "round_updates": 4, "pool_steps": 2, "uses": 1}
    method = make("uniform", exact, rng, **settings)
    x, generator = torch.zeros(8, L, dtype=torch.long), generator_for("cpu", 5)
    for step in range(6):
        method.losses(step, x, generator)
    resumed = make("uniform", exact, rng, student=method.players["student"], **settings)
    resumed.copies["previous"].load_state_dict(method.copies["previous"].state_dict())
    again = generator_for("cpu", 5)
    again.set_state(generator.get_state())
    resumed.losses(6, x, again)
    assert all(torch.equal(a, b) for a, b in zip(method._pool, resumed._pool, strict=True))
    other = make("uniform", exact, rng, student=method.players["student"], **settings)
    other.copies["previous"].load_state_dict(method.copies["previous"].state_dict())
    other.losses(6, x, generator_for("cpu", 6))
    assert not torch.equal(method._pool[0], other._pool[0])


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"steps": 0}, "steps: 0 is not allowed"),
        ({"rounds": 0}, "rounds: 0 is not allowed"),
        ({"round_updates": 0}, "round_updates: 0 is not allowed"),
        ({"pool_steps": 0}, "pool_steps: 0 is not allowed"),
        ({"uses": 0}, "uses: 0 is not allowed"),
        ({"masked": -0.1}, "masked: -0.1 is not allowed"),
        ({"distill": True, "perturbed": True}, "distill: True is not allowed with perturbed"),
    ],
)
def test_impossible_settings_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        ReDiSettings(**{"steps": 1, **settings})
