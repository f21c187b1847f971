import shlex

import pytest

from dmmd_lite import cli
from dmmd_lite.leaderboard import (
    JUDGED_BY,
    WHY_NOT,
    board,
    command,
    committed_records,
    costs,
    seeds,
    students,
    teacher,
)
from dmmd_lite.metrics import metrics_for
from dmmd_lite.recipes import get_recipe
from dmmd_lite.students import COMPARED
from dmmd_lite.worlds import get_world


def record(model="coins-masked-sdtt-1", value=0.25, train_seed=0, **fields):
    return {
        "name": "total_variation",
        "model": model,
        "world": model.split("-")[0],
        "value": value,
        "low": None,
        "high": None,
        "steps": 1,
        "n": 0,
        "seed": 0,
        "temperature": 1.0,
        "top_p": 1.0,
        "details": {},
        "provenance": {"training_seed": train_seed},
    } | fields


@pytest.mark.parametrize("world", COMPARED)
def test_students_of_a_world_share_a_teacher_and_a_start(world):
    for process in ("masked", "uniform"):
        recipes = [get_recipe(name) for name, _ in students(world) if f"-{process}-" in name]
        assert {r.teacher for r in recipes} == {teacher(world, process)}
        assert len({r.start for r in recipes}) == 1
        assert {"dmmd", "di4c", "idlm", "redi"} <= {r.role for r in recipes}


@pytest.mark.parametrize("world", [w for w in COMPARED if w != "docstrings"])
def test_worlds_are_judged_by_metrics_that_apply(world):
    assert set(JUDGED_BY[world]) <= set(metrics_for(get_world(world)))


def test_no_method_has_students_where_it_is_not_defined():
    roles = {(get_recipe(name).role, get_recipe(name).process) for w in COMPARED for name, _ in students(w)}
    assert not roles & set(WHY_NOT)


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
    arguments = cli._parser().parse_args(words)
    assert (arguments.model, arguments.train_seed, arguments.steps) == (found["model"], 2, 4)
    assert (arguments.num, arguments.seed, arguments.top_p, arguments.temperature) == (64, 5, 0.9, 0.8)
    assert found["name"] in arguments.metrics.split(",")
    assert "--num" not in command(record())


def test_every_committed_record_has_a_command_that_measures_it():
    for found in committed_records():
        arguments = cli._parser().parse_args(shlex.split(command(found))[1:])
        assert (arguments.model, arguments.steps) == (found["model"], found["steps"])
        assert found["name"] in arguments.metrics.split(",")


def test_measuring_a_seed_again_makes_no_second_seed():
    table = board([record(value=0.1), record(value=0.3)], "coins", "total_variation", [1])
    assert table.loc[("masked", "SDTT"), "1 step"] == "0.300"


def test_a_board_has_means_over_seeds_and_says_where_nothing_can_be():
    records = [record(value=v, train_seed=k) for k, v in enumerate((0.1, 0.2, 0.6))]
    table = board(records + [record("coins-masked-exact", 0.48)], "coins", "total_variation", [1, 4])
    assert table.loc[("masked", "SDTT"), "1 step"] == "0.300 (0.100 to 0.600, 3 seeds)"
    assert table.loc[("masked", "teacher"), "1 step"] == "0.480"
    assert table.loc[("uniform", "SDTT"), "1 step"] == "not defined"
    assert table.loc[("masked", "Di[M]O"), "4 steps"] == "not defined"
    assert table.loc[("masked", "D-MMD"), "1 step"] == ""


def test_single_seeds_stand_with_their_command():
    table = seeds([record(train_seed=3), record("digits-uniform-dmmd-4")], "coins")
    assert list(table["training seed"]) == [3]
    assert table["command"][0] == command(record(train_seed=3))


def test_costs_are_equal_within_a_tenth():
    for process in ("masked", "uniform"):
        sequences = costs("digits", 4).loc[process]["sequences"]
        assert len(sequences) >= 5 and sequences.max() <= 1.1 * sequences.min()
