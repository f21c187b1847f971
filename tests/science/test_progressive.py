"""SDTT and its rounds against enumeration: targets, losses, optima, grids, times, and what a round copies."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from helpers import LEAST_P, Table, chi_square_p, every_process, sequences
from scipy.stats import ttest_1samp
from torch import nn

from dmmd_lite.denoisers.base import Denoiser
from dmmd_lite.denoisers.exact import ExactDenoiser
from dmmd_lite.objectives.progressive import Progressive, Rounds
from dmmd_lite.objectives.sdtt import GRIDS, SDTT, SDTTSettings, sub_step_times
from dmmd_lite.objectives.terms import DIVERGENCES, divergence_between
from dmmd_lite.processes import RandomStart, get_process
from dmmd_lite.studies.theory.limits import one_step_sdtt
from dmmd_lite.worlds import get_world

L = 2
every_divergence = pytest.mark.parametrize("divergence", DIVERGENCES)
every_grid = pytest.mark.parametrize("grid", GRIDS)


class Constant(Denoiser):
    """A trainable denoiser of independent positions, the same for every z and t."""

    def __init__(self, process, logits):
        super().__init__()
        self.process, self.logits = process, nn.Parameter(logits.double())

    def forward(self, z, t, noise=None):
        log_x = self.logits.log_softmax(-1).expand(len(z), -1, -1)
        return self.process.carry_over(log_x, z)


def sdtt(rng, teacher=None, student=None, **settings):
    process = get_process("masked", 2)
    student = student or Table(process, L, rng).double()
    return SDTT(student, teacher or Table(process, L, rng).double(), process, SDTTSettings(1, **settings))


# --- rounds -----------------------------------------------------------------------------------------------


def test_rounds_double_the_jump_up_to_one_of_k_steps():
    rounds = Rounds(8, rounds=7, round_updates=10_000)
    assert rounds.jump(0) == 2 / 1024  # SDTT from 1024 steps to 8: two steps of 1/1024
    jumps = [rounds.jump(step) for step in range(0, 90_000, 10_000)]
    assert jumps == [2**r / 512 for r in range(7)] + [1 / 8] * 2
    assert rounds.jump(9_999) == 2 / 1024 and rounds.jump(10_000) == 4 / 1024
    assert Rounds(3, rounds=1, round_updates=5).jump(0) == 1 / 3


@every_process
def test_the_target_is_the_teacher_and_then_the_student_of_the_rounds_end(process_name, rng):
    process = get_process(process_name, 2)
    student, teacher = (Constant(process, torch.randn(L, 2, generator=rng)) for _ in range(2))
    method = Progressive(student, teacher, process, Rounds(1, rounds=3, round_updates=4))
    seen = []
    for step in range(16):
        with torch.no_grad():
            student.logits += 1
        for _ in range(2):  # parts of a batch
            target = method.target(step)
        seen.append((student.logits - target.logits).mean().round().item() if target is not teacher else None)
    assert seen == [None] * 4 + [0, 1, 2, 3] + list(range(8))
    assert not target.logits.requires_grad


@pytest.mark.parametrize("steps, rounds", [(1, 1), (4, 3)])
def test_times_leave_room_for_the_jump_and_reach_one(steps, rounds, rng):
    process, n = get_process("masked", 2), 20_000
    method = Progressive(nn.Linear(1, 1), None, process, Rounds(steps, rounds, round_updates=10))
    for step in (0, 10 * (rounds - 1)):
        jump = method.settings.jump(step)
        t = method.draw_times(n, step, rng, "cpu")
        assert (t >= jump).all() and (t <= 1).all()
        assert abs(int((t == 1).sum()) - n * jump) <= 1  # times are stratified
        counts = torch.histc(t[t < 1], bins=10, min=jump, max=1)
        assert (counts - n * (1 - jump) / 10).abs().max() <= 2


# --- divergences ------------------------------------------------------------------------------------------


def test_divergences_by_hand():
    p, q = torch.tensor([0.25, 0.75]).double(), torch.tensor([0.5, 0.5]).double()
    a, b = math.log(0.25 / 0.5), math.log(0.75 / 0.5)
    values = {
        "reverse_kl": 0.25 * a + 0.75 * b,
        "forward_kl": -0.5 * a - 0.5 * b,
        "mse": (a**2 + b**2) / 2,
        "total_variation": abs(a) + abs(b),
    }
    assert values.keys() == set(DIVERGENCES)
    for divergence, value in values.items():
        assert float(divergence_between(divergence, p.log(), q.log())) == pytest.approx(value)


@every_divergence
@every_grid
def test_no_loss_and_no_gradient_at_the_target(divergence, grid, rng):
    """If positions are independent, two steps of the target network give the same as one prediction."""
    process, logits = get_process("masked", 3), torch.randn(L, 3, generator=rng)
    settings = SDTTSettings(2, rounds=2, round_updates=5, divergence=divergence, grid=grid)
    student = Constant(process, logits)
    method = SDTT(student, Constant(process, logits), process, settings)
    x = torch.randint(3, (64, L), generator=rng)
    for step in (0, 5):  # the teacher, then the student's copy
        loss = method.losses(step, x, rng)["student"][divergence]
        (gradient,) = torch.autograd.grad(loss, student.logits)
        assert loss.abs() < 1e-12 and gradient.abs().max() < 1e-12
    other = SDTT(Constant(process, -logits), Constant(process, logits), process, settings)
    assert other.losses(0, x, rng)["student"][divergence] > 1e-6


# --- SDTT by enumeration ----------------------------------------------------------------------------------


def every_target(method, z_t, t, dt, clamp):
    """Return the targets at one z_t [L] with their probabilities, as the released code assembles them: both
    sub-steps with all their tokens and reveals, a position's log-probabilities those of the sub-step that
    reveals it, the last ones where none does."""
    process, found = method.process, []
    mask, starts = process.mask, sub_step_times(torch.tensor([t]).double(), dt, method.settings.grid)

    def outcomes(z, start):
        log_x = method.teacher(z[None], start)[0]
        reveal = min(dt / float(start), 1)
        choices = []
        for position, token in enumerate(z.tolist()):
            p = log_x[position].exp().tolist()
            stay = [(mask, 1 - reveal)]
            shown = [(c, reveal * p[c]) for c in range(process.vocab_size)]
            choices.append(stay + shown if token == mask else [(token, 1.0)])
        for tokens in itertools.product(*choices):
            yield torch.tensor([c for c, _ in tokens]), math.prod(p for _, p in tokens), log_x

    for z_mid, p_mid, log_first in outcomes(z_t, starts[0]):
        for z_end, p_end, log_second in outcomes(z_mid, starts[1]):
            table = torch.full_like(log_first, math.nan)
            for position in range(len(z_t)):
                in_first = z_t[position] == mask and z_mid[position] != mask
                in_second = z_mid[position] == mask and z_end[position] != mask
                if in_first:
                    table[position] = log_first[position]
                elif in_second or z_end[position] == mask:
                    table[position] = log_second[position]
            found.append((p_mid * p_end, table.clamp(min=math.log(clamp))))
    return found


def expected_loss(method, world, t, dt):
    """Return the sum over masked positions and their expected number, over all z_t and sub-steps."""
    process, settings = method.process, method.settings
    total, positions = 0.0, 0.0
    for z_t in sequences(process.num_symbols, L):
        masked = z_t == process.mask
        fits = (masked | (world.outcomes == z_t)).all(-1)
        p_z = float(world.probs[fits].sum() * t ** masked.sum() * (1 - t) ** (~masked).sum())
        log_x = method.players["student"](z_t[None], torch.tensor([t]))[0].detach()
        for p, table in every_target(method, z_t, t, dt, settings.clamp):
            value = divergence_between(settings.divergence, log_x[masked], table[masked]).sum()
            total += p_z * p * float(value)
        positions += p_z * float(masked.sum())
    return total, positions


@every_divergence
@every_grid
def test_the_loss_is_that_of_all_outcomes(divergence, grid, rng, monkeypatch):
    """Cases: exact and random teachers and students; t and dt of the second of two rounds for two steps."""
    world, t = get_world("coins"), 0.8
    process = get_process("masked", 2)
    exact = ExactDenoiser(world, process, 1e-9)
    for teacher in (exact, Table(process, L, rng).double()):
        method = sdtt(rng, teacher, divergence=divergence, grid=grid, clamp=1e-3, rounds=3)
        method.settings = replace(method.settings, steps=2)
        monkeypatch.setattr(method, "draw_times", lambda n, *_: torch.full((n,), t))
        total, positions = expected_loss(method, world, t, method.settings.jump(0) / 2)
        losses = []
        for _ in range(40):
            x = world.sample(1000, rng)
            (value,) = method.losses(0, x, rng)["student"].values()
            losses.append(float(value))
        assert total != pytest.approx(0, abs=1e-3)
        assert ttest_1samp(losses, total / positions).pvalue > LEAST_P


def test_the_first_sub_step_reveals_as_the_grid_says(rng, monkeypatch):
    """Targets at all-MASK are those of the first sub-step where it reveals, and of the second elsewhere."""
    process, world, n = get_process("masked", 2), get_world("coins"), 20_000
    seen = []
    for grid in GRIDS:
        method = sdtt(rng, Table(process, L, rng).double(), grid=grid, rounds=3, clamp=1e-12)
        z_t = torch.full((n, L), process.mask)
        monkeypatch.setattr(method.process, "corrupt", lambda *_, z=z_t: z)
        monkeypatch.setattr(method, "draw_times", lambda n, *_: torch.full((n,), 0.9))
        caught = {}

        def catch(log_x, log_target, caught=caught):
            caught["table"] = log_target
            return log_x.sum(-1)

        monkeypatch.setattr(method, "divergence", catch)
        method.losses(0, world.sample(n, rng), rng)
        tables = every_target(method, z_t[0], 0.9, method.settings.jump(0) / 2, 1e-12)
        distinct = torch.stack([table for _, table in tables]).flatten(1).unique(dim=0)
        law, counts = torch.zeros(len(distinct)).double(), torch.zeros(len(distinct))
        for p, table in tables:
            law[(distinct - table.flatten()).abs().sum(-1).argmin()] += p
        nearest = torch.cdist(caught["table"].flatten(1).double(), distinct).min(-1)
        assert nearest.values.max() < 1e-5
        counts = nearest.indices.bincount(minlength=len(distinct))
        assert law.sum() == pytest.approx(1)
        assert chi_square_p(counts[None], law[None]) > LEAST_P
        seen.append(law)
    assert seen[0].shape != seen[1].shape or not torch.allclose(*seen, atol=1e-3)


def test_the_grids_are_those_of_the_paper_and_of_the_released_code():
    """At t = 0.9 and dt = 1/1024 the reveal probabilities are 0.00109 twice, against 0.00099 and 0.01087."""
    t, dt = torch.tensor([0.9], dtype=torch.float64), 1 / 1024
    intended, released = ([dt / float(s) for s in sub_step_times(t, dt, grid)] for grid in GRIDS)
    assert intended == pytest.approx([0.00109, 0.00109], abs=5e-6)
    assert released == pytest.approx([0.00099, 0.01087], abs=5e-6)
    for time, factor in ((0.9, 5.46), (0.5, 1.34), (0.1, 0.83)):  # totals against the intended
        totals = []
        for grid in GRIDS:
            a, b = (dt / float(s) for s in sub_step_times(torch.tensor([time]).double(), dt, grid))
            totals.append(1 - (1 - a) * (1 - b))
        assert totals[1] / totals[0] == pytest.approx(factor, abs=0.005)


# --- where it ends ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("clamp, heads", [(1e-3, 0.66), (1e-6, 0.73), (1e-10, 0.81), (1e-20, 0.93)])
def test_the_clamp_decides_where_reverse_kl_ends(clamp, heads):
    """Direct minimisation agrees with the geometric mean of the targets; three of four show the marginal."""
    law = one_step_sdtt(get_world("coins"), clamp)
    assert law[:, 0].tolist() == pytest.approx([heads] * 2, abs=0.01)
    logit = 0.75 * math.log(0.6 / 0.4) - 0.25 * (0.6 - 0.4) * math.log(clamp)
    assert law[:, 0].tolist() == pytest.approx([1 / (1 + math.exp(-logit))] * 2, abs=1e-6)


@pytest.mark.parametrize("world", ["coins", "parity", "permutations"])
def test_forward_kl_ends_at_the_product_of_marginals(world):
    world = get_world(world)
    one_hot = nn.functional.one_hot(world.outcomes, world.vocab_size).double()
    marginals = torch.einsum("n,nlv->lv", world.probs, one_hot)
    torch.testing.assert_close(one_step_sdtt(world, 1e-10, "forward_kl"), marginals, atol=1e-6, rtol=0)


@pytest.mark.parametrize("divergence", ["reverse_kl", "forward_kl"])
def test_a_one_step_student_descends_to_that_end(divergence, rng):
    """The gradient of the method's loss is zero at the stated optimum, and only there."""
    process, world = get_process("masked", 2), get_world("coins")
    teacher = ExactDenoiser(world, process, 1e-9)
    end = one_step_sdtt(world, 1e-6, divergence).log()
    for logits, at_end in ((end, True), (end + torch.tensor([0.3, 0]), False)):
        student = Constant(process, logits)
        method = sdtt(rng, teacher, student, divergence=divergence, rounds=1)
        gradients = []
        for _ in range(40):
            loss = method.losses(0, world.sample(500, rng), rng)["student"][divergence]
            gradients.append(float(torch.autograd.grad(loss, student.logits)[0][:, 0].sum()))
        assert (ttest_1samp(gradients, 0).pvalue > LEAST_P) == at_end


# --- refusals ---------------------------------------------------------------------------------------------


def test_uniform_noise_is_refused():
    process = get_process("uniform", 2)
    with pytest.raises(ValueError, match="process: 'uniform' is not allowed for SDTT; choose 'masked'"):
        SDTT(Denoiser(), Denoiser(), process, SDTTSettings(1))
    with pytest.raises(ValueError, match="process: a random start is not allowed for SDTT"):
        SDTT(Denoiser(), Denoiser(), RandomStart(get_process("masked", 2), 0.5), SDTTSettings(1))


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"steps": 0}, "steps: 0 is not allowed; it must be a whole number of at least 1"),
        ({"rounds": 0}, "rounds: 0 is not allowed; it must be a whole number of at least 1"),
        ({"round_updates": 0}, "round_updates: 0 is not allowed; it must be a whole number of at least 1"),
        ({"divergence": "kl"}, "divergence: 'kl' is not allowed; choose one of"),
        ({"grid": "even"}, "grid: 'even' is not allowed; choose one of"),
        ({"clamp": 0.0}, "clamp: 0.0 is not allowed; it must lie in \\(0, 1\\)"),
        ({"clamp": math.nan}, "clamp: nan is not allowed"),
    ],
)
def test_impossible_settings_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        SDTTSettings(**{"steps": 1, **changes})
