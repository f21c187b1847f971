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
# # How single precision flatters teachers
#
# **Claim.** Drawing tokens with single-precision random numbers, as much released code does, silently lowers the
# temperature of a sampler, and the more steps it takes the more. Teachers are sampled in many steps, students in few. So in
# a plot of quality against steps the teachers' end is flattered, as far as the metric likes sharp samples, and perplexity
# does {cite:p}`sampler_bias`. Here the loss is computed and simulated draw by draw, and it is shown how this package avoids
# it.
#
# **Where it comes from.** A common sampler takes the class with the largest $p_c/(-\log U_c)$. A float32 uniform is a
# multiple of $2^{-24}$, so $-\log U_c$ cannot be smaller than that, and a class of probability $q$ is drawn with only
#
# $$\frac{a}{e^a-1},\qquad a = \frac{2^{-24}}{q}$$
#
# of it. A masked sampler that draws "stay masked" along with the tokens asks for $q = p_c\,(\alpha_s-\alpha_t)/(1-\alpha_t)$,
# about $p_c/K$ with $K$ steps. Rare tokens vanish first.
#
# Run time: about half a minute on one core of a laptop.

# %% tags=["parameters"]
draws: int = 50000  # draws for each simulated point
steps: list[int] = [16, 64, 256, 1024, 4096]  # sampling steps
vocabulary: int = 50257  # classes of the synthetic law; GPT-2 has 50,257
n: int = 16  # samples of the trained teacher by each sampler
teacher_steps: int = 128  # their sampling steps
cuts: list[int] = [14, 10]  # bits of the uniforms of two coarser samplers
seed: int = 0  # random seed

# %%
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from dmmd_lite import Record, Samples, evaluate, generator_for, load_model
from dmmd_lite.pages.display import show
from dmmd_lite.report.plots import PALETTE
from dmmd_lite.studies.theory.single_precision import common_samples, drawn_law, kept_share, ratio_sampler
from dmmd_lite.utils.provenance import machine
from dmmd_lite.utils.records import save_records
from dmmd_lite.utils.rng import categorical

rng = generator_for("cpu", seed)

# %% [markdown]
# ## The formula against simulation
#
# Events of probability $10^{-7}$ are too rare to count in plenty, so uniforms are cut to 10 bits here instead of the 24 of
# float32: the same mechanism at a larger $q$. Circles: the common sampler. Crosses: this package's `rng.categorical`,
# which inverts the distribution function in float64. Bars are two standard errors.


# %%
def simulate(q, sampler, classes=32):
    """How often one of the classes of probability q is drawn, as a share of what is due, and its standard error."""
    p = torch.full((classes + 1,), q, dtype=torch.float64)
    p[-1] = 1 - classes * q
    hits, due = int((sampler(p) < classes).sum()), draws * classes * q
    return hits / due, max(hits, 1) ** 0.5 / due


points = {}
for q in 2.0**-10 * np.array([0.25, 0.5, 1, 2, 4, 8]):
    common = simulate(float(q), lambda p: ratio_sampler(p.expand(draws, -1), rng, bits=10))
    ours = simulate(float(q), lambda p: categorical(p.log().expand(draws, -1), rng))
    points[2.0**-10 / q] = (common, ours)

fig, ax = plt.subplots(figsize=(7, 3.6))
a = np.geomspace(0.1, 8, 100)
ax.plot(a, kept_share(torch.from_numpy(2.0**-24 / a)), color="black", label="formula")
for place, (label, marker) in enumerate([("common sampler, 10 bits", "o"), ("this package, float64", "X")]):
    values = np.array([points[at][place] for at in points]).T
    ax.errorbar(list(points), values[0], 2 * values[1], fmt=marker, color=PALETTE[place], label=label)
ax.set_xscale("log")
ax.set_xlabel("a: the least step of the uniforms over the probability")
ax.set_ylabel("drawn, as a share of due")
ax.legend(fontsize=8)
show(
    fig,
    "Share of its probability with which a class is drawn: the formula, simulations on it, and float64 at one.",
)

# %%
single = torch.rand(1_000_000, generator=rng, dtype=torch.float32) * 2**24
print(f"float32 uniforms that are multiples of 2^-24: {(single == single.floor()).double().mean():.0%}")

# %% [markdown]
# ## What it does to text
#
# A law over as many classes as GPT-2 has tokens, whose probabilities fall with the rank, at $t=\tfrac12$. Entropy in nats of
# what is really drawn, and what is due; the last column is the factor on a perplexity. Nothing but the number of steps
# changes.

# %%
rank = torch.arange(1, vocabulary + 1, dtype=torch.float64)
zipf = (1 / (rank + 2.7)) / (1 / (rank + 2.7)).sum()


def entropy(p):
    return float(-torch.xlogy(p, p).sum(-1).mean())


records, rows = [], {}
for k in steps:
    revealed = 1 / (k * 0.5)  # (alpha_s - alpha_t) / (1 - alpha_t) at t = 0.5 with alpha = 1 - t
    drawn, due = entropy(drawn_law(zipf, revealed)), entropy(zipf)
    details, made = {"due": due, "vocabulary": vocabulary}, {"measured": machine()}
    record = Record("drawn_entropy", drawn, None, None, 0, "entropy due", details, steps=k, provenance=made)
    records.append(record)
    rows[k] = {
        "entropy drawn": round(drawn, 3),
        "entropy due": round(due, 3),
        "exp of the difference": f"{np.exp(drawn - due):.2f}",
    }
pd.DataFrame.from_dict(rows, orient="index").rename_axis("steps")

# %% [markdown]
# In a few steps hardly anything happens; in a thousand the sampler is colder by more than a nat on this law, whose tail is
# heavy: a trained model's, most of the time, is lighter. A student of 16 steps compared with such a teacher of 1,024 is
# compared with a sharpened one.
#
# ## What it would do to a trained teacher of this book
#
# The same for the laws that the masked text teacher of this book predicts, half of the positions masked. With 27 symbols no
# probability is small enough, and the effect is nothing: figures here would not change by it. It is for large vocabularies
# that it matters.

# %%
model = load_model("docstrings-masked-teacher")
x = model.world.sample(8, rng, "test")
noisy = model.process.corrupt(x, torch.full((8,), 0.5), rng)
with torch.no_grad():
    laws = model.denoiser(noisy, torch.full((8,), 0.5)).exp()[model.process.loss_mask(noisy)]
rows = {
    k: {"entropy drawn": f"{entropy(drawn_law(laws, 2 / k)):.5f}", "entropy due": f"{entropy(laws):.5f}"}
    for k in steps
}
pd.DataFrame.from_dict(rows, orient="index").rename_axis("steps")

# %% [markdown]
# ## That teacher, sampled the common way
#
# Now its whole reverse process, position by position and step by step. Of every token it is noted how surprising it was to
# the teacher's law that it was drawn from, less what is due, which is the entropy of that law: nats a token, two
# standard errors, and what the formula expects. The perplexity is the book's autoregressive judge's, with its 95 % interval.
#
# In float32 the surprise expected to be lost here is far below what samples can show. Since it depends on
# $2^{-\mathrm{bits}}/q$ alone, fewer bits stand for smaller probabilities: what $b$ bits do to this teacher in $K$ steps,
# float32 does to one whose probabilities are $2^{24-b}$ times smaller, or in about as many times more steps. The formula
# itself is an approximation, good to a few per cent at these bits.

# %%
colder, rows = {}, {}


def judge(label, samples):
    """Perplexity of some samples, as a record and in the table."""
    [r] = evaluate(model, ["perplexity"], steps=teacher_steps, num=n, seed=seed, samples=samples)
    r = replace(r, details={**r.details, "sampler": label})
    records.append(r)
    rows[label] = {"perplexity": r.text(2)}
    return r


for bits in [None, *cuts]:
    label = f"common, {bits} bits" if bits else "common, float32"
    tokens, surprise, expected = common_samples(
        model.denoiser, model.process, n, model.world.length, teacher_steps, rng, bits
    )
    judged = judge(label, Samples(tokens, teacher_steps, teacher_steps))
    mean, error, due = float(surprise.mean()), float(surprise.std()) / len(surprise) ** 0.5, expected.mean()
    colder[label] = mean, error, float(due)
    rows[label] |= {"surprise less what is due": f"{mean:+.3f} ± {2 * error:.3f}", "expected": f"{due:+.4f}"}
    found = {"value": mean, "low": mean - 2 * error, "high": mean + 2 * error, "n": len(surprise)}
    details = {"sampler": label, "expected": float(due)}
    excess = replace(judged, name="excess_surprise", reference="entropy due", details=details, **found)
    records.append(excess)
judge("this package", model.sample(n, teacher_steps, seed=seed))
pd.DataFrame.from_dict(rows, orient="index").fillna("").rename_axis("sampler")

# %% [markdown]
# ## How it is avoided here
#
# Twice. Every draw of a category is made in float64. And masked samplers first draw *which* positions are revealed, which
# does not depend on the tokens, and then a token from $\hat x$ alone: no probability is ever divided by the number of
# steps. Uniform noise is stepped by a three-way draw whose rare ways stand where random numbers are finest. The modules are
# `dmmd_lite.utils.rng`, `dmmd_lite.sampling` and `dmmd_lite.processes`.

# %%
assert all(
    abs(few[0] - float(kept_share(torch.tensor(2.0**-10 / at), 10))) < 5 * few[1]
    for at, (few, _) in points.items()
)
assert all(abs(ours[0] - 1) < 5 * ours[1] for _, ours in points.values())
assert all(abs(mean - due) < 5 * error + 0.05 * abs(due) for mean, error, due in colder.values())
save_records("sampler_bias", records)
