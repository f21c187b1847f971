"""Autoregressive models: causal, normalised, and sampled from the distribution they state."""

import pytest
import torch
from helpers import LEAST_P, chi_square_p, sequences

from dmmd_lite.denoisers.autoregressive import Autoregressive
from dmmd_lite.denoisers.base import NonFinitePrediction
from dmmd_lite.models.evaluation import evaluate
from dmmd_lite.models.loading import load_model
from dmmd_lite.networks.transformer import Transformer
from dmmd_lite.objectives.autoregressive import AutoregressiveObjective

V, L = 3, 4


@pytest.fixture
def model(rng):
    """Make a small model with random weights everywhere, whose distribution is far from uniform."""
    network = Transformer(V + 1, V, L, width=8, depth=2, heads=2, time_width=4, causal=True, rotary_base=10)
    with torch.no_grad():
        for p in network.parameters():
            p.copy_(torch.randn(p.shape, generator=rng) * 0.7)
    return Autoregressive(network, V)


def test_probabilities_of_all_sequences_sum_to_one(model):
    x = sequences(V, L)
    assert (-model.nll(x).sum(1)).exp().sum().item() == pytest.approx(1, abs=1e-5)


def test_a_position_sees_only_what_stands_before_it(model, rng):
    x = torch.randint(V, (5, L), generator=rng)
    log_p = model(x)
    for place in range(L):
        changed = x.clone()
        changed[:, place] = (changed[:, place] + 1) % V
        difference = (model(changed) - log_p).abs().amax((0, 2))
        assert difference[: place + 1].max() == 0
        if place < L - 1:
            assert difference[place + 1 :].min() > 1e-4


def test_samples_follow_the_law(model, rng):
    x = sequences(V, L)
    probs = (-model.nll(x).sum(1)).exp().detach().double()
    drawn = model.sample(20_000, L, generator=rng)
    index = drawn @ V ** torch.arange(L - 1, -1, -1)
    counts = index.bincount(minlength=len(probs))
    assert chi_square_p(counts[None], probs[None] / probs.sum()) > LEAST_P


def test_temperature_zero_takes_the_likeliest_token(model, rng):
    drawn = model.sample(50, L, generator=rng, temperature=0)
    assert (drawn == drawn[:1]).all()
    assert torch.equal(model(drawn[:1]).argmax(-1), drawn[:1])


def test_training_is_the_mean_negative_log_likelihood(model, rng):
    x = torch.randint(V, (6, L), generator=rng)
    loss = AutoregressiveObjective(model).losses(0, x, rng)["model"]["cross_entropy"]
    assert loss.item() == pytest.approx(model.nll(x).mean().item(), abs=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"num": 0}, "num: 0"), ({"temperature": -1.0}, "temperature: -1"), ({"top_p": 0.0}, "top_p: 0")],
)
def test_bad_sampling_is_refused(model, rng, options, message):
    with pytest.raises(ValueError, match=message):
        model.sample(**{"num": 2, **options}, length=L, generator=rng)


def test_a_baseline_is_measured_like_any_model():
    baseline = load_model("docstrings-ar-baseline", "smoke")
    records = evaluate(baseline, ["perplexity", "gradient_moment", "distinct_4grams"], num=8, top_p=0.9)
    assert [r.name for r in records] == ["perplexity", "gradient_moment", "distinct_4grams"]
    assert {(r.steps, r.evaluations) for r in records} == {(128, 128)}
    with pytest.raises(ValueError, match="'output_entropy' does not apply to autoregressive models"):
        evaluate(baseline, ["output_entropy"])


def test_a_prediction_that_is_no_distribution_ends_sampling(model, rng):
    model.network.register_forward_hook(lambda network, inputs, logits: logits / (inputs[0].shape[1] < 3))
    with pytest.raises(NonFinitePrediction, match="^position 3 of 4: the prediction is no distribution"):
        model.sample(5, L, generator=rng)
