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
# # What it costs
#
# Every recipe exists at four scales, those of some worlds at a fifth, `desk` (a night of two cores): `smoke` proves in seconds that the parts fit, `laptop` is what this book shows and
# what ships with it, `gpu` is for one accelerator, `paper` gives sizes of the kind the literature uses. The paper states no
# hyper-parameters, so the last one is our reading of what its neighbours do, and no result of this book was made with it.
#
# Operations are **counted**, not measured: two for each multiplication of a forward pass, in matrix products, attention
# and heads; looking up an embedding is free; a backward pass counts twice. The hours are those of a device that keeps up
# 400 TFLOP/s, two fifths of an H200's dense bfloat16 peak, which only wide networks reach; read them as a lower limit.
# Memory is a rough estimate for one process in float32.
#
# Run time: seconds; nothing is trained or sampled here.

# %% tags=["parameters"]
scales: list[str] = ["laptop", "gpu", "paper"]  # scales to count at
worlds: list[str] = ["digits", "glyphs", "cifar10", "docstrings", "openwebtext"]  # worlds to count for
steps: int = 16  # sampling steps of the students
width: int = 768  # of a network of your own
depth: int = 12  # its layers
tokens: int = 1024  # positions of a sequence
classes: int = 50257  # of a token
batch_size: int = 512  # sequences a step
teacher_steps: int = 100000  # updates of its teacher
student_steps: int = 5000  # updates of the student
tflops: float = 400.0  # 10^12 operations a second that your device keeps up

# %%
import pandas as pd
from IPython.display import Markdown, display

from dmmd_lite import get_recipe
from dmmd_lite.pages.display import show
from dmmd_lite.recipes.catalogue import RECIPES
from dmmd_lite.recipes.cost import cost, estimate
from dmmd_lite.report.costs import costs_of_released, costs_table, measured_ratios
from dmmd_lite.report.plots import log_steps
from dmmd_lite.report.studies import verdict_table
from dmmd_lite.utils.records import load_results

# %% [markdown]
# ## Training, by scale
#
# On images and text a student costs less than its teacher, from which it starts; on the tiny worlds it is the other way
# round. For one masked world a reader needs a teacher and one student for every number of steps; for the gradient moment also a judge.

# %%
names = [f"{world}-masked-{role}" for world in worlds for role in ("teacher", f"dmmd-{steps}")]
for scale in scales:
    display(Markdown(f"**{scale}**"), costs_table(scale, [name for name in names if name in RECIPES]))

# %% [markdown]
# ## A run of your own
#
# Put in the shape of your network, the number of updates and what your device keeps up, and run this cell again. A teacher's
# update is 3 forward passes' worth of work (a backward pass counts two), a D-MMD update of both players from one draw 7.

# %%
shape = {"width": width, "depth": depth, "tokens": tokens, "classes": classes, "batch_size": batch_size}
rows = {}
for role, updates in (("teacher", teacher_steps), ("dmmd", student_steps)):
    counted = estimate(role, **shape, steps=updates, tflops=tflops)
    rows[role] = {
        "updates": f"{updates:,}",
        "parameters, millions": round(counted["parameters"] / 1e6, 1),
        "operations": f"{counted['flop']:.1e}",
        f"hours at {tflops:g} TFLOP/s": f"{counted['hours']:.3g}",
    }
pd.DataFrame.from_dict(rows, orient="index")

# %% [markdown]
# ## What the released models took
#
# Measured, one core of a laptop-sized machine unless the machine column says otherwise. Times include validation. Operations
# per second are the counted ones over the measured time: small networks keep no device busy.

# %%
costs_of_released()

# %% [markdown]
# ## What sampling takes
#
# Quality costs network evaluations, and that is what distillation saves: operations for one sequence against sampling
# steps. Under masked noise a sequence takes at most as many evaluations as it has tokens to reveal.

# %%
from itertools import cycle

import matplotlib.pyplot as plt

fig, ax = plt.subplots(figsize=(7, 3.6))
tried = [2**k for k in range(11)]
for world, marker in zip(worlds, cycle("osD^v"), strict=False):
    counted = cost(recipe := get_recipe(f"{world}-masked-teacher"))
    forward = (
        counted["flop"] / recipe.training.steps / recipe.training.batch_size / 3
    )  # a backward pass counts two
    places = counted["tokens"] / recipe.training.steps / recipe.training.batch_size
    ax.plot(tried, [forward * min(k, places) for k in tried], marker=marker, label=world)
log_steps(ax, tried)
ax.set_yscale("log")
ax.set_ylabel("operations a sequence")
ax.legend(title="laptop scale, masked", fontsize=8)
show(
    fig,
    "Operations for one sequence against sampling steps at laptop scale, straight until all tokens are revealed.",
)

# %% [markdown]
# ## Measured: the loop, the step and the sampler
#
# Counting says what is possible, a clock what is reached. Times are medians over rounds, in each of which both sides of
# the ratio ran one after the other. The interval lies between two of the rounds, in order of size; its level, exact
# for any distribution, is given where it is not 95 %: seven rounds between the second and the sixth make 87.5 %, between
# the first and the last 98.4 %, five rounds 93.8 % at most. Memory is one measurement, each side in a process of its own.
#
# - "loop over network": what noise, loss, optimiser and average add to a network's own forward and backward pass.
# - "Algorithm 1 over fused step": the published alternation written down line by line, with a draw for each player and heads
#   everywhere, over one step from one draw. Counting allows 10 / 7 = 1.43; not evaluating heads where nothing is noise, and
#   never holding a tensor of all classes, comes on top. Memory is the other way round, ours over the literal one's.
# - "sampler over network": what sampling adds to the evaluations; "plain loop over sampler": what is saved by not
#   evaluating sequences in which nothing can change.
# - "flow_matching over ours", "bionemo-moco over ours": the public packages with the same network and as much work; above 1
#   they are slower, and a row whose interval holds 1 is level.
# - "float32 over ...": plain precision over bfloat16 or compiled layers; "plain over compiled sampling": what `--compile`
#   saves a small network; "one process over two": what `torchrun` gains.
# - "utilisation": the share of a training step's time that its counted operations would take in one large matrix product of
#   the same precision.
#
# `make bench` measures them on your machine.

# %%
ratios = measured_ratios()
display(ratios if len(ratios) else Markdown("No benchmark has been run for this copy of the book."))

# %% [markdown]
# ## Does one draw for both players cost quality?
#
# Recipes of images and text update both players from one draw, which takes 7 forward passes' worth of work for the 10 of
# Algorithm 1. Both ways, once with as many updates of the generator and once with as much work, by the first metric of
# their world, from the records of [what the paper leaves open](open_choices.py): "confirmed" would mean that every training
# seed of one side is better than every one of the other, "refuted" the reverse.

# %%
turns = verdict_table("open_choices", load_results("open_choices"))
turns[turns.index.get_level_values("expected").str.contains("draw")]

# %% [markdown]
# ## The book itself
#
# Each page says at its end how long it took, and on what. The site needs no more than a browser.
