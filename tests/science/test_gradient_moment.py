"""The gradient moment: against stored gradients, against enumeration, on real text, and what is refused."""

import itertools
import json
import resource
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import exit_codes, start_process

from dmmd_lite.denoisers.autoregressive import Autoregressive
from dmmd_lite.metrics.gradient_moment import (
    block_gradients,
    calibration,
    default_blocks,
    gradient_moment,
    perplexity,
    reference_gradients,
    score,
)
from dmmd_lite.metrics.judges import Judge, chain_judge, transformers_judge
from dmmd_lite.metrics.suite import evaluate_samples
from dmmd_lite.models.loading import load_judge
from dmmd_lite.networks.transformer import Transformer
from dmmd_lite.worlds import get_world
from dmmd_lite.worlds.markov import Markov

SAFE = 6  # standard errors


def random_chain(vocab_size, rng, length=4):
    """A judge with V + V^2 parameters in float64."""
    table = torch.rand(vocab_size, vocab_size, generator=rng, dtype=torch.float64) + 0.1
    return chain_judge(Markov(length, table / table.sum(-1, keepdim=True)))


def random_transformer(vocab_size, rng, length=4):
    """A judge with a few thousand parameters in float64, some of which the likelihood does not depend on."""
    torch.manual_seed(int(torch.randint(2**31, (), generator=rng)))
    network = Transformer(vocab_size + 1, vocab_size, length, width=8, depth=1, heads=2, causal=True)
    for p in network.parameters():
        torch.nn.init.normal_(p, std=0.3)

    class Double(Autoregressive):
        def forward(self, tokens):
            before = torch.full_like(tokens[:, :1], self.vocab_size)
            shifted = torch.cat([before, tokens[:, :-1]], 1)
            h = self.network.stem(shifted)
            time = self.network.time(torch.ones(len(tokens), 64).to(h))
            for block in self.network.blocks:
                h = block(h, time)
            return self.network.stem.logits(h).log_softmax(-1)

    return Judge.of("transformer", Double(network.double(), vocab_size), vocab_size)


def sequence_gradients(judge, tokens, context=0):
    """Gradient of every sequence's mean negative log-likelihood, [n, P]."""
    parameters = list(judge.module.parameters())
    rows = []
    for row in tokens:
        loss = judge.module.nll(row[None])[0, context:].mean()
        parts = torch.autograd.grad(loss, parameters, materialize_grads=True)
        rows.append(torch.cat([part.flatten() for part in parts]))
    return torch.stack(rows)


@pytest.mark.parametrize("make", [random_chain, random_transformer])
@pytest.mark.parametrize("batch_size, context", [(1, 0), (3, 2), (100, 0)])
def test_streamed_gradients_give_what_stored_ones_do(make, batch_size, context, rng):
    judge = make(5, rng)
    x, y = torch.randint(5, (2, 23, 4), generator=rng)
    d = [g[:20].view(5, 4, -1).mean(1) for g in (sequence_gradients(judge, s, context) for s in (x, y))]
    samples, reference = (block_gradients(judge, s, 5, context, batch_size) for s in (x, y))
    for difference, against in ((d[0] - d[1], reference), (d[0], None)):
        pairs = [float(a @ b) for a, b in itertools.permutations(difference, 2)]
        assert gradient_moment(samples, against).value == pytest.approx(np.mean(pairs), abs=1e-10, rel=1e-10)
        disjoint = [float(difference[i] @ difference[i + 1]) for i in (0, 2)]
        pairwise = gradient_moment(samples, against, estimator="pairs")
        assert pairwise.value == pytest.approx(np.mean(disjoint), abs=1e-10, rel=1e-10)
    assert (samples.size, samples.blocks, len(samples.nll)) == (4, 5, 23)
    nll = judge.module.nll(x)[:, context:].mean(1).detach().numpy()
    np.testing.assert_allclose(samples.nll, nll, atol=1e-12)
    np.testing.assert_allclose(score(judge, x, context, batch_size).nll, nll, atol=1e-12)
    assert perplexity(samples).value == pytest.approx(np.exp(nll.mean()))


@pytest.mark.parametrize("world_name", ["parity", "permutations"])
def test_both_estimators_are_unbiased(world_name, rng):
    """Against the expectation over all V^L sequences, for uniform tokens and the world's law."""
    world = get_world(world_name)
    judge = random_chain(world.vocab_size, rng, world.length)
    everything, law = world.all_sequences(), world.law()
    moment = (law - 1 / len(law)) @ sequence_gradients(judge, everything)
    values = []
    for _ in range(150):
        uniform = torch.randint(world.vocab_size, (16, world.length), generator=rng)
        sides = [block_gradients(judge, x, 4) for x in (world.sample(16, rng), uniform)]
        values.append([gradient_moment(*sides, estimator=name).value for name in ("all", "pairs")])
    error = np.mean(values, 0) - float(moment @ moment)
    assert (abs(error) < SAFE * np.std(values, 0) / np.sqrt(len(values))).all()
    assert np.std(values, 0)[0] < np.std(values, 0)[1]  # all pairs know more


def test_the_score_of_the_true_chain_vanishes(rng):
    """E_p[grad log p] = 0, so the uncentred form is zero on the chain's own text, and the centred one too."""
    world = Markov(16)
    judge = chain_judge(world)
    inside = 0
    for _ in range(20):
        samples, reference = (block_gradients(judge, world.sample(128, rng), 16) for _ in range(2))
        for record in (gradient_moment(samples, reference), gradient_moment(samples, None)):
            inside += record.low <= 0 <= record.high
            assert abs(record.value) < 5 * (record.high - record.low)
    assert inside >= 28  # of 40; two are expected outside at most


@pytest.mark.parametrize("blocks", [8])
def test_intervals_of_different_text_cover_the_truth(blocks, rng):
    """93 to 97 % of 400; a bootstrap of 8 blocks would cover 88 %."""
    world = get_world("permutations")
    judge = random_chain(4, rng)
    moment = (world.law() - 1 / 256) @ sequence_gradients(judge, world.all_sequences())
    truth, inside = float(moment @ moment), {"all": 0, "pairs": 0}
    for _ in range(400):
        uniform = torch.randint(4, (64, 4), generator=rng)
        sides = [block_gradients(judge, x, blocks) for x in (world.sample(64, rng), uniform)]
        for estimator in inside:
            record = gradient_moment(*sides, estimator=estimator)
            inside[estimator] += record.low <= truth <= record.high
    assert all(0.93 <= number / 400 <= 0.975 for number in inside.values()), inside


def measure_memory(file):
    judge = random_chain(300, torch.Generator().manual_seed(0))
    peaks = []
    for num in (256, 4096):
        gradient_moment(block_gradients(judge, torch.zeros(num, 8, dtype=torch.long)), None)
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    file.write_text(json.dumps(peaks))


def test_memory_does_not_grow_with_the_samples(tmp_path):
    """4,096 stored gradients would be 3 GB."""
    process = start_process(measure_memory, tmp_path / "peaks", output=tmp_path / "output")
    assert exit_codes(process) == [0], (tmp_path / "output").read_text()
    few, many = json.loads((tmp_path / "peaks").read_text())
    assert many < 1.1 * few


@pytest.fixture(scope="module")
def bigram():
    """The docstrings under the chain that was fitted on them."""
    world = get_world("docstrings")
    return world, load_judge("chain", world)


def test_bad_text_is_told_from_real_text(bigram, rng):
    world, judge = bigram
    weak = torch.randint(27, (256, 128), generator=rng)
    records = calibration(world, judge, 256, seed=rng.initial_seed(), weak=weak)
    assert [r.name for r in records[:3]] == ["gradient_moment", "perplexity", "sample_entropy"]
    values = {(r.model, r.name): r for r in records}
    real, repeated, shuffled, noise = (
        values[source, "gradient_moment"] for source in ("real", "repeated", "shuffled", "weak")
    )
    assert len(values) == 12
    assert abs(real.value) < 2 * (real.high - real.low) and abs(real.value) < repeated.value / 10
    assert min(repeated.low, shuffled.low, noise.low) > max(real.high, 0)
    assert values["shuffled", "perplexity"].low > 2 * values["real", "perplexity"].high
    assert values["shuffled", "sample_entropy"].value == values["real", "sample_entropy"].value
    assert real.details["corpus_sha256"] == world.provenance["corpus_sha256"]
    with pytest.raises(ValueError, match="num: 5000 is not allowed; it must be from 4 to"):
        calibration(world, judge, 5000)


def test_records_say_what_was_measured(bigram, rng):
    world, judge = bigram
    names = ["perplexity", "gradient_moment", "repetition"]
    tokens = world.sample(70, rng)
    moment = evaluate_samples(tokens, world, names, split="valid", judge=judge)[1]
    assert moment.n == 64 and moment.low <= moment.value <= moment.high
    assert moment.details == {
        "judge": "chain",
        "judge_sha256": judge.sha256,
        "context": 0,
        "form": "centred",
        "estimator": "all",
        "blocks": 32,
        "n_reference": 64,
        "split": "valid",
        "corpus_sha256": world.provenance["corpus_sha256"],
    }
    alone = evaluate_samples(tokens, world, ["perplexity"], split="valid", judge=judge)[0]
    both = evaluate_samples(tokens, world, names, split="valid", judge=judge)[0]
    assert alone == both and alone.n == 70 and alone.details["n_reference"] == 70
    few = evaluate_samples(tokens[:5], world, ["gradient_moment"], judge=judge)[0]
    assert few.details["blocks"] == few.n == 5


def test_a_reference_is_computed_once(bigram):
    world, judge = bigram
    again = load_judge("chain", world)
    assert again == judge and again.module is not judge.module
    before = reference_gradients.cache_info().hits
    first, second = (reference_gradients(j, world, "valid", 8, 4) for j in (judge, again))
    assert first is second and reference_gradients.cache_info().hits == before + 1


def test_blocks_of_huge_judges_are_few(rng):
    judge = random_chain(3, rng)
    assert default_blocks(judge, 1000) == 32 and default_blocks(judge, 7) == 7

    class Huge:
        def parameters(self):
            return [torch.empty(2**29, device="meta")]

    assert default_blocks(replace(judge, module=Huge()), 1000) == 4


def test_what_cannot_be_judged_is_refused_in_one_line(rng):
    markov, judge, tokens = get_world("markov"), random_chain(5, rng), torch.zeros(9, 4, dtype=torch.long)
    sides = [block_gradients(judge, tokens, blocks) for blocks in (4, 5)]
    refused = [
        (lambda: block_gradients(judge, tokens, 3), "blocks: 3 is not allowed; it must be from 4 to the"),
        (lambda: block_gradients(judge, tokens, 10), "blocks: 10 is not allowed; .*, 9$"),
        (lambda: block_gradients(judge, tokens, 4, 4), "context: 4 is not allowed; .* below 4$"),
        (lambda: score(judge, tokens, -1), "context: -1 is not allowed"),
        (lambda: gradient_moment(*sides), "reference: blocks 5 is not allowed; .* scored with 4$"),
        (lambda: gradient_moment(sides[0], None, estimator="u"), "estimator: 'u' is not allowed; choose one"),
        (
            lambda: gradient_moment(sides[0], block_gradients(random_chain(5, rng), tokens, 4)),
            "reference: judge Judge.* is not allowed",
        ),
        (
            lambda: evaluate_samples(markov.sample(2, rng), markov, ["perplexity"], judge=judge),
            "judge: 'chain' is not allowed for markov; it reads 5 symbols, the samples have 27$",
        ),
        (lambda: load_judge("chain", get_world("digits")), "it reads 27 symbols, the samples have 17$"),
        (lambda: load_judge(None, get_world("openwebtext")), "judge: None is not allowed for openwebtext"),
        (lambda: load_judge("nobody", markov), "recipe: 'nobody' is not allowed"),
        (
            lambda: load_judge("hf:no/where", markov),
            "'no/where' is not allowed|transformers is not installed",
        ),
    ]
    for call, words in refused:
        with pytest.raises(ValueError, match=words) as error:
            call()
        assert "\n" not in str(error.value)


def test_transformers_is_asked_for_only_when_needed(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ValueError, match="^transformers is not installed; pip install transformers$"):
        transformers_judge("gpt2")


def test_models_of_transformers_can_judge(tmp_path, bigram, rng):
    transformers = pytest.importorskip("transformers")
    sizes = {"n_positions": 128, "n_embd": 8, "n_layer": 1, "n_head": 2, "vocab_size": 27}
    torch.manual_seed(0)
    gpt = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, bos_token_id=0, eos_token_id=0))
    gpt.save_pretrained(tmp_path / "gpt")
    world, _ = bigram
    judge = load_judge(f"hf:{tmp_path / 'gpt'}", world)
    tokens = world.sample(6, rng)
    behind = torch.cat([torch.zeros(6, 1, dtype=torch.long), tokens], 1)
    log_p = gpt.eval()(behind[:, :-1]).logits.log_softmax(-1)
    expected = -log_p.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(judge.module.nll(tokens), expected)
    assert not judge.module.training and judge == transformers_judge(str(tmp_path / "gpt"))
    moment = evaluate_samples(tokens, world, ["gradient_moment"], judge=judge)[0]
    assert moment.details["judge"] == judge.name and np.isfinite(moment.value)
    gpt.config.bos_token_id = None
    gpt.save_pretrained(tmp_path / "gpt")
    with pytest.raises(ValueError, match="its configuration has no bos_token_id$"):
        transformers_judge(str(tmp_path / "gpt"))
    with pytest.raises(ValueError, match="judge: 'no-such/model' is not allowed; its weights are not here"):
        transformers_judge("no-such/model", download=True)  # HF_HUB_OFFLINE is set
