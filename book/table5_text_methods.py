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
# # Table 5: text methods side by side
#
# The paper's Table 5 puts methods beside each other by gradient moment, perplexity and sample entropy, each at sampling
# top-p 0.85 and 1. Here are the rows of the masked teacher, of D-MMD from it, of D-MMD from a teacher sharpened to
# top-p 0.85 with Δ = 2 (section 3.3), and of other methods from the same teacher with the same work, on the docstrings. On
# 27 symbols the entropy of single samples is nearly blind, so the share of distinct 4-grams stands beside it.
#
# Every row is one training seed: differences between methods are observations. The students of IDLM, Di4C and ReDi are
# the same in 4 and in 16 steps. Run time: about a minute on one core of a laptop; the table with many samples comes
# from committed records.

# %% tags=["parameters"]
n: int = 128  # samples per cell computed live
teacher_steps: list[int] = [16]  # steps of the teacher computed live
students: list[str] = ["dmmd-16", "dmmd-16-p85"]  # students computed live
top_ps: list[float] = [0.85, 1.0]  # sampling top-p values
train_seeds: list[int] = [0]  # training seeds of the students
sampling_seed: int = 0  # seed of the samples

# %%
import pandas as pd

from dmmd_lite import evaluate, load_model
from dmmd_lite.report.paper import TABLE_5
from dmmd_lite.utils.records import load_results, save_records, table

METRICS = ["gradient_moment", "perplexity", "sample_entropy", "distinct_4grams"]
cells = [("docstrings-masked-teacher", k, 0) for k in teacher_steps]
cells += [(f"docstrings-masked-{student}", None, seed) for student in students for seed in train_seeds]
records = []
for name, steps, train_seed in cells:
    model = load_model(name, seed=train_seed)
    for top_p in top_ps:
        sampling = {"steps": steps, "num": n, "top_p": top_p, "seed": sampling_seed}
        records += evaluate(model, METRICS, **sampling)
committed = load_results("table5_text_methods")

# %%
ROWS = ["top_p", "model", "steps", "training_seed", "n"]
table(committed, ROWS)

# %% [markdown]
# What this page computed, with few samples:

# %%
table(records, ROWS)

# %% [markdown]
# ## The paper's Table 5
#
# OpenWebText, gradient moment (GM) and perplexity (PPL) under GPT-2, sample entropy in nats: **the paper's numbers**
# (arXiv 2603.20155, Table 5). Its first five rows are taken by its authors from arXiv 2602.16813.

# %%
columns = ["method", "steps", "GM", "PPL", "sample entropy"]
pd.DataFrame(TABLE_5, columns=columns).set_index("method").astype(object).fillna("")

# %%
save_records("table5_text_methods", records)
