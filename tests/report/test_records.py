"""Reading records: picking, tabulating, choosing."""

import pandas as pd
import pytest

from dmmd_lite.utils.records import Record, best_top_p, field_of, select, table


def record(value, **fields):
    made = Record("gradient_moment", value, value - 1, value + 1, 10, "real text", model="m", steps=4)
    return {**made.to_dict(), **fields}


def test_fields_include_the_training_seed_and_the_split():
    plain, valid = record(1.0), record(1.0, details={"split": "valid"}, provenance={"training_seed": 3})
    assert [field_of(plain, f) for f in ("training_seed", "split", "steps")] == [0, "test", 4]
    assert [field_of(valid, f) for f in ("training_seed", "split")] == [3, "valid"]
    assert field_of(plain, "changes") == "none"
    changed = {"details": {"changes": {"method.grid": "released", "training.validate_every": 0}}}
    assert field_of(changed, "changes") == "method.grid = released, training.validate_every = 0"


def test_select_compares_values_and_asks_functions():
    records = [record(1.0), record(2.0, steps=8), record(3.0, model="other")]
    assert select(records, steps=4, model="m") == records[:1]
    assert select(records, model=lambda name: name.startswith("o")) == records[2:]
    assert select(records) == records
    with pytest.raises(KeyError):
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
