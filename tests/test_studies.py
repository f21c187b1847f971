"""Studies: every variant is a recipe, runs leave whole records, and verdicts follow from records alone."""

import re

import pytest

from dmmd_lite import studies
from dmmd_lite.recipes import RECIPES, get_recipe
from dmmd_lite.studies import PLAIN, STUDIES, of_student, run, variants, verdicts

ALL = [(study, student) for study in STUDIES for student in STUDIES[study].students]


@pytest.mark.parametrize("study, student", ALL)
def test_variants_are_different_recipes(study, student):
    plain = get_recipe(student)
    made = {name: plain.with_changes(changes) for name, changes in variants(study, student).items()}
    assert made.pop(PLAIN) == plain
    assert all(recipe != plain for recipe in made.values())
    assert len({str(recipe.to_dict()) for recipe in made.values()}) == len(made)


@pytest.mark.parametrize("study, student", ALL)
def test_expectations_are_of_variants(study, student):
    known = variants(study, student)
    for expected in STUDIES[study].expected:
        assert {*expected.less, expected.more} <= set(known)


def test_a_run_leaves_whole_records(tmp_path, monkeypatch):
    monkeypatch.setenv("DMMD_CACHE_DIR", str(tmp_path))
    name = "fig5_teacher_temperature"
    found = run(name, "digits-uniform-dmmd-8", "τ = 0.8", num=64, scale="smoke", seed=3)
    assert [r.name for r in found] == ["frechet", "coverage", "class_histogram", "output_entropy"]
    for r in found:
        assert r.model == "digits-uniform-dmmd-8: τ = 0.8" and r.model not in RECIPES
        assert r.details["changes"] == {"method.temperature": 0.8} and r.steps == 8
        assert r.provenance["training_seed"] == 3
    with pytest.raises(
        ValueError, match=re.escape("variant: 'τ = 9' is not allowed; choose from ['as it is', ")
    ):
        run(name, "digits-uniform-dmmd-8", "τ = 9")
    with pytest.raises(ValueError, match="student: 'coins-masked-dmmd-1' is not allowed in fig5"):
        run(name, "coins-masked-dmmd-1", PLAIN)


def record(variant, value, half, seed=0, student="digits-uniform-dmmd-8"):
    return {
        "name": "frechet", "model": f"{student}: {variant}", "value": value, "low": value - half,
        "high": value + half, "details": {"variant": variant}, "provenance": {"training_seed": seed},
    }  # fmt: skip


def test_verdicts_follow_from_intervals(monkeypatch):
    study = studies.Study(
        ("digits-uniform-dmmd-8",),
        lambda recipe: {},
        (studies.Expectation("it helps", ("a", "b"), PLAIN), studies.Expectation("unknown", ("c",), PLAIN)),
    )
    monkeypatch.setitem(STUDIES, "mine", study)
    records = [record(PLAIN, 2.0, 0.1), record("a", 3.0, 0.1), record("b", 1.5, 0.1)]
    records += [record(PLAIN, 2.0, 0.1, 1), record("a", 2.5, 0.1, 1), record(PLAIN, 2.0, 0.1, 2)]
    records += [record("b", 1.95, 0.1, 2), record("b", 0.0, 0.0, 0, "digits-masked-dmmd-8")]
    first, second = verdicts("mine", records)
    assert first["came out"] == (
        "seed 0: confirmed, 1.5 against 2; seed 1: refuted, 2.5 against 2; seed 2: undecided, 1.95 against 2"
    )
    assert second["came out"] == "not run yet"
    assert of_student(records, "digits-uniform-dmmd-8", "frechet")["b"][2]["value"] == 1.95
