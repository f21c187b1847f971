# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What the paper leaves open
#
# The paper states no hyper-parameters: not w(s), not the learning rates, not the averaging, not how a checkpoint is chosen.
# Here one thing at a time is changed in the recipes of two masked students, two coins in one step (total variation from
# the truth, exact) and digits in 4 steps (Fréchet distance on classifier features, not an FID). Every run has its recipe's
# number of updates; "2 auxiliary updates" therefore is half as much work again.
#
# Run time: seconds on one core of a laptop; the figures are committed records, one training run a point.

# %% tags=["parameters"]
students: list[str] = ["digits-masked-dmmd-4"]  # students measured now
now: list[str] = ["as it is"]  # their variants measured now; others than "as it is" are trained first
train_seeds: list[int] = [0]  # training seeds of what is measured now
n: int = 500  # samples per cell measured now

# %%
import pandas as pd

from dmmd_lite.figures import study_dots, swings_on_the_way
from dmmd_lite.pages import load_results, save_records
from dmmd_lite.plots import show
from dmmd_lite.results import table
from dmmd_lite.studies import STUDIES, run, verdicts

STUDY = "open_choices"
records = [
    r.to_dict()
    for name in students
    for v in now
    for seed in train_seeds
    for r in run(STUDY, name, v, seed=seed, num=n)
]
committed = load_results(STUDY)

# %% [markdown]
# ## One change at a time
#
# Points are training runs, bars their 95 % intervals over samples (none where the value is exact). The shaded range is
# that of the recipe itself over its training seeds: a point inside it is no different.

# %%
metrics = {"coins-masked-dmmd-1": "total_variation", "digits-masked-dmmd-4": "frechet"}
for student in STUDIES[STUDY].students:
    show(
        study_dots(committed, STUDY, student, metrics[student]),
        f"{metrics[student].replace('_', ' ')} of {student} for every variant of its recipe.",
    )

# %% [markdown]
# ## The raw student swings, its average does not
#
# The same training looked at through its last weights and through their average, on what decides: total variation for the
# coins, the distance to validation images for the digits. This is also why the moment at which a run stops matters for
# raw weights; where a recipe validates, the best averaged checkpoint is kept.

# %%
watched = [r for r in committed if "swings" in r["details"]]
show(swings_on_the_way(watched), "Metric of raw and of averaged weights while students train.")

# %% [markdown]
# ## What was expected, and what came out
#
# Written down before the runs. "Undecided" is a difference within the 95 % intervals over samples. Fewer seeds than three
# make an observation, not a claim.

# %%
pd.set_option("display.max_colwidth", None, "display.max_rows", None)
pd.DataFrame(verdicts(STUDY, committed)).set_index(["student", "expected"])

# %% [markdown]
# ## All numbers
#
# Each line is a training run. Its changes to the recipe are behind its name in the page's records; `dmmd-lite train STUDENT
# --set KEY=VALUE --out FOLDER` and `dmmd-lite evaluate FOLDER` make it again.

# %%
table(committed, ["model", "training_seed", "steps", "n"], digits=3)

# %% [markdown]
# What this page measured, with few samples:

# %%
table(records, ["model", "training_seed", "steps", "n"], digits=3)

# %%
save_records("open_choices", records)
