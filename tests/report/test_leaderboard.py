import math
import random
import shlex
from dataclasses import replace
from datetime import date

import pytest
from repeat_records import draws

from dmmd_lite import cli
from dmmd_lite.metrics.suite import metrics_for
from dmmd_lite.models.evaluation import measure_again
from dmmd_lite.objectives import METHODS
from dmmd_lite.processes import PROCESSES
from dmmd_lite.recipes.catalogue import BEFORE_TUNING, get_recipe
from dmmd_lite.recipes.students import PLANS
from dmmd_lite.recipes.trials import trials_of
from dmmd_lite.recipes.world_settings import compared_worlds, settings_of
from dmmd_lite.report.cells import over_draws
from dmmd_lite.report.collapse import trials_table
from dmmd_lite.report.costs import costs
from dmmd_lite.report.leaderboard import (
    as_recommended,
    command,
    committed_records,
    draws_table,
    last_against_chosen,
    methods_against_steps,
    methods_table,
    seeds_table,
    winners_table,
)
from dmmd_lite.report.studies import noise_input_lines
from dmmd_lite.studies.comparison import students, teacher, try_out
from dmmd_lite.utils.records import Record, load_results
from dmmd_lite.worlds import get_world


def record(model="coins-masked-sdtt-1", value=0.25, train_seed=0, best_step=None, **fields):
    training = {"steps": 100, "seconds": 60.0 * (1 + train_seed), "best_step": best_step}
    about = {"model": model, "world": model.split("-")[0], "steps": 1, "seed": 0}
    about["provenance"] = {"training_seed": train_seed, "training": training}
    return replace(Record("total_variation", value, None, None, 0, "the world's law", **about), **fields)


@pytest.mark.parametrize("world", compared_worlds())
def test_students_of_a_world_share_a_teacher_and_a_start(world):
    for process in ("masked", "uniform"):
        found = students(world, settings_of(world).student_steps)
        recipes = [get_recipe(name) for name, _ in found if f"-{process}-" in name]
        assert {r.teacher for r in recipes} == {teacher(world, process)}
        assert len({r.start for r in recipes}) == 1
        roles = {role for role in PLANS if role == "dmmd" or settings_of(world).compares(role)}
        assert {r.role for r in recipes} == {r for r in roles if process in PLANS[r].processes}


@pytest.mark.parametrize("world", [w for w in compared_worlds() if w != "docstrings"])
def test_worlds_are_judged_by_metrics_that_apply(world):
    assert set(settings_of(world).judged_by) <= set(metrics_for(get_world(world)))


def test_no_method_has_students_where_it_is_not_defined():
    roles = {
        (get_recipe(name).role, get_recipe(name).process)
        for w in compared_worlds()
        for name, _ in students(w)
    }
    assert not roles & {(role, process) for role, plan in PLANS.items() for process in plan.why_not}


def test_only_compared_worlds_have_students():
    with pytest.raises(ValueError, match="world: 'books' is not allowed"):
        students("books")


def test_a_command_says_what_its_record_was():
    found = record(
        "digits-uniform-dmmd-4",
        train_seed=2,
        name="frechet",
        n=64,
        steps=4,
        seed=5,
        top_p=0.9,
        temperature=0.8,
    )
    program, *words = shlex.split(command(found))
    assert program == "dmmd-lite"
    arguments = cli.make_parser().parse_args(words)
    assert (arguments.model, arguments.train_seed, arguments.steps) == (found.model, 2, 4)
    assert (arguments.num, arguments.seed, arguments.top_p, arguments.temperature) == (64, 5, 0.9, 0.8)
    assert found.name in arguments.metrics.split(",")
    assert "--num" not in command(record())
    assert "--greedy-tail" in command(record(details={"greedy_tail": True}))
    assert "--greedy-tail" not in command(found)


def test_every_committed_record_has_a_command_that_measures_it():
    for found in committed_records():
        arguments = cli.make_parser().parse_args(shlex.split(command(found))[1:])
        assert (arguments.model, arguments.steps) == (found.model, found.steps)
        assert found.name in arguments.metrics.split(",")


def test_a_process_without_students_has_empty_lines(monkeypatch):
    """As many columns and lines as there are processes; a third one has no recipes yet."""
    monkeypatch.setitem(PROCESSES, "third", PROCESSES["masked"])
    records = [record(), record("coins-masked-dmmd-1", 0.1)]
    table = methods_table(records, "coins", "total_variation", [1])
    assert table.loc[("masked", "SDTT"), "1 step"] == "0.250"
    assert set(table.loc["third"]["1 step"]) == {"–"}
    assert (winners_table(records, ["coins"], [1]).loc["coins", "third"] == "").all()
    assert set(as_recommended([record("coins-masked-dimo-1")], "coins", "total_variation")["noise"]) == {
        "masked"
    }
    assert not any("third" in name for name, _ in students("coins"))
    axes = methods_against_steps(records, "coins", ["total_variation"]).axes
    assert [ax.get_title() for ax in axes] == ["coins, masked", "coins, uniform", "coins, third"]
    assert len(noise_input_lines("table6_noise_input", []).axes) == 4


def test_five_committed_draws_repeat():
    """Cheap ones, chosen by date, by the statement of the page: the same bits, or another draw, whose
    difference exceeds twice what 95 % stay below once in 10,000 times."""
    pages = ("coins", "exact_text", "leaderboard", "table1_steps_images")
    everything = [draw for page in pages for draw in draws(load_results(page))]
    cheap = [
        draw
        for draw in everything
        if draw[0].steps <= 8 and draw[0].n <= 2000 and all(r.level is not None for r in draw)
    ]
    cheap = [draw for draw in cheap if draw[0].world != "docstrings"]
    assert len(cheap) > 20
    for draw in random.Random(date.today().toordinal()).sample(cheap, 5):
        for old, new in zip(draw, measure_again(draw), strict=True):
            low, high = old.interval
            bound = 1e-6 if old.low is None else 2 * math.sqrt(2) * max(high - old.value, old.value - low)
            assert abs(new.value - old.value) <= bound, (old, new)


def test_draws_of_a_cell_are_averaged():
    """Student's interval over the draws, with the spread between them and within one; a repetition is no
    second draw, and other settings are another cell."""
    values = (1.0, 1.1, 1.3, 1.0, 1.1)
    found = [record(value=v, low=v - 0.2, high=v + 0.2, seed=k) for k, v in enumerate(values)]
    (mean,) = over_draws([replace(found[0], value=7.0), *found])
    assert mean.value == pytest.approx(1.1) and mean.details["sampling_seeds"] == [0, 1, 2, 3, 4]
    assert (mean.low, mean.high) == pytest.approx((0.94791, 1.25209), abs=1e-4)
    assert mean.details["between_draws"] == pytest.approx(0.122474, abs=1e-5)
    assert mean.details["within_a_draw"] == pytest.approx(0.2 / 1.96, abs=1e-4)
    assert len(over_draws([*found, replace(found[0], top_p=0.5), replace(found[0], model="other")])) == 3
    table = methods_table(found, "coins", "total_variation", [1])
    assert table.loc[("masked", "SDTT"), "1 step"].startswith("1.100 [0.948, 1.252]")
    assert list(draws_table(found)["draws"]) == [5] and over_draws(found[:1]) == found[:1]


def test_measuring_a_seed_again_makes_no_second_seed():
    table = methods_table([record(value=0.1), record(value=0.3)], "coins", "total_variation", [1])
    assert table.loc[("masked", "SDTT"), "1 step"] == "0.300"


def test_a_board_has_means_over_seeds_and_says_where_nothing_can_be():
    records = [record(value=v, train_seed=k) for k, v in enumerate((0.1, 0.2, 0.6))]
    table = methods_table(records + [record("coins-masked-exact", 0.48)], "coins", "total_variation", [1, 4])
    assert table.loc[("masked", "SDTT"), "1 step"] == "0.300 (0.100 to 0.600, 3 seeds)"
    assert table.loc[("masked", "teacher"), "1 step"] == "0.480"
    assert table.loc[("uniform", "SDTT"), "1 step"] == "not defined"
    assert table.loc[("masked", "Di[M]O"), "4 steps"] == "not defined"
    assert table.loc[("masked", "D-MMD"), "1 step"] == ""


def test_a_single_run_stands_with_its_interval():
    found = [record(value=0.3, low=0.25, high=0.36), record("coins-masked-dimo-1")]
    table = methods_table(found, "coins", "total_variation", [1])
    assert table.loc[("masked", "SDTT"), "1 step"] == "0.300 [0.250, 0.360]"
    assert table.loc[("masked", "Di[M]O"), "1 step"] == "0.250"


def test_the_last_checkpoint_stands_beside_the_chosen_one():
    chosen = [record(value=0.1, best_step=50), record(value=0.3, best_step=75, train_seed=1)]
    last = [record(value=0.5), record(value=0.7, train_seed=1)]
    (row,) = last_against_chosen(last, chosen, ["total_variation"]).to_dict("records")
    assert row["checkpoint"] == "50%, 75%" and (row["method"], row["steps"]) == ("SDTT", 1)
    assert row["total variation, chosen"] == "0.200 (0.100 to 0.300, 2 seeds)"
    assert row["total variation, last"] == "0.600 (0.500 to 0.700, 2 seeds)"


def test_winners_say_by_how_much_and_in_how_many_seeds():
    sdtt = [record(value=v, train_seed=k) for k, v in enumerate((0.2, 0.3))]
    dmmd = [record("coins-masked-dmmd-1", v, k) for k, v in enumerate((0.1, 0.24))]
    cell = (("coins", "masked"), "1 step")
    table = winners_table([*sdtt, *dmmd, record("coins-masked-exact", 0.48)], ["coins"], [1, 4])
    assert table.loc[cell] == "D-MMD 0.17, then SDTT 0.25 (on average)"
    assert table.loc[("coins", "uniform"), "1 step"] == table.loc[("coins", "masked"), "4 steps"] == ""
    table = winners_table([*sdtt, dmmd[0], replace(dmmd[1], value=0.15)], ["coins"], [1])
    assert table.loc[cell] == "D-MMD 0.125, then SDTT 0.25 (in every seed)"
    lost = winners_table(
        [*sdtt, replace(dmmd[0], value=0.9), record("coins-masked-exact", 0.1)], ["coins"], [1]
    )
    assert lost.loc[cell] == "teacher 0.1, then SDTT 0.25 (in every seed)"
    few = winners_table([*dmmd, sdtt[1], record("coins-masked-exact", 0.48)], ["coins"], [1])
    assert few.loc[cell] == "D-MMD 0.17, then SDTT 0.3 (one seed)"
    assert (winners_table([*sdtt, record("coins-masked-exact", 0.1)], ["coins"], [1]) == "").all(axis=None)


def test_single_seeds_stand_with_their_command():
    table = seeds_table([record(train_seed=3), record("digits-uniform-dmmd-4")], "coins")
    assert list(table["training seed"]) == [3]
    assert table["command"][0] == command(record(train_seed=3))


def test_costs_are_equal_within_a_tenth():
    for process in ("masked", "uniform"):
        sequences = costs([], "digits", 4).loc[process]["sequences"]
        assert len(sequences) >= 5 and sequences.max() <= 1.1 * sequences.min()


def test_a_method_without_a_number_of_steps_has_one_student_for_all():
    assert {name for name, _ in students("digits", roles=["di4c"])} == {
        "digits-masked-di4c-4",
        "digits-uniform-di4c-4",
    }
    assert students("permutations", [2, 16], ["redi"])[:2] == [
        ("permutations-masked-redi-2", 2),
        ("permutations-masked-redi-2", 16),
    ]
    assert students("digits", [4], ["dimo"]) == []


def test_beside_its_teacher_a_student_is_as_good_seed_by_seed():
    found = [record("coins-masked-dimo-1", value, seed) for seed, value in enumerate((0.1, 0.6))]
    found += [record("coins-masked-exact", 0.5), record("coins-uniform-exact", 0.5)]
    table = as_recommended(found, "coins", "total_variation")
    assert list(table["method"]) == ["Di[M]O"] and list(table["as good"]) == ["1 of 2 seeds"]
    assert list(table["checkpoint"]) == ["last"]
    alone = as_recommended([record("coins-masked-dimo-1", best_step=25)], "coins", "total_variation")
    assert list(alone["teacher"]) == ["not measured"] and list(alone["checkpoint"]) == ["25%"]
    assert as_recommended([record("coins-masked-exact")], "coins", "total_variation").empty


def test_costs_have_the_minutes_of_the_runs_behind_the_records():
    runs = [record("digits-masked-dimo-1", train_seed=k) for k in (0, 2)]
    table = costs(runs, "digits", 4)
    assert table.loc[("masked", "Di[M]O"), "minutes"] == "1.0 to 3.0"
    assert table.loc[("masked", "D-MMD"), "minutes"] == ""


def test_trials_are_four_of_equal_work():
    for name in ("digits-masked-sdtt-4", "coins-uniform-redi-1", "docstrings-masked-redi-4"):
        recipe = BEFORE_TUNING[name]("laptop")
        changes = trials_of(recipe)
        assert len(changes) == 4 and recipe.with_changes(changes["the recipe"]) == recipe
        work = {round(_sequences(recipe.with_changes(c)), -3) for c in changes.values()}
        assert max(work) <= 1.1 * min(work)


def _sequences(recipe):
    return recipe.training.steps * recipe.training.batch_size * METHODS[recipe.role].forwards(recipe.method)


def test_every_committed_best_trial_is_the_recipe():
    """What was best on validation is what the catalogue has, for every method that was tuned."""
    found = {}
    for r in load_results("tuning"):
        found.setdefault(r.model, []).append(r)
    assert found
    for name, records in found.items():
        assert len(records) == 4
        best = min(records, key=lambda r: r.value).details["trial"]
        base = BEFORE_TUNING[name]("laptop")
        assert get_recipe(name) == base.with_changes(trials_of(base)[best])


def test_an_unknown_trial_is_refused():
    with pytest.raises(ValueError, match="trial: 'more' is not allowed; choose one of"):
        try_out("coins-masked-sdtt-1", "more")


def test_a_table_of_trials_names_the_best():
    trials = {"the recipe": 0.3, "rates x 2": 0.2, "clamp 1": 0.4}
    found = [record(value=v, details={"trial": t}) for t, v in trials.items()]
    table = trials_table(found)
    assert table.loc["coins-masked-sdtt-1", "best"] == "rates x 2"
    assert table.loc["coins-masked-sdtt-1", "own knob"] == "clamp 1: 0.400"
