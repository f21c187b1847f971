"""Held positions, by enumeration: conditional posteriors, K-step distributions and bounds; every method."""

import copy

import pytest
import torch
from helpers import LEAST_P, Table, chi_square_p, every_process, every_schedule, frequencies, tiny_network
from torch import nn

from dmmd_lite.denoisers.base import NetworkDenoiser
from dmmd_lite.denoisers.conditioned import Conditioned
from dmmd_lite.denoisers.exact import ExactDenoiser, log_posterior
from dmmd_lite.objectives import METHODS
from dmmd_lite.objectives.likelihood_bound import likelihood_bound
from dmmd_lite.processes import Holding, get_process
from dmmd_lite.processes.block_autoregressive import BlockAutoregressive
from dmmd_lite.processes.schedules import time_grid
from dmmd_lite.sampling import sample
from dmmd_lite.utils.rng import generator_for
from dmmd_lite.worlds import get_world
from dmmd_lite.worlds.markov import Markov

CHAIN = Markov(3, torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.3, 0.3, 0.4]], dtype=torch.float64))
WORLDS = {"coins": 1, "parity": 1, "permutations": 2, "chain": 1}  # and how many positions are held


def outcomes_of(name):
    """A world, its outcomes [N, L] and their probabilities [N]."""
    if name == "chain":
        x = torch.cartesian_prod(*[torch.arange(3)] * 3)
        return CHAIN, x, CHAIN.log_prob(x).exp()
    world = get_world(name)
    return world, world.outcomes, world.probs


def condition(name, rng):
    """A world, a held set [L], its tokens [L], and the outcomes that have them with their probabilities."""
    world, x, p = outcomes_of(name)
    held = torch.zeros(world.length, dtype=torch.bool)
    held[torch.randperm(world.length, generator=rng)[: WORLDS[name]]] = True
    tokens = x[torch.randint(len(x), (), generator=rng)]
    fits = (x[:, held] == tokens[held]).all(-1)
    return world, held, tokens, x[fits], p[fits] / p[fits].sum()


@every_process
@pytest.mark.parametrize("name", WORLDS)
def test_the_posterior_is_bayes_given_what_is_held(name, process_name, rng):
    """p(x_l | z_t, held) by enumerating the outcomes that have the held tokens."""
    world, held, tokens, x, p = condition(name, rng)
    process, plain = (
        Holding(get_process(process_name, world.vocab_size)),
        get_process(process_name, world.vocab_size),
    )
    t = torch.full((40,), 0.6, dtype=torch.float64)
    z = process.corrupt(process.hold(x, held)[torch.multinomial(p, 40, True, generator=rng)], t, rng)
    likelihood = plain.likelihood(process.classes(z), t)[:, ~held]  # [B, free, V]
    joint = p * torch.stack([likelihood[:, i, x[:, ~held][:, i]] for i in range(likelihood.shape[1])]).prod(0)
    expected = torch.einsum(
        "bn,nlv->blv",
        joint / joint.sum(-1, keepdim=True),
        nn.functional.one_hot(x, world.vocab_size).double(),
    )
    found = log_posterior(world, z, t, process, floor=0).exp()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@every_schedule
@every_process
def test_steps_are_those_of_the_process_and_what_is_held_stays(process_name, schedule, rng):
    plain = get_process(process_name, 4, schedule)
    process = Holding(plain)
    x, held = torch.randint(4, (500, 6), generator=rng), torch.rand(500, 6, generator=rng) < 0.4
    marked = process.hold(x, held)
    assert torch.equal(process.classes(marked), x) and torch.equal(process.held(marked), held)
    t, s = (torch.full((500,), v, dtype=torch.float64) for v in (0.8, 0.3))
    state = rng.get_state()
    z = process.corrupt(marked, t, rng)
    z_s = process.step(z, x, s, t, rng)
    rng.set_state(state)
    free = plain.corrupt(x, t, rng)
    assert torch.equal(torch.where(held, x, free), process.classes(z))
    assert torch.equal(process.held(z), held) and torch.equal(process.held(z_s), held)
    assert torch.equal(process.classes(z_s)[held], x[held])
    assert not process.loss_mask(z)[held].any()
    assert torch.equal(process.loss_mask(z)[~held], plain.loss_mask(free)[~held])
    q = process.posterior(z, x, s, t)
    torch.testing.assert_close(q.sum(-1), torch.ones(500, 6).double())
    torch.testing.assert_close(q[..., : plain.num_symbols][~held], plain.posterior(free, x, s, t)[~held])
    assert (q.gather(-1, z.unsqueeze(-1))[held] == 1).all()


def conditional_law(denoiser, process, held, tokens, steps):
    """The distribution of K-step samples given what is held, over all sequences, by pushing probabilities."""
    symbols, length = process.first, len(held)
    free = int((~held).sum())
    fill = torch.cartesian_prod(*[torch.arange(symbols)] * free).reshape(-1, free)
    states = (tokens + process.first).expand(len(fill), -1).clone()
    states[:, ~held] = fill
    start = process.process.likelihood(torch.arange(symbols)[:, None], torch.ones(symbols).double())[:, 0, 0]
    p = start[fill].prod(-1)
    for t, s in zip(time_grid(steps)[:-1], time_grid(steps)[1:], strict=True):
        log_x = denoiser(states, t.float().expand(len(states)))[:, ~held].double()
        every = torch.arange(process.vocab_size).expand(len(states), length, -1)
        moves = [
            process.process.posterior(
                fill, torch.full_like(fill, c), s.expand(len(fill)), t.expand(len(fill))
            )
            for c in every[0, 0]
        ]
        step = torch.einsum("nlx,xnlc->nlc", log_x.softmax(-1), torch.stack(moves))
        onward = torch.stack([step[:, i, fill[:, i]] for i in range(free)]).prod(0)  # [from, to]
        p = p @ onward
    clean = (fill < process.vocab_size).all(-1)
    return fill[clean], p[clean]


@every_process
@pytest.mark.parametrize("steps", (1, 2, 5))
@pytest.mark.parametrize("kind", ("exact", "random", "unconditional"))
def test_samples_have_the_conditional_distribution(kind, process_name, steps, rng):
    world, held, tokens, x, p = condition("permutations", rng)
    plain = get_process(process_name, 4)
    process = Holding(plain)
    if kind == "exact":
        denoiser = ExactDenoiser(world, process)
    elif kind == "random":  # a conditional model: what it predicts depends on which positions are held
        denoiser = Conditioned(Table(plain, 4, rng), process)
        inner, process_of = denoiser.denoiser.forward, process
        denoiser.hidden = lambda z, t, noise=None: (
            inner(process_of.classes(z), t) + process_of.held(z)[..., None] * 0.7
        )
    else:
        denoiser = Conditioned(Table(plain, 4, rng), process)
    drawn = sample(denoiser, process, 20_000, 4, steps, generator=rng, held=held, tokens=tokens).tokens
    assert torch.equal(drawn[:, held], tokens[held].expand(len(drawn), -1))
    fill, law = conditional_law(denoiser, process, held, tokens, steps)
    counts = frequencies(drawn[:, ~held], 4)
    assert chi_square_p(counts[None], law[None]) > LEAST_P


@pytest.mark.parametrize("name", WORLDS)
def test_an_unconditional_masked_model_is_exact_given_what_is_held(name, rng):
    """It predicts the conditional posterior from MASK and held tokens; with uniform noise it does not."""
    world, held, tokens, x, p = condition(name, rng)
    for process_name, exact in (("masked", True), ("uniform", False)):
        plain = get_process(process_name, world.vocab_size)
        process = Holding(plain)
        z = process.like(process.prior((50, world.length), rng), process.hold(tokens, held).expand(50, -1))
        t = torch.full((50,), 0.7)
        found = Conditioned(ExactDenoiser(world, plain), process)(z, t)
        difference = (found.exp() - ExactDenoiser(world, process)(z, t).exp()).abs().max()
        assert difference < 1e-5 if exact else difference > 0.02


@every_process
@pytest.mark.parametrize("name", WORLDS)
def test_the_bound_of_the_exact_denoiser_is_the_conditional_entropy(name, process_name):
    world, held, _, _, _ = condition(name, generator_for("cpu", 1))
    _, x, p = outcomes_of(name)
    process, rng = Holding(get_process(process_name, world.vocab_size)), generator_for("cpu", 2)
    groups = torch.unique(x[:, held], dim=0, return_inverse=True)[1]
    of_group = torch.zeros(int(groups.max()) + 1, dtype=torch.float64).index_add(0, groups, p)
    entropy = -(p * (p / of_group[groups]).log()).sum()
    rows = torch.multinomial(p, 4000, True, generator=rng)
    nats = likelihood_bound(
        ExactDenoiser(world, process, 1e-9), process, process.hold(x[rows], held), rng, 16
    )
    assert abs(nats.mean() - entropy) < 5 * nats.std() / len(nats) ** 0.5 + 1e-6


@every_process
def test_holding_nothing_changes_no_bit_and_holding_everything_costs_nothing(process_name, rng):
    plain = get_process(process_name, 4)
    denoiser = Table(plain, 3, rng)
    nothing, everything = torch.zeros(3, dtype=torch.bool), torch.ones(3, dtype=torch.bool)
    tokens = torch.tensor([3, 0, 2])
    runs = [
        sample(denoiser, plain, 50, 3, 4, generator=generator_for("cpu", 5), **options)
        for options in ({}, {"held": nothing, "tokens": tokens}, {"held": everything, "tokens": tokens})
    ]
    assert torch.equal(runs[0].tokens, runs[1].tokens) and runs[0].evaluations == runs[1].evaluations
    assert torch.equal(runs[2].tokens, tokens.expand(50, -1)) and runs[2].evaluations == 0


def test_blocks_hold_prompts_that_end_inside_a_block(rng):
    """Every block keeps its held tokens, and the others have the distribution of the plain chain."""
    plain = BlockAutoregressive(get_process("masked", 2), 2)
    held, tokens = torch.tensor([True, True, True, False]), torch.tensor([1, 0, 1, 0])
    denoiser = Table(plain.process, 4, rng)
    denoiser.forward = lambda z, t, noise=None: plain.carry_over(
        torch.tensor([0.3, 0.7]).log().expand(*z.shape, 2), z
    )
    drawn = sample(denoiser, plain, 20_000, 4, 2, generator=rng, held=held, tokens=tokens).tokens
    assert torch.equal(drawn[:, :3], tokens[:3].expand(20_000, -1))
    assert chi_square_p(frequencies(drawn[:, 3:], 2)[None], torch.tensor([[0.3, 0.7]])) > LEAST_P


def built(role, process, network, **settings):
    """A method on networks like `network`, of which the teacher does not learn."""
    spec = METHODS[role]
    chosen = spec.settings(steps=2, **settings)

    def fresh(noise=True):
        return NetworkDenoiser(copy.deepcopy(network), spec.process(chosen, process))

    return spec.make(
        chosen, fresh, NetworkDenoiser(copy.deepcopy(network), process).requires_grad_(False), process
    )


DEFINED = [(role, process) for role, spec in METHODS.items() for process in spec.processes if role != "redi"]


@pytest.mark.parametrize("role, process_name", DEFINED)
def test_every_method_learns_nothing_where_positions_are_held(role, process_name, rng):
    """The loss of held positions is 0; with nothing held losses are those of the plain process."""
    plain = get_process(process_name, 4)
    network = tiny_network(plain, 3, rng, noise=2, hold=True)
    x = torch.randint(4, (32, 3), generator=rng)
    for step in range(2):
        found = []
        for process in (plain, Holding(plain)):
            found.append(built(role, process, network).losses(step, x, generator_for("cpu", 3)))
        assert str(found[0]) == str(found[1])
    holding = Holding(plain)
    marked = holding.hold(x, torch.ones_like(x, dtype=torch.bool))
    terms = built(role, holding, network).losses(0, marked, generator_for("cpu", 3))
    assert all(float(v.detach()) == 0 for values in terms.values() for v in values.values())
    half = holding.hold(x, torch.rand(x.shape, generator=rng) < 0.5)
    terms = built(role, holding, network).losses(0, half, generator_for("cpu", 3))
    assert all(v.isfinite() for values in terms.values() for v in values.values())


def test_methods_and_settings_without_held_positions_say_so(rng):
    process = Holding(get_process("masked", 4))
    network = tiny_network(process, 3, rng)
    with pytest.raises(ValueError, match="^holds: True is not allowed for ReDi"):
        built("redi", process, network)
    relaxed = {"tau": 0.1, "form": "reverse_kernel", "target": "soft", "reverse": "forward", "anchor": False}
    for name, settings in (("masked", {"reverse": "count"}), ("uniform", relaxed)):
        process = Holding(get_process(name, 4))
        with pytest.raises(ValueError, match="is not allowed with held positions$"):
            built("dmmd", process, tiny_network(process, 3, rng), **settings)


def test_networks_see_what_is_held_or_need_not(rng):
    """A learned vector, zero at first; a module of the user's with an argument `held`; one without."""
    plain = get_process("masked", 4)
    process = Holding(plain)
    network = tiny_network(plain, 3, rng, hold=True)
    z, t = torch.tensor([[4, 1, 2]]), torch.tensor([0.5])
    marked, denoiser = process.hold(z, z < 4), NetworkDenoiser(network, process)
    network.stem.hold.data.zero_()
    torch.testing.assert_close(denoiser(marked, t), denoiser(z, t))
    network.stem.hold.data.normal_(generator=rng)
    assert (denoiser(marked, t)[0, 0] - denoiser(z, t)[0, 0]).abs().max() > 1e-3

    class Own(nn.Module):
        def forward(self, z, t, held):
            return nn.functional.one_hot(z + held, 6).float()[..., :4]

    class Other(nn.Module):
        def forward(self, z, t):
            return nn.functional.one_hot(z, 6).float()[..., :4]

    assert NetworkDenoiser(Own(), process).hidden(marked, t).argmax(-1).tolist()[0][1:] == [2, 3]
    assert NetworkDenoiser(Other(), process).hidden(marked, t).argmax(-1).tolist()[0][1:] == [1, 2]


def test_replacement_under_uniform_noise_is_an_approximation_that_steps_improve(rng):
    """Its total variation from the conditional distribution, beside that of the conditional denoiser."""
    world, held, tokens, x, p = condition("permutations", rng)
    truth = torch.zeros(4**4, dtype=torch.float64)
    truth[x @ 4 ** torch.arange(3, -1, -1)] = p
    plain = get_process("uniform", 4)

    def distance(denoiser, process, steps):
        options = {"generator": rng, "held": held, "tokens": tokens}
        drawn = sample(denoiser, process, 4000, 4, steps, **options).tokens
        return float((frequencies(drawn, 4) / 4000 - truth).abs().sum() / 2)

    few, many = (distance(ExactDenoiser(world, plain), plain, steps) for steps in (4, 64))
    conditional = distance(ExactDenoiser(world, Holding(plain)), Holding(plain), 64)
    assert conditional + 0.03 < many < few - 0.1
