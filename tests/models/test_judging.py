"""Judges of models: which one goes with a world, and which one may not judge."""

import json
from dataclasses import replace

import pytest
import torch
from helpers import save_random_model

from dmmd_lite.cli import main
from dmmd_lite.metrics.judges import chain_judge
from dmmd_lite.metrics.suite import metrics_for
from dmmd_lite.models.evaluation import evaluate, frontier
from dmmd_lite.models.judging import check_judge, default_judge, model_judge
from dmmd_lite.models.loading import load_judge, load_model, train_recipe
from dmmd_lite.recipes.catalogue import get_recipe
from dmmd_lite.worlds import get_world
from dmmd_lite.worlds.base import REFERENCE_SEED
from dmmd_lite.worlds.markov import Markov


def random_chain(vocab_size, rng, length=4):
    """A judge with V + V^2 parameters in float64."""
    table = torch.rand(vocab_size, vocab_size, generator=rng, dtype=torch.float64) + 0.1
    return chain_judge(Markov(length, table / table.sum(-1, keepdim=True)))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of its own; the text of the docstrings comes from the shared one."""
    get_world("docstrings").texts  # noqa: B018
    monkeypatch.setenv("DMMD_CACHE_DIR", str(tmp_path / "cache"))


@pytest.mark.slow
def test_a_smoke_student_is_chosen_and_judged_by_a_smoke_judge(cache, tmp_path):
    path = train_recipe(get_recipe("docstrings-uniform-dmmd-4", "smoke"), tmp_path / "run")
    training = json.loads(path.with_suffix(".json").read_text())["training"]
    assert training["validation"] == "gradient_moment" and training["best_value"] > 0
    model = load_model(str(tmp_path / "run"))
    records = frontier(model, temperatures=(0.5, 1.0), num=12)
    assert [(r.name, r.temperature) for r in records] == [
        (name, t)
        for t in (0.5, 1.0)
        for name in ("perplexity", "gradient_moment", "sample_entropy", "distinct_4grams")
    ]
    judge = load_judge(None, model.world, "smoke")
    for record in records[:2]:
        assert record.details["judge"] == "docstrings-ar-judge"
        assert record.details["judge_sha256"] == judge.sha256
    assert not judge.module.training and all(p.requires_grad for p in judge.module.parameters())
    itself = load_model("docstrings-ar-judge", "smoke")
    for bad in (judge, replace(judge, name="another"), model_judge(itself)):
        with pytest.raises(ValueError, match="^judge: .* is not allowed for .*; it is the generator or its"):
            check_judge(bad, itself)
    with pytest.raises(ValueError, match="'docstrings-ar-judge' is not allowed for 'docstrings-ar-judge'"):
        evaluate(itself, ["perplexity"], num=4)


def test_a_judge_that_began_the_generator_is_refused(cache, rng, tmp_path):
    """Here by the names of the recipes, as for a fine-tuned judge."""
    save_random_model("docstrings-masked-dmmd-4", tmp_path / "model", rng)
    student = load_model(str(tmp_path))
    judge = random_chain(27, rng)
    check_judge(judge, student)
    for name in ("docstrings-masked-teacher", "docstrings-masked-dmmd-4"):
        with pytest.raises(ValueError, match=f"judge: '{name}' is not allowed for 'docstrings-masked-dmmd"):
            check_judge(replace(judge, name=name), student)


def test_the_command_line_takes_a_judge(cache, tmp_path, rng, capsys):
    save_random_model("markov-masked-dmmd-4", tmp_path / "model", rng)
    arguments = ["evaluate", str(tmp_path), "--num", "8", "--json", "--metrics", "gradient_moment,perplexity"]
    assert main(arguments) == 0
    moment, generative = json.loads(capsys.readouterr().out)
    assert moment["details"]["judge"] == "chain" and moment["low"] <= moment["value"] <= moment["high"]
    assert generative["details"]["reference"] < generative["value"]
    assert main([*arguments, "--judge", "markov-masked-teacher"]) == 2
    assert (
        "judge: 'markov-masked-teacher' is not allowed; it must be an autoregressive"
        in capsys.readouterr().err
    )


def test_worlds_have_judges_of_their_own():
    assert default_judge(get_world("markov")) == "chain"
    assert default_judge(get_world("docstrings")) == "docstrings-ar-judge"
    assert {"gradient_moment", "perplexity"} <= set(metrics_for(get_world("markov")))
    assert "distinct_words" not in metrics_for(get_world("markov"))
    assert "gradient_moment" not in metrics_for(get_world("digits"))
    assert REFERENCE_SEED > 10**6  # far from the seeds people choose
