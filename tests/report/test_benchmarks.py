"""Tables of the benchmarks: what students keep of their teacher, who else is near, what others published."""

from dmmd_lite.report.benchmarks import best_of_teacher, kept_table
from dmmd_lite.report.leaderboard import as_recommended, winners_table
from dmmd_lite.report.published import MOLECULES, SUDOKU, molecules_table, sudoku_table
from dmmd_lite.utils.records import Record


def record(role, steps, value, seed=0):
    training = {"steps": 100, "seconds": 60.0, "best_step": None}
    about = {"model": f"molecules-masked-{role}", "world": "molecules", "steps": steps, "seed": 0}
    about["provenance"] = {"training_seed": seed, "training": training}
    return Record("valid_unique", value, value - 0.01, value + 0.01, 1024, "rdkit", **about)


RECORDS = [record("teacher", k, value) for k, value in ((4, 0.2), (16, 0.8), (64, 0.7))]
RECORDS += [record("dmmd-4", 4, value, seed) for seed, value in enumerate((0.76, 0.72, 0.74))]
RECORDS += [record("idlm-4", 4, 0.6), record("sdtt-4", 4, 0.5), record("dmmd-1", 1, 0.4)]


def test_students_keep_a_share_of_the_teachers_best():
    assert best_of_teacher(RECORDS, "molecules", "masked", "valid_unique").steps == 16
    assert best_of_teacher(RECORDS, "molecules", "uniform", "valid_unique") is None
    table = kept_table(RECORDS, "molecules", "valid_unique", {4: 0.9, 2: 0.75, 1: 0.5}).set_index("steps")
    assert list(table.index) == [4, 1]
    assert table.loc[4, "teacher's best"] == "0.800 (16 steps)"
    assert table.loc[4, "D-MMD by seed"] == "0.760, 0.720, 0.740"
    assert table["kept"].tolist() == ["0.90 (expected 0.9)", "0.50 (expected 0.5)"]
    assert table.loc[4, "best other"] == "IDLM 0.600" and table.loc[1, "best other"] == "not run yet"


def test_more_wins_where_more_is_better():
    cell = winners_table(RECORDS, ["molecules"], [4]).loc[("molecules", "masked"), "4 steps"]
    assert cell.startswith("D-MMD 0.74, then IDLM 0.6")
    rows = as_recommended([*RECORDS, record("redi-4", 4, 0.3)], "molecules", "valid_unique")
    redi = rows.set_index("method").loc["ReDi"]
    assert (redi["steps"], redi["as good"]) == (4, "1 of 1 seeds")


def test_published_rows_are_all_there_with_their_sources():
    molecules, sudoku = molecules_table(), sudoku_table()
    assert (len(molecules), len(sudoku)) == (len(MOLECULES), len(SUDOKU))
    assert molecules["source"].str.fullmatch(r"arXiv \d{4}\.\d{5}").all()
    assert molecules["valid"].str.fullmatch(r"\d+\.\d %").all()
    assert set(sudoku["source"][:3]) == {"baseline of the others"}
    assert sudoku["source"][3:].str.startswith("arXiv").all()
