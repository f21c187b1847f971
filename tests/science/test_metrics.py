"""Metrics: exact laws against hand calculation and sampling, known formulas, floors, intervals, errors."""

import itertools
import json
import math
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import LEAST_P, chi_square_p, every_process

from dmmd_lite.denoisers.base import Denoiser
from dmmd_lite.denoisers.exact import ExactDenoiser
from dmmd_lite.metrics import chain, classifier, diversity, entropy, feature_distances, features
from dmmd_lite.metrics.classifier import RECIPE, train_classifier
from dmmd_lite.metrics.exact_laws import exact_law, exact_metrics, invalid_mass, kl, total_variation
from dmmd_lite.metrics.judges import chain_judge
from dmmd_lite.metrics.suite import METRICS, Metric, evaluate_samples, metrics_for
from dmmd_lite.processes import get_process
from dmmd_lite.sampling import sample
from dmmd_lite.utils.paths import data_dir
from dmmd_lite.utils.records import Record
from dmmd_lite.worlds import WORLDS, get_world
from dmmd_lite.worlds.base import World
from dmmd_lite.worlds.text import encode_symbols


def exact(world_name, process_name):
    """A world, a process on it, and the true posterior."""
    world = get_world(world_name)
    process = get_process(process_name, world.vocab_size)
    return world, process, ExactDenoiser(world, process)


def frequencies(samples, world):
    """How often each sequence was sampled, in the order of `all_sequences`."""
    powers = world.vocab_size ** torch.arange(world.length - 1, -1, -1)
    return (samples.tokens @ powers).bincount(minlength=world.vocab_size**world.length)


def assert_contains(record):
    assert record.low - 1e-12 <= record.value <= record.high + 1e-12, record


class NoisyCoins(Denoiser):
    """Shows HH with certainty where a uniform noise input is below 0.6, TT elsewhere."""

    def draw_noise(self, batch, generator):
        return torch.rand(batch, generator=generator)

    def forward(self, z, t, noise=None):
        heads = (noise < 0.6).float()
        return torch.stack([heads, 1 - heads], -1).clamp(min=1e-9).log()[:, None].expand(-1, 2, -1)


@every_process
@pytest.mark.parametrize("world_name", ["coins", "parity", "permutations"])
def test_exact_law_is_the_law_of_the_sampler(world_name, process_name, rng):
    world, process, denoiser = exact(world_name, process_name)
    law = exact_law(denoiser, process, world, 3, 0, rng)
    assert law.shape == (1, world.vocab_size**world.length)
    assert law.sum() == pytest.approx(1, abs=1e-12)
    drawn = sample(denoiser, process, 20_000, world.length, 3, generator=rng)
    assert chi_square_p(frequencies(drawn, world)[None], law) > LEAST_P


@every_process
def test_one_step_is_the_product_of_the_marginals(process_name):
    world, process, denoiser = exact("coins", process_name)
    distance, divergence, invalid = exact_metrics(denoiser, process, world, 1)
    assert distance.value == pytest.approx(0.48, abs=1e-6)
    assert invalid.value == pytest.approx(0.48, abs=1e-6)
    assert divergence.value == pytest.approx(0.673012, abs=1e-5)  # the total correlation
    assert (distance.low, distance.high, distance.n) == (None, None, 0)


@every_process
def test_distance_of_the_exact_denoiser_falls_as_one_over_steps(process_name, rng):
    world, process, denoiser = exact("coins", process_name)
    scaled = []
    for steps in (4, 8, 16, 32, 64):
        law = exact_law(denoiser, process, world, steps, 0, rng)[0]
        distance, invalid = float(total_variation(law, world)), float(invalid_mass(law, world))
        assert distance == pytest.approx(invalid, abs=1e-4)
        scaled.append(steps * distance)
    assert max(scaled) < 1.1 * min(scaled)
    if process_name == "masked":
        assert scaled == pytest.approx([0.48] * 5, abs=1e-3)


def test_distances_of_given_laws():
    coins = get_world("coins")
    collapsed = torch.tensor([[1.0, 0, 0, 0], [0.6, 0, 0, 0.4]], dtype=torch.float64)
    assert total_variation(collapsed, coins).tolist() == pytest.approx([0.4, 0])
    assert invalid_mass(collapsed, coins).tolist() == [0, 0]
    finite = 0.6 * math.log(0.6) + 0.4 * math.log(0.4 / 1e-12)
    assert kl(collapsed, coins).tolist() == pytest.approx([finite, 0], abs=1e-12)


def test_noise_input_makes_one_step_exact(rng):
    world, process = get_world("coins"), get_process("masked", 2)
    records = exact_metrics(NoisyCoins(), process, world, 1, seed=rng.initial_seed())
    for record in records:
        assert_contains(record)
        assert record.value < 0.03 and record.n == 16384


def test_noise_is_drawn_afresh_each_step(rng):
    """Two steps with coins that are thrown again: HH and TT lose to the mixed outcomes."""
    world, process = get_world("coins"), get_process("masked", 2)
    law = exact_law(NoisyCoins(), process, world, 2, 2**15, rng).mean(0)
    by_hand = torch.tensor([0.6 * 0.8, 0.12, 0.12, 0.4 * 0.7]).double()  # half the time in different steps
    torch.testing.assert_close(law, by_hand, rtol=0, atol=0.02)
    assert law.sum() == pytest.approx(1, abs=1e-6)


def two_samples(rng, n=300, m=200, d=4):
    return [torch.randn(size, d, generator=rng).double().numpy() for size in (n, m)]


def test_frechet_formula():
    m1, m2 = np.array([0.0, 1.0]), np.array([2.0, 1.5])
    c1, c2 = np.array([[2.0, 0.6], [0.6, 1.0]]), np.array([[1.0, -0.3], [-0.3, 0.5]])
    trace_root = math.sqrt(np.trace(c1 @ c2) + 2 * math.sqrt(np.linalg.det(c1 @ c2)))  # 2 x 2 matrices
    expected = 4.25 + 3 + 1.5 - 2 * trace_root
    assert feature_distances.frechet_gaussian(m1, c1, m2, c2) == pytest.approx(expected, abs=1e-12)
    assert feature_distances.frechet_gaussian(m1, c1, m1, c1) == pytest.approx(0, abs=1e-12)
    one = [np.array([3.0]), np.array([[4.0]]), np.array([1.0]), np.array([[0.25]])]
    assert feature_distances.frechet_gaussian(*one) == pytest.approx(2**2 + (2 - 0.5) ** 2)


def test_frechet_of_singular_covariances():
    c = np.outer([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    assert feature_distances.frechet_gaussian(np.zeros(3), c, np.ones(3), c) == pytest.approx(3, abs=1e-6)


def test_frechet_ignores_order_and_is_zero_on_itself(rng):
    x, y = two_samples(rng)
    order = torch.randperm(len(x), generator=rng).numpy()
    assert feature_distances.frechet(x[order], y).value == pytest.approx(
        feature_distances.frechet(x, y).value, abs=1e-10
    )
    assert feature_distances.frechet(x, x).value == pytest.approx(0, abs=1e-10)


def test_a_frechet_distance_is_extrapolated_to_infinitely_many_samples(rng):
    """Of the distribution that the reference has, where all of a distance is due to n being finite; the mean
    over sets of samples, each of which has its own noise."""
    mean, covariance = np.zeros(8), np.eye(8)
    sets = [torch.randn(400, 8, generator=rng).double().numpy() for _ in range(40)]
    values, limits = [], []
    for x in sets:
        found = feature_distances.frechet_gaussian(
            *feature_distances.mean_and_covariance(x), mean, covariance
        )
        values.append(found)
        limits.append(feature_distances.extrapolated(x, (mean, covariance), found))
    assert np.mean(values) > 0.03 and abs(np.mean(limits)) < np.mean(values) / 4
    assert feature_distances.frechet(sets[0][:31], sets[1]).details == {"infinite_n": None}


def test_kernel_distance_is_the_mean_over_pairs_and_unbiased(rng):
    def kernel(a, b):
        return (a @ b / 4 + 1) ** 3

    x, y = two_samples(rng, n=7, m=5)
    within = [np.mean([kernel(a, b) for a, b in itertools.permutations(s, 2)]) for s in (x, y)]
    across = np.mean([kernel(a, b) for a in x for b in y])
    assert feature_distances.kernel_distance(x, y).value == pytest.approx(sum(within) - 2 * across, abs=1e-12)
    values = [feature_distances.kernel_distance(*two_samples(rng, n=40, m=40)).value for _ in range(100)]
    assert abs(np.mean(values)) < 5 * np.std(values) / 10


def test_class_histogram_by_hand():
    """Shares 1/2, 1/2, 0 against 1/4, 1/4, 1/2; and everything in one class."""
    reference = np.array([0, 1, 2, 2])
    record = feature_distances.class_histogram(np.array([0, 1] * 50), reference, 3)
    assert record.value == pytest.approx(0.5) and record.low <= 0.5 <= record.high
    assert record.details["shares"] == [0.5, 0.5, 0.0]
    assert record.details["reference_shares"] == [0.25, 0.25, 0.5]
    assert feature_distances.class_histogram(np.full(10, 1), reference, 3).value == pytest.approx(0.75)


def test_class_histogram_of_digits_tells_one_digit_from_all():
    digits = get_world("digits")
    guesses = features.load_features(get_world("digits")).classes(digits.split("test"))
    threes = digits.split("test")[guesses == 3]
    (real,) = evaluate_samples(digits.split("train"), digits, ["class_histogram"])
    (collapsed,) = evaluate_samples(threes, digits, ["class_histogram"])
    assert real.value < 0.1 and collapsed.value > 0.8
    assert collapsed.details["extractor"] == features.load_features(get_world("digits")).name


def test_coverage_and_density_by_hand():
    reference = np.arange(7.0)[:, None]  # distances to the fifth nearest other: 5 4 3 3 3 4 5
    samples = np.array([[0.0], [100.0]])
    assert feature_distances.coverage(samples, reference).value == pytest.approx(
        4 / 7
    )  # 0, 1, 2 and 3 reach 0
    assert feature_distances.density(samples, reference).value == pytest.approx(4 / 5 / 2)


@pytest.fixture(scope="module")
def digits():
    """Features of the three splits, and of one class of the training images."""
    world, extract = get_world("digits"), features.load_features(get_world("digits"))
    sets = {split: extract(world.split(split)) for split in ("train", "valid", "test")}
    return sets | {"threes": sets["train"][world.labels("train").numpy() == 3]}


def test_features_are_standardised_on_the_training_images(digits):
    assert digits["train"].shape == (1000, 32) and digits["train"].dtype == np.float64
    np.testing.assert_allclose(digits["train"].mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(digits["train"].std(0), 1, atol=1e-2)


def test_real_images_are_close_and_one_class_is_not(digits):
    real, threes, test = digits["train"], digits["threes"], digits["test"]
    assert feature_distances.coverage(real, test).value > 0.95
    assert 0.05 < feature_distances.coverage(threes, test).value < 0.2
    assert feature_distances.density(real, test).value == pytest.approx(1, abs=0.15)
    assert (
        abs(feature_distances.kernel_distance(real, test).value)
        < 0.05
        < feature_distances.kernel_distance(threes, test).value
    )
    floor = feature_distances.frechet_floor(real, test)
    assert floor.name == "frechet_floor" and 0 < floor.value < 1
    assert floor.details["infinite_n"] < floor.value
    assert feature_distances.frechet(threes, test).value > 10 * floor.value


def test_copies_of_training_images_are_found():
    world = get_world("digits")
    train, valid, test = (world.split(split) for split in ("train", "valid", "test"))
    copies = feature_distances.nearest_training(train[:100], train, test)
    assert copies.value == 1 and copies.details["exact_copies"] == 1
    one_pixel = train[:100].clone()
    one_pixel[:, 0] = (one_pixel[:, 0] + 8) % 17
    near = feature_distances.nearest_training(one_pixel, train, test)
    assert near.value == 1 and near.details["exact_copies"] == 0
    held_out = feature_distances.nearest_training(valid, train, test)
    assert held_out.value < 0.1 and held_out.details["held_out_rate"] == pytest.approx(0.05, abs=0.005)


def test_released_classifier_is_what_its_provenance_says():
    provenance = json.loads((data_dir() / "models" / "digits-classifier.json").read_text())
    world, extract = get_world("digits"), features.load_features(get_world("digits"))
    assert extract.name == f"digits-classifier-{provenance['sha256'][:8]}"
    accuracy = (extract.classes(world.split("test")) == world.labels("test").numpy()).mean()
    assert accuracy == pytest.approx(provenance["accuracy"]["test"], abs=0.003) and accuracy > 0.97


def test_classifier_training_repeats():
    world, recipe = get_world("digits"), RECIPE | {"epochs": 1}
    x, y = world.split("train"), world.labels("train")
    first, second = (train_classifier(x, y, world, recipe).state_dict() for _ in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("spoilt", ["digits-classifier.safetensors", "digits-classifier.json"])
def test_corrupt_classifier_is_refused(spoilt, tmp_path, monkeypatch):
    shutil.copytree(data_dir() / "models", tmp_path / "models")
    path = tmp_path / "models" / spoilt
    path.write_bytes(path.read_bytes()[:-1000])
    monkeypatch.setattr(classifier, "data_dir", lambda: tmp_path)
    with pytest.raises(
        ValueError, match=r"^features: \S+digits-classifier.safetensors or its .json is corrupt .*$"
    ):
        features.load_features.__wrapped__(get_world("digits"))


def test_exact_text_scores_the_chains_own_values(rng):
    world = get_world("markov")
    names = ["log_likelihood", "ngram_divergence"]
    likelihood, ngrams = evaluate_samples(world.sample(2000, rng), world, names)
    assert likelihood.value == pytest.approx(likelihood.details["chain"], abs=0.02)
    assert ngrams.value == pytest.approx(ngrams.details["floor"], rel=0.1)
    noise = torch.randint(27, (500, 64), generator=rng)
    likelihood, ngrams = evaluate_samples(noise, world, names)
    assert likelihood.value < likelihood.details["chain"] - 1
    assert ngrams.value > 2 * ngrams.details["floor"]


def test_ngram_floor_shrinks_with_samples():
    world = get_world("markov")
    few, many = (chain.ngram_divergence_floor(n, 64, world, repeats=2) for n in (100, 1600))
    assert many < few / 2


def test_sample_entropy_of_known_sequences():
    tokens = torch.tensor([[3, 3, 3, 3], [0, 1, 2, 3], [0, 0, 1, 1]])
    expected = (0 + math.log(4) + math.log(2)) / 3
    assert entropy.sample_entropy(tokens).value == pytest.approx(expected, abs=1e-12)


def test_output_entropy_of_the_exact_denoiser(rng):
    """At t = 1 nothing is known: the entropy of the stationary law. Less where something is seen."""
    world, process, denoiser = exact("markov", "masked")
    tokens = world.sample(20, rng)
    record = entropy.output_entropy(denoiser, process, tokens, [1.0], rng)
    stationary = float(torch.special.entr(world.stationary).sum())
    assert record.value == pytest.approx(stationary, abs=1e-3)
    later = entropy.output_entropy(denoiser, process, tokens, [1.0, 0.5], rng)
    assert_contains(later)
    assert later.value < stationary - 0.05 and later.details == {"times": [1.0, 0.5]}


def test_output_entropy_counts_every_position_of_uniform_noise(rng):
    world, process, denoiser = exact("coins", "uniform")
    tokens = torch.zeros(5, 2, dtype=torch.int64)
    expected = -(0.6 * math.log(0.6) + 0.4 * math.log(0.4))
    record = entropy.output_entropy(denoiser, process, tokens, [1.0], rng)
    assert record.value == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("world_name", ["markov", "digits"])
def test_every_sample_metric_gives_a_record_with_its_interval(world_name, rng):
    world = get_world(world_name)
    tokens = world.sample(200, rng, "valid")
    names = [name for name in metrics_for(world) if name != "output_entropy"]
    judge = chain_judge(world) if world_name == "markov" else None
    records = evaluate_samples(tokens, world, names, judge=judge)
    assert [record.name for record in records] == names
    for record in records:
        assert_contains(record)
        others = {"frechet_floor": 1000, "gradient_moment": 192}  # training images; 32 blocks of 6
        assert record.n == others.get(record.name, 200) and record.reference
        json.dumps(replace(record, world=world.name).to_dict(), allow_nan=False)
    assert evaluate_samples(tokens, world, names, judge=judge) == records


def test_digits_records_name_the_extractor(rng):
    world = get_world("digits")
    record = evaluate_samples(world.sample(50, rng), world, ["frechet"], split="valid")[0]
    extractor = features.load_features(get_world("digits")).name
    assert record.details == {"infinite_n": None, "extractor": extractor, "split": "valid"}
    assert record.reference == "297 held-out images"


def test_a_metric_is_one_row(rng, monkeypatch):
    """And a world says by its traits and its extractor what applies to it, without a table in the metrics."""

    class Toy(World):
        name, vocab_size, length = "toy", 3, 4
        traits, extractor = frozenset({"features", "toys"}), "one-hot"

        def sample(self, num, generator, split="train"):
            return torch.randint(3, (num, 4), generator=generator)

    def zeros(tokens, world, seed, split):
        return Record("zeros", float((tokens == 0).double().mean()), 0.0, 1.0, len(tokens), split)

    def gap(samples, reference):
        return Record("gap", float(samples.mean() - reference.mean()), None, None, len(samples), "toys")

    monkeypatch.setitem(METRICS, "zeros", Metric("zeros", "tokens", "toys", zeros))
    monkeypatch.setitem(METRICS, "gap", Metric("gap", "features", "features", gap, default=False))
    toy = Toy()
    names = ["gap", "zeros", "coverage"]
    assert set(names) <= set(metrics_for(toy)) and "zeros" not in metrics_for(get_world("coins"))
    first, second, third = evaluate_samples(toy.sample(50, rng), toy, names, split="valid")
    assert first.details == {"extractor": "one-hot tokens", "split": "valid"}
    assert first.value == pytest.approx(0, abs=1e-12) and 0 < second.value < 1
    assert third.reference == "2000 held-out sequences"
    with pytest.raises(ValueError, match="^needs: 'luck' is not allowed; choose one of"):
        Metric("lucky", "luck", "any", zeros)


def test_every_metric_applies_somewhere():
    assert {name for world in WORLDS for name in metrics_for(get_world(world))} == set(METRICS)


def test_bad_requests_are_refused(rng):
    coins, digits = get_world("coins"), get_world("digits")
    for world, name in ((coins, "fid"), (coins, "total_variation"), (digits, "log_likelihood")):
        allowed = [known for known in metrics_for(world) if METRICS[known].of_samples]
        message = f"metric: '{name}' is not allowed for samples of {world.name}; choose from {allowed}"
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            evaluate_samples(world.sample(10, rng), world, [name])
    with pytest.raises(ValueError, match="samples: 1 is not allowed"):
        evaluate_samples(digits.sample(1, rng), digits, ["frechet"])
    with pytest.raises(
        ValueError, match="^features: world 'coins' is not allowed; it has no feature extractor$"
    ):
        features.load_features(coins)


def letters(*rows):
    """Strings of the 27 symbols as tokens [n, L]."""
    return torch.stack([encode_symbols(row) for row in rows]).long()


def test_diversity_of_known_strings():
    tokens = letters("abababab", "abab cde")
    grams = ["abab", "baba", "abab", "baba", "abab", "abab", "bab ", "ab c", "b cd", " cde"]
    assert diversity.distinct_4grams(tokens).value == len(set(grams)) / len(grams)
    assert diversity.repetition(tokens).value == (3 / 5 + 0) / 2
    words = letters(" the cat  sat", "le the sat on", "onelongerword")
    assert diversity.distinct_words(words).value == 3 / 4  # the cat the sat; what an end may cut is left out
    assert diversity.distinct_words(letters("abcd", "efgh")).value == 0
    run = "abcdefghijklmnopqrstuvwxyzabcdef"  # 32 symbols
    samples = letters(f"xx{run}zz", f"{run}qqqq", f"{run[:31]}qqqqq", "y" * 36)
    record = diversity.duplicates(samples, reference=samples[2:])
    assert record.value == 1 / 2 and record.details == {"real": 0, "n_real": 2}
    with pytest.raises(ValueError, match="^length: 8 is not allowed; a run has 32 tokens$"):
        diversity.duplicates(tokens)


def test_diversity_agrees_with_counting(rng):
    """Few symbols, so that everything repeats."""
    tokens = torch.randint(2, (9, 41), generator=rng)
    tokens[4, 3:36] = tokens[7, 5:38]
    rows = [tuple(row) for row in tokens.tolist()]
    grams, long = ([[row[i : i + k] for i in range(42 - k)] for row in rows] for k in (4, 32))
    everything = [gram for row in grams for gram in row]
    assert diversity.distinct_4grams(tokens).value == len(set(everything)) / len(everything)
    repeated = [sum(gram in row[:i] for i, gram in enumerate(row)) / len(row) for row in grams]
    assert diversity.repetition(tokens).value == pytest.approx(np.mean(repeated), abs=1e-12)
    shared = [any(a in other for a in row for other in long if other is not row) for row in long]
    assert diversity.duplicates(tokens).value == np.mean(shared) >= 2 / 9


def test_copied_text_is_less_diverse_than_real_text(rng):
    world, names = get_world("docstrings"), ["distinct_4grams", "distinct_words", "duplicates", "repetition"]
    real = evaluate_samples(world.sample(200, rng, "test"), world, names)
    copied = evaluate_samples(world.sample(20, rng, "test").repeat(10, 1), world, names)
    for record in real + copied:
        assert_contains(record)
        assert record.n == 200 and record.details["n_real"] == 200
    better, worse = ({r.name: r.value for r in records} for records in (real, copied))
    assert worse["duplicates"] == 1 > better["duplicates"]
    for name in ("distinct_4grams", "distinct_words"):
        assert worse[name] < better[name] / 2
