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
# # Figure 2: a random sample
#
# The paper's Figure 2 is one sample of the 16-step masked student, "random, not cherry-picked". So is this one: the
# seed is printed, the next sample is one move of the slider away, and beside the student stands its teacher at the same
# cost. Look for words that exist, then for neighbours that fit: with few steps a model gets letters right long before
# words, and words long before sentences.
#
# The models have half a million parameters and learned from 2.2 million characters, so expect fluent fragments rather
# than sentences. Run time: about a minute on one core of a laptop.

# %% tags=["parameters"]
seed: int = 0  # seed of the first sample; the others follow
num_seeds: int = 6  # samples behind the slider
lines: int = 6  # sequences shown for each seed
steps: int = 16  # sampling steps of both models
top_p: float = 1.0  # sampling top-p of both models

# %%
import matplotlib.pyplot as plt

from dmmd_lite import evaluate, get_world, load_model
from dmmd_lite.pages.display import filmstrip
from dmmd_lite.pages.widgets import explore
from dmmd_lite.report.explorers import trajectory
from dmmd_lite.utils.records import save_records

world = get_world("docstrings")
models = {
    "real text, test modules": None,
    f"teacher, {steps} steps": load_model("docstrings-masked-teacher"),
    "teacher, 128 steps": load_model("docstrings-masked-teacher"),
    f"student, {steps} steps": load_model("docstrings-masked-dmmd-16"),
}


# %%
def texts(title, seed):
    """Some sequences of a model as strings; its steps stand in the title."""
    if models[title] is None:
        windows = world.split("test")
        return world.show(windows[seed * lines % len(windows) :][:lines])
    nominal = 128 if "128" in title else steps
    return world.show(models[title].sample(lines, nominal, seed=seed, top_p=top_p).tokens)


print(f"seed {seed}")
for title in models:
    print(f"\n{title}")
    for line in texts(title, seed):
        print("   ", line)

# %% [markdown]
# ## The next one
#
# Every position of the slider is another seed.


# %%
def frame(seed):
    shown = [
        part for title in models for part in (title, *("    " + line for line in texts(title, seed)), "")
    ]
    fig = plt.figure(figsize=(12, 0.19 * len(shown)))
    fig.text(0.01, 0.98, "\n".join(shown), family="monospace", fontsize=8, va="top")
    return fig


filmstrip(
    frame, list(range(seed, seed + num_seeds)), "seed", "Samples of teacher and student beside real text"
)

# %% [markdown]
# ## How a sample comes about
#
# The student's reverse process step by step: a dot is a masked position, marked symbols are new. All of a step's
# symbols are drawn independently given what stands before it; the fewer steps, the more has to fit by itself.

# %%
steps_shown = {"after_step": list(range(steps + 1))}
path = trajectory(models[f"student, {steps} steps"], steps, lines, seed, top_p)
explore(steps_shown, path, strip="after_step", start={"after_step": steps // 2})

# %% [markdown]
# ## What the models cost and score
#
# The same two models on 64 samples; intervals are wide at this number, the figures with many samples are on the page
# of [Figure 1](fig1_steps_text.py).

# %%
records = []
for title, model in models.items():
    if model is not None:
        nominal = 128 if "128" in title else steps
        sampling = {"steps": nominal, "num": 64, "seed": seed, "top_p": top_p}
        for r in evaluate(model, ["gradient_moment", "perplexity"], **sampling):
            records.append(r)
            print(f"{title:20s} {r.name:16s} {r.text(4)}, {r.evaluations:.0f} evaluations")

# %%
save_records("fig2_sample", records)
