"""The sampler: the distribution of samples, evaluations, trajectories, refusals."""

import math
from itertools import pairwise

import pytest
import torch
from helpers import (
    LEAST_P,
    Table,
    chi_square_p,
    every_process,
    every_schedule,
    frequencies,
    sequences,
    tiny_network,
)

from dmmd_lite.denoisers.base import NetworkDenoiser, NonFinitePrediction
from dmmd_lite.denoisers.prediction import predict
from dmmd_lite.denoisers.sharpening import Sharpened
from dmmd_lite.metrics.exact_laws import exact_law
from dmmd_lite.processes import get_process
from dmmd_lite.processes.base import LOG_ZERO
from dmmd_lite.processes.random_start import RandomStart
from dmmd_lite.processes.schedules import time_grid
from dmmd_lite.sampling import denoise, sample
from dmmd_lite.utils.rng import categorical, generator_for, uniform
from dmmd_lite.worlds import get_world


def table(process_name, rng, length=3, vocab_size=2, schedule="linear"):
    """A process and a random denoiser that depends on time."""
    process = get_process(process_name, vocab_size, schedule)
    return process, Table(process, length, rng)


@every_schedule
@every_process
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_samples_have_the_distribution_of_the_plain_chain(process_name, schedule, steps, rng):
    """The denoiser depends on time, so that the order of the masked sampler's draws must not matter."""
    process, denoiser = table(process_name, rng, schedule=schedule)
    probs = exact_law(denoiser, process, get_world("parity"), steps, 0, rng)
    drawn = sample(denoiser, process, 20_000, 3, steps, generator=rng)
    assert chi_square_p(frequencies(drawn.tokens, 2)[None], probs) > LEAST_P


@pytest.mark.parametrize("process_name, masked", [("uniform", 0.0), ("masked", 0.3)])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_samples_from_a_random_start_have_the_distribution_of_the_plain_chain(
    process_name, masked, steps, rng
):
    process = RandomStart(get_process(process_name, 2), masked)
    denoiser = Table(process, 3, rng)
    probs = exact_law(denoiser, process, get_world("parity"), steps, 0, rng)
    drawn = sample(denoiser, process, 20_000, 3, steps, generator=rng)
    assert chi_square_p(frequencies(drawn.tokens, 2)[None], probs) > LEAST_P


@every_process
def test_denoising_begins_anywhere(process_name, rng):
    """Two steps from one state agree with enumeration, with different times for different sequences."""
    process, denoiser = table(process_name, rng)
    times, num = torch.tensor([1.0, 0.6], dtype=torch.float64), 20_000
    start = torch.tensor([[process.num_symbols - 1, 0, process.num_symbols - 1]])
    z = start.expand(2 * num, 3)
    x = denoise(denoiser, process, z, times.float().repeat_interleave(num), 2, rng)
    states = sequences(process.num_symbols, 3)
    for t, drawn in zip(times, x.split(num), strict=True):
        s = t[None] / 2
        first, second = (
            denoiser(states, torch.full((len(states),), float(u))).double().softmax(-1) for u in (t, s)
        )
        index = int(start[0] @ process.num_symbols ** torch.arange(2, -1, -1))
        onward = torch.einsum("lx,lxc->lc", first[index], posteriors(process, start[0], s, t[None]))
        probs = onward[0][states[:, 0]] * onward[1][states[:, 1]] * onward[2][states[:, 2]]
        final = torch.einsum("z,za,zb,zc->abc", probs, *second.unbind(1)).flatten()
        assert chi_square_p(frequencies(drawn, 2)[None], final[None]) > LEAST_P


def posteriors(process, z, s, t):
    """q(z_s | z_t, x) at positions z [L] for every x, [L, V, S]."""
    classes = torch.arange(process.vocab_size)
    rows = process.posterior(
        z.repeat_interleave(len(classes))[:, None], classes.repeat(len(z))[:, None], s, t
    )
    return rows.view(len(z), len(classes), -1)


@every_process
@pytest.mark.parametrize("temperature, top_p", [(0.5, 1.0), (0.0, 1.0), (2.0, 0.6)])
def test_temperature_and_top_p_act_on_the_denoiser(process_name, temperature, top_p, rng):
    process, denoiser = table(process_name, rng)
    sharp = Sharpened(denoiser, temperature, top_p, delta=-LOG_ZERO)
    probs = exact_law(sharp, process, get_world("parity"), 3, 0, rng)
    options = {"generator": rng, "temperature": temperature, "top_p": top_p}
    drawn = sample(denoiser, process, 20_000, 3, 3, **options)
    assert chi_square_p(frequencies(drawn.tokens, 2)[None], probs) > LEAST_P


@every_schedule
@pytest.mark.parametrize("steps", [1, 3, 10, 100])
def test_masked_evaluations_are_those_that_reveal_something(schedule, steps, rng):
    """A step is skipped if it reveals none of L positions. Each position moves the count by at most one,
    which bounds its spread (McDiarmid)."""
    length, num = 6, 500
    process, denoiser = table("masked", rng, length, schedule=schedule)
    drawn = sample(denoiser, process, num, length, steps, generator=rng)
    share = process.schedule.alpha(time_grid(steps)).diff()
    expected = float((1 - (1 - share) ** length).sum())
    assert drawn.steps == steps and drawn.evaluations <= min(steps, length)
    assert abs(drawn.evaluations - expected) < math.sqrt(length * math.log(2 / LEAST_P) / (2 * num))


@every_process
@pytest.mark.parametrize("steps", [1, 5, 40])
def test_sequences_in_which_nothing_can_change_need_no_evaluation(process_name, steps, rng):
    """The plain loop that evaluates all of them has the same samples for the same random numbers, also of a
    network with input noise."""
    process, num, length = get_process(process_name, 4), 30, 5
    seed = int(torch.randint(10**6, (), generator=rng))
    network = tiny_network(process, length, rng, noise=2, noise_std=1.0)
    denoiser, generator = NetworkDenoiser(network, process), generator_for("cpu", seed)
    start = process.prior((num, length), generator)
    z, state, needed = start, generator.get_state(), 0
    for t, s in pairwise(time_grid(steps).expand(num, -1).unbind(1)):
        u, noise = uniform(z.shape, generator), denoiser.draw_noise(num, generator)
        where, x = process.may_change(z, u, s, t), z.clone()
        with torch.no_grad():
            log_x = denoiser(z, t.float(), noise)
        x[where] = categorical(log_x[where], generator)
        z = process.step(z, x, s, t, generator, u)
        needed += int(where.any(-1).sum())
    calls = []
    network.stem.register_forward_hook(lambda _, inputs, out: calls.append(len(out)))
    generator.set_state(state)
    assert torch.equal(denoise(denoiser, process, start, torch.ones(num), steps, generator), z)
    assert sum(calls) == num * steps, "what `denoise` costs is known beforehand"
    calls.clear()
    generator.manual_seed(seed)
    drawn = sample(denoiser, process, num, length, steps, generator=generator)
    if process_name == "uniform":
        assert torch.equal(drawn.tokens, z) and drawn.evaluations == needed / num
        assert sum(calls) == needed and (needed < num * steps or steps < 40)


@every_process
@pytest.mark.parametrize("steps", [1, 3])
def test_the_greedy_tail_takes_the_most_likely_classes_last(process_name, steps, rng):
    process, denoiser = table(process_name, rng, vocab_size=3)
    drawn = sample(denoiser, process, 200, 3, steps, generator=rng, greedy_tail=True, trajectory=True)
    before = drawn.trajectory[-2]
    best = denoiser(before, time_grid(steps)[-2].float().expand(len(before))).argmax(-1)
    assert torch.equal(drawn.tokens, best)
    plain = sample(denoiser, process, 200, 3, steps, generator=rng, trajectory=True)
    best = denoiser(plain.trajectory[-2], time_grid(steps)[-2].float().expand(200)).argmax(-1)
    assert not torch.equal(plain.tokens, best)


@every_process
def test_a_seed_gives_the_same_samples(process_name, rng):
    process, denoiser = table(process_name, rng)
    first, again, other = (
        sample(denoiser, process, 100, 3, 4, generator=generator_for("cpu", seed)).tokens
        for seed in (5, 5, 6)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


@every_process
def test_trajectory_leads_from_noise_to_the_samples(process_name, rng):
    process, denoiser = table(process_name, rng, length=4)
    drawn = sample(denoiser, process, 50, 4, 5, generator=rng, batch_size=20, trajectory=True)
    path = drawn.trajectory
    assert path.shape == (6, 50, 4) and torch.equal(path[-1], drawn.tokens)
    assert drawn.tokens.min() >= 0 and drawn.tokens.max() < process.vocab_size
    if process_name == "masked":
        assert (path[0] == process.mask).all()
        revealed = path[:-1] != process.mask
        assert torch.equal(path[1:][revealed], path[:-1][revealed])
        assert 0 < revealed[2].float().mean() < 1
    assert sample(denoiser, process, 2, 4, 5, generator=rng).trajectory is None


@every_process
def test_progress_counts_steps(process_name, rng):
    process, denoiser = table(process_name, rng)
    seen = []
    progress = {"progress": lambda done, total: seen.append((done, total))}
    sample(denoiser, process, 5, 3, 4, generator=rng, batch_size=2, **progress)
    if process_name == "uniform":
        assert seen == [(done, 12) for done in range(1, 13)]
    assert seen == sorted(seen) and seen[-1] == (12, 12) and all(total == 12 for _, total in seen)


def test_masked_sequences_do_not_wait_for_each_other(rng):
    """The denoiser is called as often as the busiest sequence needs, whatever the number of steps."""
    process, denoiser = table("masked", rng, length=5)
    calls = []
    forward = denoiser.forward
    denoiser.forward = lambda z, t, noise=None: calls.append(len(z)) or forward(z, t)
    drawn = sample(denoiser, process, 40, 5, 1000, generator=rng, batch_size=40)
    assert len(calls) <= 6 and sum(calls) == round(40 * drawn.evaluations)


def test_uniform_classes_are_drawn_only_where_they_matter(rng):
    """Other positions stay, whatever x is."""
    process = get_process("uniform", 5)
    z, x = (torch.randint(5, (4000, 3), generator=rng) for _ in range(2))
    s, t = (torch.full((4000,), v, dtype=torch.float64) for v in (0.4, 0.5))
    u = torch.rand(z.shape, generator=rng, dtype=torch.float64)
    changing = process.may_change(z, u, s, t)
    moved = process.step(z, x, s, t, rng, u)
    assert torch.equal(moved[~changing], z[~changing])
    # the share (t - s) / t becomes x; of the others, a part is drawn anew
    assert 0.2 < changing.double().mean() < 0.5


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"steps": 0}, "steps: 0 is not allowed"),
        ({"num": 0}, "num: 0 is not allowed"),
        ({"temperature": -1.0}, "temperature: -1.0 is not allowed"),
        ({"temperature": math.nan}, "temperature: nan is not allowed"),
        ({"top_p": 0.0}, "top_p: 0.0 is not allowed"),
        ({"top_p": 1.5}, "top_p: 1.5 is not allowed"),
    ],
)
def test_impossible_requests_are_refused(wrong, words, rng):
    process, denoiser = table("masked", rng)
    with pytest.raises(ValueError, match=words):
        sample(denoiser, process, **{"num": 2, "length": 3, "steps": 2, **wrong}, generator=rng)


class Broken(Table):
    """A table whose predictions are NaN, infinite or zero everywhere at times below one half."""

    def __init__(self, *arguments, value: float):
        super().__init__(*arguments)
        self.value = value

    def forward(self, z, t, noise=None):
        log_x = super().forward(z, t)
        broken = log_x.clone()
        broken[..., 0 if self.value > 0 or math.isnan(self.value) else slice(None)] = self.value
        return torch.where((t < 0.5)[:, None, None], broken, log_x)


@every_process
@pytest.mark.parametrize("value", (math.nan, math.inf, -math.inf))
@pytest.mark.parametrize("sharpening", ({}, {"temperature": 0.0}, {"temperature": 0.7, "top_p": 0.9}))
def test_a_prediction_that_is_no_distribution_ends_sampling_at_its_step(process_name, value, sharpening, rng):
    process = get_process(process_name, 3)
    denoiser = Broken(process, 3, rng, value=value)
    with pytest.raises(NonFinitePrediction, match=r"^step (4|5|6) of 6: the prediction is no distribution"):
        sample(denoiser, process, 200, 3, 6, generator=rng, **sharpening)
    assert (sample(denoiser, process, 20, 3, 2, generator=rng, **sharpening).tokens < 3).all()


@pytest.mark.parametrize(
    "z, t, words",
    [
        (torch.full((2, 3), -5), torch.ones(2), "z: tokens -5 to -5 are not allowed; they must be 0 to"),
        (torch.full((2, 3), 9), torch.ones(2), "z: tokens 9 to 9 are not allowed"),
        (torch.zeros(2, 3).long(), torch.ones(0), r"z: shape \[2, 3\] with t of \[0\] is not allowed"),
        (torch.zeros(2, 3).long(), torch.ones(1), r"z: shape \[2, 3\] with t of \[1\] is not allowed"),
        (torch.full((2,), math.nan), torch.ones(2), "z: .* is not allowed"),
        (torch.zeros(2, 3, dtype=torch.complex64), torch.ones(2), "z: .* is not allowed"),
    ],
)
@every_process
def test_what_is_no_noisy_sequence_is_refused_in_one_line(process_name, z, t, words, rng):
    process, denoiser = table(process_name, rng)
    calls = [
        lambda: denoise(denoiser, process, z, t, 2, rng),
        lambda: predict(denoiser, process, z, t, rng),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=f"^{words}") as error:
            call()
        assert "\n" not in str(error.value)
