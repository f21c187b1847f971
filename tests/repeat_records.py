"""Measure the committed records of shipped models again.

    python tests/repeat_records.py NAME ...           write `data/results/NAME.json` again
    python tests/repeat_records.py NAME --draws 2 3   add other sampling seeds of the teachers

Records of students that do not ship, of changed recipes and of real text stay as they are. One core takes
from a second to an hour for a draw of samples. `report/test_leaderboard.py` repeats five draws a day.
"""

import argparse
import json
from collections.abc import Iterable
from dataclasses import replace

import torch

from dmmd_lite.models.evaluation import measure_again
from dmmd_lite.recipes.catalogue import RECIPES, get_recipe
from dmmd_lite.report.cells import STUDY
from dmmd_lite.utils.files import write_json
from dmmd_lite.utils.paths import data_dir
from dmmd_lite.utils.records import Record, read_records


def repeatable(record: Record) -> bool:
    """Whether a record is what `evaluate` found for a shipped or exact model with an unchanged recipe."""
    if record.model not in RECIPES or record.training_seed or "measured" not in record.provenance:
        return False
    ships = (data_dir() / "models" / f"{record.model}.safetensors").is_file()
    changed = (set(STUDY) - {"greedy_tail"}) & record.details.keys()
    return (ships or get_recipe(record.model).role == "exact") and not changed


def draws(records: Iterable[Record]) -> list[list[Record]]:
    """The repeatable records, by draw of samples."""
    found: dict[tuple, list[Record]] = {}
    for r in filter(repeatable, records):
        key = (r.model, r.steps, r.seed, r.temperature, r.top_p, r.split, r.greedy_tail)
        found.setdefault(key, []).append(r)
    return list(found.values())


def main() -> None:
    """Measure again, and write after every draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+")
    parser.add_argument("--draws", nargs="+", type=int, default=[], help="sampling seeds to add")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.names:
        path = data_dir() / "results" / f"{name}.json"
        page, records = json.loads(path.read_text()), read_records(path)
        for draw in draws(records):
            if not arguments.draws:
                for old, new in zip(draw, measure_again(draw), strict=True):
                    records[records.index(old)] = new
            elif draw[0].model.endswith(("-teacher", "-exact")) and draw[0].seed == 0:
                for seed in arguments.draws:
                    records += measure_again([replace(r, seed=seed) for r in draw])
            write_json(path, page | {"records": [r.to_dict() for r in records]})


if __name__ == "__main__":
    main()
