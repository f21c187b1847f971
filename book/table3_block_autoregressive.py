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
# # Table 3: block-autoregressive diffusion
#
# **Claim.** A block-autoregressive model writes block after block: a causal encoder reads the finished blocks, uniform
# diffusion fills the next one, and the number of steps counts per block. Its student needs far fewer steps for the same
# gradient moment. The paper has blocks of 256 GPT-2 tokens; here they are of 32 characters, four to a sequence, on the
# docstrings.
#
# Teacher and student read the same clean blocks during training; only the current block is noised, and the losses of
# equations 11 and 12 run on it alone. Run time: about a minute on one core of a laptop.

# %% tags=["parameters"]
n: int = 64  # samples per cell computed live
teacher_steps: list[int] = [16]  # steps a block of the teacher computed live
students: list[int] = [16]  # students computed live, by their steps a block
top_p: float = 0.8  # sampling top-p of both models
sampling_seed: int = 0  # seed of the samples

# %%
import pandas as pd

from dmmd_lite import evaluate, load_model
from dmmd_lite.report.paper import TABLE_3
from dmmd_lite.utils.records import load_results, save_records, select, table

TEACHER, STUDENT = "docstrings-uniform-teacher-block32", "docstrings-uniform-dmmd-{}-block32"
METRICS = ["gradient_moment", "perplexity", "distinct_4grams", "duplicates"]
committed = load_results("table3_block_autoregressive")

records = []
for name, steps in [(TEACHER, k) for k in teacher_steps] + [(STUDENT.format(k), k) for k in students]:
    sampling = {"steps": steps, "num": n, "top_p": top_p, "seed": sampling_seed}
    records += evaluate(load_model(name), METRICS, **sampling)

# %% [markdown]
# ## The table
#
# Committed records first. Both models are sampled at the top-p that the uniform teacher of
# [Figure 1](fig1_steps_text.py) does best with on the validation modules; it was not chosen anew for blocks. There is one
# training seed, and both models are far from the ones without blocks: two thirds of the updates, and an encoder that has
# to be learned beside the denoiser.

# %%
ROWS = ["model", "training_seed", "steps", "top_p", "n"]
table(committed, ROWS)

# %% [markdown]
# What this page computed, with few samples and so with wide intervals:

# %%
table(records, ROWS)

# %%
measured = select(committed, name="gradient_moment")
for teacher in select(measured, model=TEACHER, steps=64):
    for student in select(measured, model=STUDENT.format(16)):
        print(
            f"student at 16 steps a block: {student.value:.4f}, upper limit {student.high:.4f}; teacher at 64: "
            f"{teacher.value:.4f}; quotient of the upper limit {student.high / teacher.value:.2f}"
        )

# %% [markdown]
# ## Samples
#
# The same seed, not picked; a bar marks where a block ends.

# %%
for name, steps in [(TEACHER, 16), (TEACHER, 64), (STUDENT.format(16), 16)]:
    model = load_model(name)
    size = model.recipe.block
    print(f"{name}, {steps} steps a block")
    for line in model.world.show(model.sample(4, steps, seed=sampling_seed).tokens):
        print("   ", "|".join(line[i : i + size] for i in range(0, len(line), size)))

# %% [markdown]
# ## The paper's Table 3
#
# Gradient moment on OpenWebText with blocks of 256 tokens: **the paper's numbers** (arXiv 2603.20155, Table 3).

# %%
pd.DataFrame(TABLE_3).T.sort_index(axis=1).astype(object).fillna("")

# %%
save_records("table3_block_autoregressive", records)
