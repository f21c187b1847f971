"""Reading records: picking, tabulating, choosing."""

import json
from dataclasses import replace

import pandas as pd
import pytest
from helpers import ROOT

from dmmd_lite.utils.records import Record, best_top_p, read_records, select, table


def record(value, **fields):
    made = Record("gradient_moment", value, value - 1, value + 1, 10, "real text", model="m", steps=4)
    return replace(made, **fields)


def test_fields_include_the_training_seed_and_the_split():
    plain, valid = record(1.0), record(1.0, details={"split": "valid"}, provenance={"training_seed": 3})
    assert (plain.training_seed, plain.split, plain.steps) == (0, "test", 4)
    assert (valid.training_seed, valid.split) == (3, "valid")
    assert plain.changes == "none" and plain.variant is None and plain.greedy_tail is None
    changes = {"method.grid": "released", "training.validate_every": 0}
    changed = record(1.0, details={"changes": changes, "variant": "released grid", "greedy_tail": True})
    assert changed.changes == "method.grid = released, training.validate_every = 0"
    assert changed.variant == "released grid" and changed.greedy_tail


def test_an_interval_is_a_point_where_the_value_is_exact():
    assert record(1.0).interval == (0.0, 2.0) and record(1.0).text(1) == "1.0 [0.0, 2.0]"
    exact = record(1.0, low=None, high=None)
    assert exact.interval == (1.0, 1.0) and exact.text(2) == "1.00"


def test_every_committed_record_is_read_and_written_unchanged():
    for path in sorted((ROOT / "data/results").glob("*.json")):
        assert [r.to_dict() for r in read_records(path)] == json.loads(path.read_text())["records"]


def test_every_committed_value_lies_in_its_interval():
    """And no share is certain: an interval without a width belongs to an exact number."""
    for path in sorted((ROOT / "data/results").glob("*.json")):
        for r in read_records(path):
            assert r.low is None or r.low <= r.value <= r.high, (path.name, r)
            assert r.low is None or r.low < r.high, (path.name, r)


def test_a_level_other_than_95_percent_stands_beside_the_interval():
    assert record(1.0).text(1) == "1.0 [0.0, 2.0]" and record(1.0).level == 0.95
    assert record(1.0, level=0.875).text(1) == "1.0 [0.0, 2.0] (87.5 %)"
    assert record(1.0, level=None).text(1) == "1.0 [0.0, 2.0] (below 95 %)"
    assert record(1.0, level=None, low=None, high=None).text(1) == "1.0"
    old = record(1.0).to_dict()
    del old["level"]
    assert Record.from_dict(old) == record(1.0)


def test_select_compares_values_and_asks_functions():
    records = [record(1.0), record(2.0, steps=8), record(3.0, model="other")]
    assert select(records, steps=4, model="m") == records[:1]
    assert select(records, model=lambda name: name.startswith("o")) == records[2:]
    assert select(records) == records
    with pytest.raises(AttributeError, match="colour"):
        select(records, colour="red")


def test_the_best_top_p_is_chosen_on_validation_with_the_first_seed():
    valid = {"split": "valid"}
    records = [
        record(3.0, top_p=0.9, details=valid),
        record(2.0, top_p=0.8, details=valid),
        record(1.0, top_p=0.7),
        record(0.5, top_p=0.6, details=valid, provenance={"training_seed": 1}),
        record(0.1, top_p=0.5, details=valid, model="other"),
    ]
    assert best_top_p(records, "m") == 0.8
    assert best_top_p(records, "never tried") == 1.0
    records.append(record(2.5, top_p=0.3, details=valid, steps=16))
    assert [best_top_p(records, "m", steps) for steps in (None, 4, 16, 32)] == [0.8, 0.8, 0.3, 0.8]


def test_a_table_keeps_the_order_and_the_first_of_a_cell():
    records = [
        record(2.0, steps=8),
        record(1.0),
        record(9.0),
        record(0.5, name="perplexity", low=None, high=None, steps=8),
        record(4.0, steps=None),
    ]
    shown = table(records, ["steps", "model"], digits=1)
    assert list(shown.index) == [(8, "m"), (4, "m"), ("", "m")]
    assert list(shown.columns) == ["gradient_moment", "perplexity"]
    assert shown.values.tolist() == [
        ["2.0 [1.0, 3.0]", "0.5"],
        ["1.0 [0.0, 2.0]", ""],
        ["4.0 [3.0, 5.0]", ""],
    ]


def test_a_table_of_nothing_is_empty():
    shown = table([], ["steps", "model"])
    assert isinstance(shown, pd.DataFrame) and shown.empty
