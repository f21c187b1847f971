"""Worlds: laws that sum to one, samples that follow them, posteriors against brute-force Bayes."""

import platform

import pytest
import torch
from helpers import (
    LEAST_P,
    bayes,
    chi_square_p,
    every_process,
    make_process,
    position_laws,
    sequences,
    transition,
)

from dmmd_lite.denoisers.exact import log_posterior
from dmmd_lite.worlds import get_world
from dmmd_lite.worlds.digits import SPLITS
from dmmd_lite.worlds.docstrings import is_prose
from dmmd_lite.worlds.fit_markov import fit_transition_table
from dmmd_lite.worlds.markov import Markov, read_fit
from dmmd_lite.worlds.text import to_symbols

ENUMERABLE = {"coins": 0.6730116670092565, "parity": 1.3862943611198906, "permutations": 3.1780538303479458}
every_enumerable = pytest.mark.parametrize("name", sorted(ENUMERABLE))


def sequence_index(tokens, vocab_size):
    """Lexicographic index of every sequence."""
    return tokens @ vocab_size ** torch.arange(tokens.shape[1] - 1, -1, -1)


def assert_sampled(world, law, rng):
    tokens = world.sample(20_000, rng)
    counts = sequence_index(tokens, world.vocab_size).bincount(minlength=len(law))
    assert chi_square_p(counts[None], law[None]) > LEAST_P


def short_chain(rng):
    """A random chain of 3 symbols and length 4, all its sequences, and their law."""
    table = torch.rand(3, 3, generator=rng, dtype=torch.float64) + 0.05
    chain = Markov(4, table / table.sum(-1, keepdim=True))
    x = sequences(3, 4)
    return chain, x, chain.log_prob(x).exp()


def assert_posterior_is_bayes(world, x, law, process_name):
    """For every z of positive probability, to 1e-10."""
    process, (_, t) = make_process(process_name, world.vocab_size)
    z = sequences(process.num_symbols, world.length)
    p, evidence = bayes(x, law, z, transition(process, process.schedule.alpha(t)))
    z, p = z[evidence > 0], p[evidence > 0]
    log_x = log_posterior(world, z, t.expand(len(z)), process, floor=0)
    assert log_x.dtype == torch.float64
    torch.testing.assert_close(log_x.exp(), position_laws(x, p, world.vocab_size), rtol=0, atol=1e-10)


@every_enumerable
def test_enumerable_law(name, rng):
    world = get_world(name)
    assert world.exact and world.law().sum() == pytest.approx(1, abs=1e-15)
    assert world.entropy() == pytest.approx(ENUMERABLE[name], abs=1e-14)
    assert torch.equal(world.all_sequences(), sequences(world.vocab_size, world.length))
    assert_sampled(world, world.law(), rng)


@every_process
@every_enumerable
def test_enumeration_is_bayes(name, process_name):
    world = get_world(name)
    assert_posterior_is_bayes(world, world.all_sequences(), world.law(), process_name)


def test_impossible_z_gets_the_uniform_law_and_the_floor_holds():
    """Permutations: "aa.." cannot be, after "ab.." only c and d can; masks are 4."""
    process, (_, t) = make_process("masked", 4)
    z = torch.tensor([[0, 0, 4, 4], [0, 1, 4, 4]])
    x = log_posterior(get_world("permutations"), z, t.expand(2), process, floor=0.01).exp()
    first, uniform, c_or_d = [1, 0.01, 0.01, 0.01], [0.25] * 4, [0.01, 0.01, 0.5, 0.5]
    for law, expected in ((x[0, 0], first), (x[0, 2], uniform), (x[0, 3], uniform), (x[1, 3], c_or_d)):
        expected = torch.tensor(expected, dtype=torch.float64)
        torch.testing.assert_close(law, expected / expected.sum())


@every_process
def test_forward_backward_is_bayes(process_name, rng):
    assert_posterior_is_bayes(*short_chain(rng), process_name)


def test_chain_law_entropy_and_samples(rng):
    chain, x, law = short_chain(rng)
    assert law.sum() == pytest.approx(1, abs=1e-14)
    for length, p in ((4, law), (1, chain.stationary)):
        assert chain.entropy(length) == pytest.approx(float(-(p * p.log()).sum()), abs=1e-13)
    torch.testing.assert_close(chain.trigram_law(), law.reshape(3, 3, 3, 3).sum(0))
    torch.testing.assert_close(chain.trigram_law(), law.reshape(3, 3, 3, 3).sum(3))
    assert_sampled(chain, law, rng)


def test_fitted_chain_is_stationary_and_smoothed(rng):
    world = get_world("markov")
    assert (world.vocab_size, world.length, world.exact) == (27, 64, True)
    torch.testing.assert_close(world.table.sum(-1), torch.ones(27).double(), rtol=0, atol=1e-14)
    torch.testing.assert_close(world.stationary @ world.table, world.stationary, rtol=0, atol=1e-14)
    assert world.stationary.sum() == pytest.approx(1, abs=1e-14)
    assert world.table.min() > 0 and world.stationary.min() > 0
    tokens = world.sample(200, rng, length=100)
    assert tokens.shape == (200, 100)
    nats = -world.log_prob(tokens)
    assert abs(nats.mean() - world.entropy(100)) < 6 * nats.std() / 200**0.5
    assert world.show(torch.tensor([[20, 8, 5, 0, 26]])) == ["the z"]


@every_process
def test_forward_backward_on_long_chains_does_not_underflow(process_name, rng):
    world = get_world("markov")
    process, (s, t) = make_process(process_name, 27)
    x = world.sample(2, rng, length=1000)
    log_x = log_posterior(world, process.corrupt(x, torch.stack([s, t]), rng), torch.stack([s, t]), process)
    assert log_x.isfinite().all() and log_x.exp().min() > 0.9e-6
    torch.testing.assert_close(log_x.exp().sum(-1), torch.ones(2, 1000).double())


def test_data_file_names_its_source():
    fit = read_fit()
    counts = torch.tensor(fit["counts"])
    assert counts.shape == (27, 27) and counts.sum() == fit["characters"] - 1
    assert fit["smoothing"] == 0.5 and len(fit["sha256"]) == 64 and fit["python"] and fit["source"]


@pytest.mark.slow
def test_refit_gives_the_data_file():
    fit = read_fit()
    if fit["python"] != platform.python_version():
        pytest.skip(f"the chain is fitted on the docstrings of Python {fit['python']}")
    assert fit_transition_table() == fit


def test_prose_filter():
    sentence = "A sentence of plain words that ends as sentences do."
    assert is_prose(sentence)
    for spoilt in (
        sentence[:-1],
        "Too short a sentence.",
        ">>> " + sentence,
        sentence.upper(),
        sentence.title(),
        "a[0] = b[1] + c[2] * d[3] / e[4] and so on.",
    ):
        assert not is_prose(spoilt), spoilt
    assert to_symbols("It's 2 o'clock…  NOW") == "it s o clock now"


def test_digits_splits_are_disjoint(rng):
    world = get_world("digits")
    images = {split: world.split(split) for split in SPLITS}
    assert {split: len(x) for split, x in images.items()} == {"train": 1000, "valid": 297, "test": 500}
    assert len(torch.cat(list(images.values())).unique(dim=0)) == 1797
    for split, x in images.items():
        assert x.shape[1] == world.length and x.min() == 0 and x.max() == world.vocab_size - 1
        assert len(world.labels(split)) == len(x) and world.labels(split).unique().tolist() == list(range(10))
        drawn = world.sample(50, rng, split)
        assert (drawn.unsqueeze(1) == x).all(-1).any(-1).all()
    assert world.show(images["test"][:2])[0].shape == (8, 8)


def test_unknown_world_is_refused():
    with pytest.raises(ValueError, match="world: 'text8' is not allowed; choose one of"):
        get_world("text8")
