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
# # Text whose truth is known
#
# **Claim.** Against a teacher that is *exactly* right, a D-MMD student of eight steps is still far better than that
# teacher at eight steps. What a few-step sampler loses is not the teacher's knowledge but the correlations inside a
# step, and that is what distillation restores.
#
# The world is a first-order chain over 27 characters, fitted to the docstrings of Python's standard library, in
# sequences of 64. Its posteriors under noise come from forward–backward, so the teacher has no error of its own. The
# student and its auxiliary start from a network fitted to those posteriors. Two measures, both against the truth: the
# total variation between the trigrams of the samples and the exact trigram law (with the floor that equally many
# exact samples have), and the exact log-likelihood of the samples.
#
# Run time: about a minute on one core of a laptop.

# %% tags=["parameters"]
n: int = 1000  # samples per cell computed live
teacher_steps: list[int] = [4, 8, 16, 32]  # steps of the exact teacher computed live
students: list[int] = [8]  # students computed live
processes: list[str] = ["masked"]  # noise processes computed live
train_seeds: list[int] = [0]  # training seeds of the students computed live
sampling_seed: int = 0  # seed of the samples

# %%
import matplotlib.pyplot as plt
import pandas as pd

from dmmd_lite.evaluate import draw_samples, evaluate
from dmmd_lite.pages import load_results, save_records
from dmmd_lite.plots import interval_line, log_steps, show
from dmmd_lite.store import load_model

METRICS = ["ngram_divergence", "log_likelihood", "sample_entropy"]
cells = [(f"markov-{p}-exact", k, 0) for p in processes for k in teacher_steps]
cells += [(f"markov-{p}-dmmd-{k}", k, seed) for p in processes for k in students for seed in train_seeds]
records = []
for name, steps, train_seed in cells:
    model = load_model(name, seed=train_seed)
    records += [r.to_dict() for r in evaluate(model, METRICS, steps=steps, num=n, seed=sampling_seed)]
committed = load_results("exact_text")

# %% [markdown]
# ## Trigrams and likelihood against steps

# %%
def rows(source, metric, model):
    return [r for r in source if r["name"] == metric and r["model"].startswith(model)]


def seed_of(record):
    return record["provenance"].get("training_seed", 0)


shown = sorted({r["model"].split("-")[1] for r in committed + records})
fig, axes = plt.subplots(1, 2, figsize=(11, 4))
for ax, metric in zip(axes, METRICS, strict=False):
    for row, process in enumerate(shown):
        interval_line(ax, rows(committed, metric, f"markov-{process}-exact"), "steps", f"exact teacher, {process}", 2 * row)
        interval_line(ax, rows(committed, metric, f"markov-{process}-dmmd"), "steps", f"D-MMD students, {process}", 2 * row + 1)
    interval_line(ax, rows(records, metric, "markov"), "steps", f"computed here (n = {n})", 5, live=True)
    log_steps(ax, {r["steps"] for r in committed + records})
for r in rows(committed, "ngram_divergence", "markov")[:1]:
    axes[0].axhline(r["details"]["floor"], color="black", linestyle=":", label=f"exact samples (n = {r['n']})")
axes[0].set_ylabel("trigram divergence (total variation)")
axes[1].axhline(-load_model("markov-masked-exact").world.entropy() / 64, color="black", linestyle=":", label="the chain itself")
axes[1].set_ylabel("log-likelihood, nats per character")
axes[0].legend(fontsize=8)
show(fig, "Trigram divergence and log-likelihood against sampling steps for the exact teacher and D-MMD students.")

# %%
table = pd.DataFrame(committed)
table["seed"] = [seed_of(r) for r in committed]
table["cell"] = [f"{v:.3f} [{lo:.3f}, {hi:.3f}]" for v, lo, hi in zip(table["value"], table["low"], table["high"], strict=True)]
table.pivot_table(index=["model", "seed", "steps", "n"], columns="name", values="cell", aggfunc="first", sort=False)[METRICS]

# %% [markdown]
# A likelihood above the dotted line is not a success: samples can be more likely than the chain's own when they are
# too predictable. The trigram divergence tells the two apart.
#
# ## Samples side by side
#
# Equal cost, same seed, not picked.

# %%
for name in (f"markov-{processes[0]}-exact", f"markov-{processes[0]}-dmmd-8"):
    model = load_model(name)
    print(f"{name}, 8 steps")
    for line in model.world.show(draw_samples(model, 6, 8, seed=sampling_seed).tokens):
        print("   ", line)

# %%
save_records("exact_text", records)
