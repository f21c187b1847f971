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
# # Table 4: D-MMD and Di4C on images
#
# The paper's Table 4 sets D-MMD beside Di4C on CIFAR-10. Here are both, and the teacher they share, on the digits: same
# network, same start, same work (sequences evaluated by a network while training, a backward pass counting two), equal
# tuning (see [the leaderboard](leaderboard.py)). Di4C's student is a mixture: a latent λ drawn anew for every sequence and
# step lets the tokens of one step depend on each other. One Di4C student serves all numbers of steps. Its authors also
# sample it in a *hybrid* way: the student takes the first seven tenths of the time, where few steps hurt most, and leaves
# the rest to its teacher.
#
# Fréchet distances on features of a small classifier, against held-out images: not comparable with an FID.
#
# Run time: under half a minute on one core of a laptop; the large table comes from committed records.

# %% tags=["parameters"]
scale: str = "laptop"  # of the models sampled here
n: int = 500  # digits sampled per cell
process: str = "uniform"  # noise of the models sampled here
steps: list[int] = [4, 16]  # sampling steps
train_seed: int = 0  # training seed of the students
sampling_seed: int = 0  # seed of the samples

# %%
from dataclasses import replace

import pandas as pd

from dmmd_lite import Hybrid, evaluate, load_model
from dmmd_lite.pages.display import show
from dmmd_lite.recipes.students import student_for
from dmmd_lite.recipes.world_settings import settings_of
from dmmd_lite.report.cells import over_draws
from dmmd_lite.report.leaderboard import committed_records, methods_table
from dmmd_lite.report.paper import TABLE_4
from dmmd_lite.report.plots import image_grid
from dmmd_lite.studies.comparison import teacher
from dmmd_lite.utils.records import load_results, save_records, select, table

# %% [markdown]
# ## Mean over training seeds (least to most)

# %%
methods = methods_table(committed_records(), "digits", settings_of("digits").judged_by[0])
methods.loc[[row for row in methods.index if row[1] in ("teacher", "D-MMD", "Di4C")]]

# %% [markdown]
# The teacher at many steps, for comparison:

# %%
many = select(
    over_draws(load_results("table1_steps_images")), name="frechet", model=lambda name: "teacher" in name
)
table(many, ["model"], columns="steps", digits=2)

# %% [markdown]
# ## Computed here
#
# With few samples all distances are larger: compare within this table.

# %%
base = load_model(teacher("digits", process), scale)
mixture = load_model(student_for("di4c", "digits", process, 4), scale, seed=train_seed)
models = {"teacher": [(base, k) for k in steps], "Di4C": [(mixture, k) for k in steps]}
both = Hybrid(mixture.denoiser, base.denoiser, switch_time=0.3)
models["Di4C, hybrid"] = [(replace(mixture, name=f"{mixture.name}-hybrid", denoiser=both), k) for k in steps]
models["D-MMD"] = [(load_model(f"digits-{process}-dmmd-{k}", scale, seed=train_seed), k) for k in steps]
records = []
for label, cells in models.items():
    for model, k in cells:
        drawn = model.sample(n, k, seed=sampling_seed)
        sampling = {"steps": k, "num": n, "seed": sampling_seed, "samples": drawn}
        records += evaluate(model, list(settings_of("digits").judged_by), **sampling)
        title = f"{label} in {k} steps"
        show(image_grid(model.world.show(drawn.tokens[:16]), title=title), f"Sixteen digits by {title}")

# %%
table(records, ["model", "steps"], digits=2)

# %% [markdown]
# The hybrid with 2,000 samples, from committed records:

# %%
table(load_results("table4_against_di4c"), ["model", "training_seed", "steps", "n"], digits=2)

# %% [markdown]
# ## The paper's Table 4
#
# CIFAR-10, FID: **the paper's numbers** (arXiv 2603.20155, Table 4). Di4C's teacher has another corruption (discretised
# Gaussian), which knows that levels are ordered; D-MMD's have not.

# %%
pd.DataFrame(TABLE_4, columns=["method", "evaluations", "FID"]).set_index("method")

# %%
save_records("table4_against_di4c", records)
