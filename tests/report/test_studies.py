"""Studies: every variant is a recipe, runs leave whole records, and verdicts follow from records alone."""

import re
from dataclasses import replace

import pandas as pd
import pytest

from dmmd_lite.objectives import METHODS
from dmmd_lite.recipes.catalogue import RECIPES, get_recipe
from dmmd_lite.report import studies as report
from dmmd_lite.report.studies import (
    averaging_curves,
    level_shares,
    noise_ratios,
    records_of_student,
    show_study,
    study_dots,
    study_lines,
    study_samples,
    study_table,
    verdicts,
)
from dmmd_lite.studies import run as studies
from dmmd_lite.studies.definitions import STUDIES
from dmmd_lite.studies.run import run, variants, varied
from dmmd_lite.studies.study import BASELINE, DIVERGED, NO_NOISE_INPUT, TEACHER_NETWORK, Expectation, Study
from dmmd_lite.training.loop import NonFiniteLoss
from dmmd_lite.utils.records import Record, load_results
from dmmd_lite.worlds import get_world

ALL = [(study, student) for study in STUDIES for student in STUDIES[study].students]


@pytest.mark.parametrize("study, student", ALL)
def test_variants_are_different_recipes(study, student):
    plain = get_recipe(student)
    made = {name: varied(student, change) for name, change in variants(study, student).items()}
    assert made.pop(BASELINE) == plain
    assert made.pop(TEACHER_NETWORK) == get_recipe(plain.start)
    assert all(recipe != plain for recipe in made.values())
    assert len({str(recipe.to_dict()) for recipe in made.values()}) == len(made)


@pytest.mark.parametrize("study, student", ALL)
def test_expectations_are_of_variants(study, student):
    """Of every student, but that tiny worlds alternate already, and that text has no other choices."""
    named = {name for expected in STUDIES[study].expected for name in (expected.less, expected.more)}
    turns = {"alternating updates", "alternating updates, as much work"}
    exceptions = {"coins-masked-dmmd-1": turns, "docstrings-masked-dmmd-16": named - turns - {BASELINE}}
    missing = named - set(variants(study, student))
    assert missing == (exceptions.get(student, set()) if study == "open_choices" else set())


def test_expectations_of_text_are_only_about_turns():
    rows = verdicts("open_choices", [])
    texts = {row["expected"] for row in rows if row["student"] == "docstrings-masked-dmmd-16"}
    assert len(texts) == 2 and all("draw" in text for text in texts)
    assert not any(row["expected"] in texts for row in rows if row["student"] == "coins-masked-dmmd-1")


@pytest.mark.parametrize("student", STUDIES["table6_noise_input"].students)
def test_without_noise_is_one_change(student):
    other = varied(student, variants("table6_noise_input", student)[NO_NOISE_INPUT])
    changed = get_recipe(student).with_changes({"network.noise": 0})
    assert replace(other, name=student) == changed


@pytest.mark.parametrize("student", STUDIES["open_choices"].students)
def test_generators_are_updated_as_often_in_every_choice(student, rng):
    plain = get_recipe(student)

    def generator_updates(recipe):
        cycle = recipe.method.auxiliary_updates + (recipe.method.updates == "alternating")
        return recipe.training.steps / cycle

    def work(recipe):
        return METHODS[recipe.role].forwards(recipe.method) * recipe.training.steps

    for name, change in STUDIES["open_choices"].variants(plain).items():
        recipe = plain.with_changes(change)
        if name.endswith("as much work"):
            assert work(recipe) == pytest.approx(work(plain), rel=0.01)
        else:
            assert generator_updates(recipe) == pytest.approx(generator_updates(plain), rel=0.01)


def test_a_run_leaves_whole_records(tmp_path, monkeypatch):
    monkeypatch.setenv("DMMD_CACHE_DIR", str(tmp_path))
    name = "fig5_teacher_temperature"
    found = run(name, "digits-uniform-dmmd-8", "τ = 0.8", num=64, scale="smoke", seed=3)
    assert [r.name for r in found] == ["frechet", "coverage", "class_histogram", "output_entropy"]
    for r in found:
        assert r.model == "digits-uniform-dmmd-8: τ = 0.8" and r.model not in RECIPES
        assert r.details["changes"] == {"method.temperature": 0.8} and r.steps == 8
        assert r.provenance["training_seed"] == 3 and len(r.details["samples"]) == 16
    records = [replace(r, provenance={"training_seed": 0}) for r in found]
    assert len(study_samples(records, "digits-uniform-dmmd-8").axes) == 16
    with pytest.raises(
        ValueError, match=re.escape("variant: 'τ = 9' is not allowed; choose one of ['as it is', ")
    ):
        run(name, "digits-uniform-dmmd-8", "τ = 9")
    with pytest.raises(ValueError, match="student of fig5_.*: 'coins-masked-dmmd-1' is not allowed"):
        run(name, "coins-masked-dmmd-1", BASELINE)


def test_before_distillation_is_the_start_in_as_many_steps():
    found = run("fig6_teacher_top_p", "digits-uniform-dmmd-8", TEACHER_NETWORK, num=64, seed=2)
    assert {r.steps for r in found} == {8} and {r.provenance["training_seed"] for r in found} == {0}
    assert (
        found[0].provenance["sha256"]
        == run("fig6_teacher_top_p", "digits-uniform-dmmd-8", TEACHER_NETWORK, num=64)[0].provenance["sha256"]
    )


def test_a_training_that_diverges_leaves_a_record(monkeypatch):
    def fail(*arguments):
        raise NonFiniteLoss("loss term a/b is nan at step 7", 7)

    monkeypatch.setattr(studies, "model_of", fail)
    (record,) = run("fig6_teacher_top_p", "digits-uniform-dmmd-8", "p = 0.85, Δ = 1e+20", seed=1)
    assert (record.name, record.value, record.world) == (DIVERGED, 7, "digits")
    (last,) = verdicts_of("fig6_teacher_top_p", [record, made(TEACHER_NETWORK, 3.0)])
    assert last == "seen: 3 against inf"


def test_level_shares_are_those_of_the_samples():
    student, name = "digits-uniform-dmmd-8", "class_histogram"
    records = [
        made(BASELINE, 1.0, name=name),
        made(BASELINE, 1.0, name=name, seed=1),
        made("τ = 0.6", 1.0, name=name),
    ]
    for r, row in zip(records, ("0" * 16 + "8" * 48, "1" * 64, "0" * 64), strict=True):
        r.details["samples"] = [row] * 4
    shares = level_shares("fig5_teacher_temperature", records)[f"{student}: level 0"]
    assert shares[BASELINE].startswith("0.250 [") and shares["τ = 0.6"].startswith("1.000 [")
    test = get_world("digits").split("test")
    assert shares["test images"].startswith(f"{(test == 0).double().mean():.3f} [")


def verdicts_of(study, records):
    rows = verdicts(study, records)
    mine = [row for row in rows if row["student"] == "digits-uniform-dmmd-8"]
    return [row["came out"] for row in mine if "good" in row["expected"]]


def made(variant, value, half=0.1, seed=0, student="digits-uniform-dmmd-8", name="frechet", **changes):
    context = {"model": f"{student}: {variant}", "steps": 8, "provenance": {"training_seed": seed}}
    details = {"variant": variant, "changes": changes}
    return Record(name, value, value - half, value + half, 100, "test data", details, **context)


def test_verdicts_ask_every_seed(monkeypatch):
    study = Study(
        ("digits-uniform-dmmd-8",),
        lambda recipe: dict.fromkeys("abcd", {}),
        (
            Expectation("a helps", "a", BASELINE),
            Expectation("b helps", "b", BASELINE),
            Expectation("c helps", "c", BASELINE),
            Expectation("d helps", "d", BASELINE),
            Expectation("of others", "a", BASELINE, process="masked"),
            Expectation("better than before", BASELINE, TEACHER_NETWORK),
        ),
    )
    monkeypatch.setitem(STUDIES, "mine", study)
    records = [made(BASELINE, value, seed=seed) for seed, value in enumerate((2.0, 2.2, 1.9))]
    records += [made("a", value, seed=seed) for seed, value in enumerate((1.5, 1.8, 1.2))]
    records += [made("b", 1.5), made("c", 2.1), made(TEACHER_NETWORK, 3.0)]
    records += [made("b", 9.0, student="digits-masked-dmmd-8")]
    assert [row["came out"] for row in verdicts("mine", records)] == [
        "confirmed: 1.2 to 1.8 (3 seeds) against 1.9 to 2.2 (3 seeds)",
        "seen: 1.5 against 1.9 to 2.2 (3 seeds)",
        "undecided: 2.1 against 1.9 to 2.2 (3 seeds)",
        "not run yet",
        "confirmed: 1.9 to 2.2 (3 seeds) against 3",
    ]
    assert records_of_student(records, "digits-uniform-dmmd-8", "frechet")["a"][2].value == 1.2


def test_noise_ratios_are_of_seeds_that_both_have():
    student = "digits-masked-dmmd-4"
    records = [
        made(BASELINE, value, seed=seed, student=student) for seed, value in enumerate((1.0, 2.0, 3.0))
    ]
    records += [made(NO_NOISE_INPUT, 4.0, seed=seed, student=student) for seed in (0, 2)]
    ratios = noise_ratios("table6_noise_input", records)
    assert ratios.loc[("digits", "masked", "frechet"), "4 steps"] == "0.50 (0.25 to 0.75, 2 seeds)"


def test_figures_and_tables_of_studies_show_every_variant():
    student = "digits-masked-dmmd-4"
    records = [made(BASELINE, 2.0, student=student), made("raw weights", 3.0, student=student, a=1)]
    fig = study_dots(records, "open_choices", student, "frechet")
    assert [label.get_text() for label in fig.axes[0].get_yticklabels()] == [BASELINE, "raw weights"]
    records.append(made(TEACHER_NETWORK, 4.0, student=student))
    ax = fig.axes[0]
    ax.clear()
    study_lines(ax, records, student, "frechet", lambda changes: len(changes))
    assert list(ax.lines[0].get_xdata()) == [0, 1] and list(ax.lines[0].get_ydata()) == [2.0, 3.0]
    assert len(study_table(records)) == 3
    seen = {"updates": [1, 2], "raw": [3.0, 2.0], "averaged": [3.0, 2.5]}
    monitored = Record("frechet", 2.5, None, None, 100, "validation", {"swings": seen}, student)
    assert len(averaging_curves([monitored, monitored]).axes) == 2


def test_a_study_shows_verdicts_samples_and_numbers(monkeypatch):
    """Committed records, as on the pages; worlds without images have no samples."""
    shown, alts = [], []
    monkeypatch.setattr(report, "display", lambda *content: shown.extend(content))
    monkeypatch.setattr(report, "show", lambda figure, alt: alts.append(alt))
    committed = load_results("open_choices")
    show_study("open_choices", committed, committed[:4])
    assert alts == ["First samples of every variant of digits-masked-dmmd-4, a row each."]
    tables = [part for part in shown if isinstance(part, pd.DataFrame)]
    assert [len(t) for t in tables][0] == len(verdicts("open_choices", committed)) and len(tables) == 3
    assert len(tables[1]) > 50 > len(tables[2])
