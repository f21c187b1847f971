"""Published results on molecules and Sudoku, as printed by others. None of these numbers was measured here.

Sources are the arXiv numbers beside them. The published networks are 15 to 60 times as large as those of this
book, so differences in height are no comparison of methods; what can be compared is what few steps cost
against the method's own teacher.
"""

import pandas as pd
from pandas import DataFrame

PAIRFLOW, DRIFTING = "2512.20063", "2605.10727"
SPHERE, FMLM, DBTM = "2605.11125", "2606.24773", "2609.15903"
SAMPLES = 1024  # of the counts of PairFlow's tables
MOLECULES = [  # QM9 as SMILES, uniform noise: method, parameters in millions, steps, share valid, source
    ("UDLM", 92, 1, 17.5 / SAMPLES, PAIRFLOW),
    ("UDLM + DCD", 92, 1, 323 / SAMPLES, PAIRFLOW),
    ("UDLM + ReDi", 92, 1, 0.058, PAIRFLOW),
    ("PairFlow", 92, 1, 223.4 / SAMPLES, PAIRFLOW),
    ("PairFlow + DCD", 92, 1, 453.8 / SAMPLES, PAIRFLOW),
    ("PairFlow + ReDi", 92, 1, 0.353, PAIRFLOW),
    ("kernel-gradient drifting", None, 1, 0.389, DRIFTING),
    ("UDLM + DCD", 92, 2, 530.8 / SAMPLES, PAIRFLOW),
    ("UDLM + ReDi", 92, 2, 232.4 / SAMPLES, PAIRFLOW),
    ("PairFlow", 92, 2, 416.0 / SAMPLES, PAIRFLOW),
    ("PairFlow + DCD", 92, 2, 685.8 / SAMPLES, PAIRFLOW),
]
SUDOKU = [  # method, steps, per cent of 2,000 puzzles solved: easy, medium, hard; the method's own paper
    ("autoregressive, greedy", 128, 14.6, 5.1, 1.0, ""),
    ("MDLM", 128, 92.0, 77.1, 30.2, ""),
    ("Duo", 128, 96.3, 84.7, 58.4, ""),
    ("FLM", 128, 94.2, 82.7, 44.5, SPHERE),
    ("S-FLM", 128, 94.8, 85.2, 45.0, SPHERE),
    ("FMLM+", 4, 97.9, 92.0, 71.2, FMLM),
    ("FMLM+", 16, 97.8, 92.6, 81.4, FMLM),
    ("DBTM + ril", 4, 99.5, 97.3, 84.6, DBTM),
    ("DBTM + ril", 16, 99.9, 99.4, 97.5, DBTM),
]
SUDOKU_PARAMETERS = 30  # millions, about, of the networks of those rows


def molecules_table() -> DataFrame:
    """Return the published shares of valid molecules among 1,024 samples.

    Their steps do not count one more greedy evaluation at the end of sampling.
    """
    rows = [
        (
            method,
            "" if size is None else f"{size} M",
            steps,
            f"{share:.1%}".replace("%", " %"),
            f"arXiv {source}",
        )
        for method, size, steps, share, source in MOLECULES
    ]
    columns = ["published by others", "parameters", "steps", "valid", "source"]
    return pd.DataFrame(rows, columns=columns).set_index("published by others")


def sudoku_table() -> DataFrame:
    """Return the published shares of Sudoku puzzles solved, of 2,000 a level, in per cent.

    The first three are baselines of the papers of the others.
    """
    rows = [
        (
            *row[:2],
            f"about {SUDOKU_PARAMETERS} M",
            *(f"{share:.1f}" for share in row[2:5]),
            f"arXiv {row[5]}" if row[5] else "baseline of the others",
        )
        for row in SUDOKU
    ]
    columns = ["published by others", "steps", "parameters", "easy", "medium", "hard", "source"]
    return pd.DataFrame(rows, columns=columns).set_index("published by others")
