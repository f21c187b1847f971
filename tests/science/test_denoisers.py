"""Denoisers: carry-over, two distributions and their conversion, foreign networks, temperature and top-p."""

import itertools
import math

import pytest
import torch
from helpers import every_process, make_process, tiny_network

from dmmd_lite.denoisers.base import OUTPUTS, NetworkDenoiser, to_leave_one_out, to_posterior
from dmmd_lite.denoisers.exact import ExactDenoiser
from dmmd_lite.denoisers.sharpening import Sharpened, sharpen
from dmmd_lite.processes import get_process
from dmmd_lite.processes.base import LOG_ZERO
from dmmd_lite.worlds import get_world

V, L = 5, 4


def random_log_probs(rng, *shape, dtype=torch.float64):
    """Random log-probabilities of V classes."""
    return torch.randn(*shape, V, generator=rng, dtype=dtype).log_softmax(-1)


def random_z(process, rng, batch=50):
    return torch.randint(process.num_symbols, (batch, L), generator=rng)


@every_process
def test_revealed_positions_are_known_and_the_rest_is_the_networks(process_name, rng):
    process = get_process(process_name, V)
    network = tiny_network(process, L, rng)
    z, t = random_z(process, rng), torch.rand(50, generator=rng)
    log_x = NetworkDenoiser(network, process)(z, t)
    expected = network(z, t).log_softmax(-1)
    if process_name == "masked":
        revealed = z != process.mask
        assert revealed.any() and not revealed.all()
        assert torch.equal(log_x.exp()[revealed], torch.nn.functional.one_hot(z[revealed], V).float())
        assert log_x.min() == LOG_ZERO
        log_x, expected = log_x[~revealed], expected[~revealed]
    torch.testing.assert_close(log_x, expected, rtol=0, atol=0)


@every_process
def test_posterior_and_leave_one_out_invert_each_other(process_name, rng):
    process, times = make_process(process_name, V)
    log_p, z = random_log_probs(rng, 50, L), random_z(process, rng)
    for t in times:
        t = t.expand(50)
        there = to_leave_one_out(to_posterior(log_p, z, t, process), z, t, process)
        back = to_posterior(to_leave_one_out(log_p, z, t, process), z, t, process)
        noisy = process.loss_mask(z)
        for same in (there, back):
            torch.testing.assert_close(same[noisy], log_p[noisy], rtol=0, atol=1e-12)
    if process_name == "uniform":
        assert (to_posterior(log_p, z, t, process) - log_p).abs().max() > 0.1


@every_process
def test_a_leave_one_out_network_is_converted_on_the_way_out(process_name, rng):
    process = get_process(process_name, V)
    network = tiny_network(process, L, rng)
    z, t = random_z(process, rng), torch.rand(50, generator=rng)
    log_x = NetworkDenoiser(network, process, "leave_one_out")(z, t)
    expected = process.carry_over(to_posterior(network(z, t).log_softmax(-1), z, t, process), z)
    torch.testing.assert_close(log_x, expected)
    torch.testing.assert_close(log_x.exp().sum(-1), torch.ones(50, L))


class Foreign(torch.nn.Module):
    """Somebody's network: V + 1 logits in half precision, the last for MASK and very large."""

    def forward(self, z, t):
        logits = torch.arange(V + 1.0).expand(*z.shape, -1) * t[:, None, None]
        return torch.cat([logits[..., :V], logits[..., V:] + 1000], -1).half()


@every_process
def test_any_module_will_do_and_its_mask_logit_is_ignored(process_name, rng):
    process = get_process(process_name, V)
    denoiser = NetworkDenoiser(Foreign(), process)
    z, t = torch.full((2, L), process.num_symbols - 1), torch.tensor([0.25, 1.0])
    assert denoiser.draw_noise(2, rng) is None
    expected = (torch.arange(V) * t[:, None, None]).log_softmax(-1).expand(2, L, V)
    torch.testing.assert_close(denoiser(z, t), expected)


@every_process
def test_noise_reaches_the_network_through_every_wrapper(process_name, rng):
    process = get_process(process_name, V)
    network = tiny_network(process, L, rng, noise=2)
    torch.nn.init.normal_(network.noise_projection.weight)
    denoiser = Sharpened(NetworkDenoiser(network, process), temperature=0.5)
    z, t = random_z(process, rng), torch.ones(50)
    first, second = (denoiser(z, t, denoiser.draw_noise(50, rng)) for _ in range(2))
    assert (first - second).abs().max() > 0.01


def test_exact_denoiser_needs_an_exact_world():
    with pytest.raises(
        ValueError, match="world: 'digits' is not allowed; its distribution is not known exactly"
    ):
        ExactDenoiser(get_world("digits"), get_process("masked", 17))
    with pytest.raises(ValueError, match="output: 'logits' is not allowed; choose one of"):
        NetworkDenoiser(Foreign(), get_process("masked", V), "logits")


def test_temperature(rng):
    log_x = random_log_probs(rng, 20, L, dtype=torch.float32)
    assert torch.equal(sharpen(log_x), log_x)
    torch.testing.assert_close(sharpen(log_x, 0.3), (log_x / 0.3).log_softmax(-1))
    coldest = sharpen(log_x, 0)
    for cold in (coldest, sharpen(log_x, 1e-39)):
        assert torch.equal(cold.exp(), torch.nn.functional.one_hot(log_x.argmax(-1), V).float())
    assert coldest.isfinite().all()


@pytest.mark.parametrize("top_p", [1e-6, 0.3, 0.62, 0.9, 0.999])
def test_top_p_keeps_the_smallest_set_that_reaches_p(top_p, rng):
    log_x = random_log_probs(rng, 20, L)
    subsets = [s for n in range(1, V + 1) for s in itertools.combinations(range(V), n)]
    for log_p, kept in zip(log_x.flatten(0, 1), sharpen(log_x, 1, top_p).flatten(0, 1), strict=True):
        reach = [s for s in subsets if log_p.exp()[list(s)].sum() >= top_p]
        smallest = [s for s in reach if len(s) == len(reach[0])]
        best = max(smallest, key=lambda s: log_p.exp()[list(s)].sum())
        inside = torch.zeros(V, dtype=torch.bool)
        inside[list(best)] = True
        expected = torch.where(inside, log_p.exp(), 0) / log_p.exp()[inside].sum()
        torch.testing.assert_close(kept.exp(), expected, rtol=0, atol=1e-12)


def test_delta_takes_a_fixed_factor_from_the_excluded(rng):
    log_x = random_log_probs(rng, 20, L)
    hard, soft = (sharpen(log_x, 0.7, 0.6, delta) for delta in (-LOG_ZERO, 2.0))
    inside = hard > LOG_ZERO / 2
    factor = soft - (log_x / 0.7)
    ratio = factor.masked_fill(inside, -math.inf).amax(-1) - factor.masked_fill(~inside, -math.inf).amax(-1)
    some = ~inside.all(-1)
    torch.testing.assert_close(ratio[some], torch.full_like(ratio[some], -2.0))
    for log_p in (hard, soft):
        torch.testing.assert_close(log_p.exp().sum(-1), torch.ones(20, L).double())


@pytest.mark.parametrize("temperature", [-0.1, math.nan, math.inf])
def test_bad_temperatures_are_refused(temperature):
    with pytest.raises(ValueError, match="^temperature: .* is not allowed; it must be a finite number, at"):
        sharpen(torch.zeros(1, 1, 2), temperature)


@pytest.mark.parametrize("top_p", [0.0, -0.1, 1.5, math.nan])
def test_bad_top_p_is_refused(top_p):
    with pytest.raises(ValueError, match=r"top_p: .* is not allowed; it must lie in \(0, 1\]"):
        Sharpened(ExactDenoiser(get_world("coins"), get_process("masked", 2)), top_p=top_p)


@pytest.mark.parametrize("output", OUTPUTS)
@every_process
def test_weights_are_the_prediction_where_there_is_noise(process_name, output, rng):
    process = get_process(process_name, V)
    model = NetworkDenoiser(tiny_network(process, L, rng), process, output)
    z, t = random_z(process, rng), torch.rand(50, generator=rng)
    h, noisy = model.hidden(z, t), process.loss_mask(z)
    weights = model.log_weights(h, z, t)[noisy]
    torch.testing.assert_close(weights.softmax(-1), model.log_x(h, z, t).exp()[noisy])
