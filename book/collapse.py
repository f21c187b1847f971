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
# # How earlier methods collapse
#
# **The paper's claim.** Earlier ways to distil a discrete diffusion model drop modes or lose quality when few steps are
# left. Here every method, as its authors describe it, distils the same world from the same teacher with the same work:
# the sequences its networks evaluate, a backward pass counting two, are equal within a tenth. Where a method had to be
# filled in or differs from its paper, the docstring of its file in `dmmd_lite/objectives/` says so.
#
# Two failures are possible on the two coins (HH with probability 0.6, TT with 0.4), and both are seen. A student that
# matches marginals shows pairs that never occur (HT, TH). A student that avoids those shows one face only. To do neither
# in one step it needs something that both coins can follow: an input noise (D-MMD, Di[M]O), a mixture (Di4C), or a
# random start (uniform noise, ReDi).
#
# Run time: about a minute on one core of a laptop; tables with several training seeds come from committed records.

# %% tags=["parameters"]
scale: str = "laptop"  # of everything trained live
watched: list[str] = []  # coins students to train and watch anew (a minute or two each)
frames: int = 24  # frames of a watched student
digit_students: list[str] = ["digits-masked-dmmd-4", "digits-uniform-dmmd-4"]  # digits students to sample
n_digits: int = 500  # digits sampled of each
clamps: list[float] = [1e-3, 1e-10]  # least probability of a target, for the curve of SDTT
sdtt_updates: int = 400  # updates of the one-round SDTT students trained live
components: list[int] = [1, 2, 4, 16]  # equal components of a mixture of product laws, for the limits
train_seed: int = 0  # training seed of everything trained live
noise_draws: int = 4096  # draws behind the law of a student with noise input

# %%
import tempfile
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from dmmd_lite.boards import board
from dmmd_lite.evaluate import draw_samples, evaluate
from dmmd_lite.figures import (
    class_shares,
    laws_on_the_way,
    methods_against_steps,
    rows_of_images,
    stacked_laws,
    text_frontier,
)
from dmmd_lite.leaderboard import JUDGED_BY, NAMES, committed_records, students, teacher
from dmmd_lite.metrics.exact import exact_law, total_variation
from dmmd_lite.metrics.limits import best_mixture, one_step_sdtt
from dmmd_lite.pages import load_results, save_records
from dmmd_lite.plots import MARKERS, PALETTE, filmstrip, show
from dmmd_lite.processes import PROCESSES
from dmmd_lite.recipes import UNTUNED, get_recipe
from dmmd_lite.results import select
from dmmd_lite.rng import generator_for
from dmmd_lite.samples import from_text, to_text
from dmmd_lite.store import load_model, read_model, train_recipe
from dmmd_lite.watching import film
from dmmd_lite.worlds import get_world

committed = load_results("collapse")
everything = committed_records()
coins = get_world("coins")
outcomes = coins.show(coins.all_sequences())


def law_of(model):
    """The law over HH, HT, TH, TT of one sampling step, averaged over noise draws."""
    generator = generator_for("cpu", 0)
    return exact_law(model.denoiser, model.process, coins, 1, noise_draws, generator).mean(0)


# %% [markdown]
# ## One step on two coins
#
# What each student emits, computed and not sampled. Every bar is one model, training seed 0.

# %%
laws = {"the world": coins.law()}
for process in ("masked", "uniform"):
    laws[f"teacher, {process}"] = law_of(load_model(teacher("coins", process)))
for name, _ in students("coins", [1]):
    model = load_model(name)
    laws[f"{NAMES[model.recipe.role]}, {model.recipe.process}"] = law_of(model)

show(
    stacked_laws(laws, coins),
    "Stacked bars: the share of HH, HT, TH and TT that the world, the teachers and each method's student emit",
)

# %%
pd.DataFrame(
    {
        label: {
            "total variation": float(total_variation(law, coins)),
            "pairs that never occur": float(law[coins.law() == 0].sum()),
            **dict(zip(outcomes, law.tolist(), strict=True)),
        }
        for label, law in laws.items()
    }
).T.round(3)

# %% [markdown]
# Over training seeds, from the committed records: mean (least to most).

# %%
board(everything, "coins", "total_variation", steps=[1])

# %% [markdown]
# Read it by what is lost. D-MMD with its noise input shows both faces and hardly anything else in all five seeds, masked
# and uniform. So does Di4C, whose mixture is trained towards the same end, with shares that are further off in some
# seeds. Masked IDLM and SDTT end on heads: nothing in their losses rewards the face that is missing, and SDTT keeps a part
# of the impossible pairs besides. Di[M]O, which starts from random tokens and has the noise input, too, gets it right in
# one seed and all but loses a face in the four others; uniform IDLM loses one in three seeds and has the wrong shares in
# two. DCD keeps many impossible pairs in four seeds and shows one face in the fifth. ReDi keeps both faces and three
# impossible pairs in ten: it is made for a few steps, and each of its rounds takes away a part only.
#
# **How fair is this?** All students start from the same network, have the same teacher (its floor on probabilities is
# the one each method stands) and the same work. D-MMD's recipe for this world was lengthened after its first seeds had
# been seen (see [Two coins](coins)). Of the others only what stood in their way was mended: IDLM's floor, the number of
# Di4C's lambdas, its batch and where lambda enters, rates that fell before the last round. A method's best setting may
# well do better than its row.
#
# ## Watching the modes come and go
#
# Every student's law at equal distances on its way, training seed 0: the picture has both faces and everything that
# never occurs as lines, the filmstrip all four outcomes. The length of the axis is the whole training, whose updates
# differ in number because methods differ in what an update takes. Move the slider.

# %%
records = [
    film(get_recipe(name, scale), frames, seed=train_seed, draws=noise_draws).to_dict() for name in watched
]
films = {r["model"]: r["details"]["film"] for r in committed + records if "film" in r["details"]}
films = {
    f"{NAMES[get_recipe(name).role]}, {get_recipe(name).process}": strip for name, strip in films.items()
}
alt = "Probability of two heads, of two tails and of mixed pairs while every method trains; dotted: the world"
show(laws_on_the_way(films, coins), alt)


# %%
def frame(part):
    """All laws at a part of the training."""
    at = {name: strip["laws"][round(part * len(strip["laws"])) - 1] for name, strip in films.items()}
    return stacked_laws(at, coins)


parts = [round(k / 12, 2) for k in range(1, 13)]
filmstrip(frame, parts, "part of the training", "Every method's law over HH, HT, TH and TT on the way")

# %% [markdown]
# ## SDTT: the clamp decides
#
# SDTT's student is one product law, and its target for a position is what the teacher says of it in one of two
# sub-steps: before the other coin is known (0.6 heads) or after (certain). Reverse KL takes the geometric mean of
# these, in which a certain target beats any doubt, so what a certain target's *other* class is worth decides: the bound
# put on log-probabilities. The line is the least loss by direct minimisation, the points are trained students of one
# round. Forward KL takes the plain mean, and ends at the product of the marginals.


# %%
def one_round(clamp, divergence="reverse_kl"):
    """What a one-round SDTT student ends at, with the probability of heads of either coin, as a record."""
    changes = {
        "method.rounds": 1,
        "method.clamp": clamp,
        "method.divergence": divergence,
        "floor": 1e-21,  # of the teacher, below every clamp
        "training.steps": sdtt_updates,
    }
    recipe = UNTUNED["coins-masked-sdtt-1"]("laptop").with_changes(changes)
    with tempfile.TemporaryDirectory() as folder:
        model = read_model(train_recipe(recipe, folder, seed=train_seed))
    (record,) = evaluate(model, ["total_variation"], steps=1)
    law = law_of(model)
    heads = [float(law[:2].sum()), float(law[::2].sum())]
    return replace(record, details={"clamp": clamp, "divergence": divergence, "heads": heads}).to_dict()


rounds = [one_round(clamp) for clamp in clamps] + [one_round(clamps[0], "forward_kl")]
curve = np.logspace(-20, -3, 18)
least = [float(one_step_sdtt(coins, clamp)[0, 0]) for clamp in curve]

fig, ax = plt.subplots(figsize=(6, 3.6))
ax.plot(curve, least, color=PALETTE[0], label="reverse KL, least loss")
ax.axhline(0.6, color="black", linestyle=":", label="marginal of the world")
for k, divergence in enumerate(("reverse_kl", "forward_kl")):
    for source, colour in ((committed, PALETTE[k]), (rounds, "white")):
        points = [r for r in source if r["details"].get("divergence") == divergence]
        at = [r["details"]["clamp"] for r in points]
        heads = [sum(r["details"]["heads"]) / 2 for r in points]
        label = divergence.replace("_kl", " KL") + (", computed here" if source is rounds else ", seeds")
        ax.plot(at, heads, MARKERS[k], color=PALETTE[k], markerfacecolor=colour, label=label)
ax.set_xscale("log")
ax.set_xlabel("clamp: least probability of a target")
ax.set_ylabel("probability of heads")
ax.legend(fontsize=8)
show(
    fig,
    "Probability of heads at which one round of SDTT ends, against the clamp on the target's probabilities",
)

# %% [markdown]
# Whatever the clamp, a product law with both faces in it has pairs that never occur, and one without them has lost a
# face. With the rounds of the method itself (six here, 64 steps to 1) the student of the picture above goes further
# than one round does: what was sharpened once is the next round's teacher.
#
# ## Di4C: as many faces as components
#
# Its student is a mixture. With M equal components no more than M product laws can be mixed; the least distance that
# allows is found by direct optimisation. The trained ones are `coins-masked-di4c-1` with `network.mixture` set to M. With
# one component the loss leaves the student the teacher's marginals, which are not the best product law.

# %%
limits = {m: best_mixture(coins, m)[0] for m in components}
mixtures = [r for r in committed if r["name"] == "total_variation" and "components" in r["details"]]
trained = {
    m: ", ".join(
        f"{r['value']:.4f} [{r['low']:.4f}, {r['high']:.4f}]"
        for r in mixtures
        if r["details"]["components"] == m
    )
    for m in components
}
columns = {"best of so many product laws": limits, "Di4C, trained (seed 0)": trained}
pd.DataFrame(columns).rename_axis("components").round(4)

# %% [markdown]
# Intervals are over the draws of the component, of which there are finitely many in a record.

# %% [markdown]
# ## Permutations
#
# Four tokens that are all different: 24 outcomes of 256, so every position depends on all others. Total variation from the
# truth, exact, for students of 1, 4 and 16 steps; the teacher is the exact posterior, and what it has in few steps is what
# independent draws cost. One training seed so far: an observation, not a claim.
#
# SDTT and masked IDLM end where the teacher is at the same number of steps: neither has anything that four positions could
# follow together. So does Di4C, although its mixture could: its student never leaves the teacher's law. **What was tried**
# for it: first weights of λ's projection four times as large, with a third and with three times the rate, which changed
# nothing, and ten times the weight of data, which made it worse than its teacher. DCD is worse than its teacher at every
# number of steps. ReDi and, in one step, Di[M]O improve on theirs, uniform IDLM does in 1 and 4 steps and is worse in 16;
# D-MMD does most. It has needed help here, too: with noise weights that begin at zero its masked students stay with the teacher as well, so on this world the
# projections of noise and λ begin at random values for all methods.

# %%
alt = "Total variation on the permutations against sampling steps for exact teachers and all methods"
show(methods_against_steps(everything, "permutations", ["total_variation"], ["total_variation"]), alt)

# %% [markdown]
# ## Digits
#
# Real images: 64 tokens of 17 levels, no truth to compare with but held-out images. Students in four steps (Di[M]O in
# one) of training seed 0, teachers in four steps on top: the first samples of each, nothing picked.


# %%
def measured(name, steps):
    """A digits model's records, with its first samples in that of the classes."""
    model = load_model(name, scale)
    drawn = draw_samples(model, n_digits, steps)
    found = evaluate(model, list(JUDGED_BY["digits"]), steps=steps, num=n_digits, samples=drawn)
    details = {"samples": to_text(drawn.tokens[:16])}
    return [
        replace(r, details={**r.details, **details} if "shares" in r.details else r.details) for r in found
    ]


drawn_here = [r.to_dict() for name in digit_students for r in measured(name, get_recipe(name).method.steps)]
digits = get_world("digits")
compared = {f"teacher, {process}": (teacher("digits", process), 4) for process in PROCESSES}
for name, k in students("digits", [4]) + students("digits", [1], ["dimo"]):
    compared[f"{NAMES[get_recipe(name).role]}, {get_recipe(name).process}"] = name, k
shown = {}
for label, (name, k) in compared.items():
    found = select(drawn_here + committed, name="class_histogram", model=name, steps=k)
    shown |= {label: found[0]["details"]} if found else {}

show(
    rows_of_images({label: digits.show(from_text(d["samples"])) for label, d in shown.items()}),
    "Sixteen digits sampled by each of these, a row each: " + "; ".join(shown),
)

# %% [markdown]
# Which digits are there? Shares of the ten classes as a classifier sees them; the line is held-out images.

# %%
alt = "Shares of the ten digit classes among each model's samples, with those of held-out images as a line"
show(class_shares(shown), alt)

# %% [markdown]
# Fréchet distance (less is better) and coverage (more is better) against sampling steps. Lines are means over three
# training seeds, bars go from the least to the most of them; teachers are trained once.

# %%
alt = (
    "Fréchet distance and coverage on the digits against sampling steps for every method, masked and uniform"
)
show(methods_against_steps(everything, "digits", ["frechet", "coverage"], logarithmic=("frechet",)), alt)

# %% [markdown]
# Read the figure from its left end. In one step D-MMD stays where its teacher comes with sixteen, under both noises; every
# other method falls far behind and, ReDi aside, covers few of the held-out images. In four steps Di4C and ReDi better
# their masked teacher, SDTT and DCD hardly do. In sixteen these are level with it (ReDi under uniform noise is not), and
# D-MMD passes it. Masked IDLM and Di[M]O lose classes: look at their histograms. Both let the student make the whole image
# at once and put noise on it again before they judge it, so a student without correlations is pushed towards a few images
# that agree with themselves; D-MMD judges after one small step of the sampler. Uniform IDLM keeps classes, and is worse
# than its teacher at every number of steps but one.
#
# **What was tried** for these two: their four trials each (see [the leaderboard](leaderboard)), with classes lost in all
# under masked noise; and for IDLM a tenth of the rates, which loses them as well under masked
# noise and comes near the teacher under uniform noise, without reaching it. The sources train far larger networks from far lower
# rates, for a thousand times as many updates.
#
# ReDi's masked students take their best checkpoint from the first third of the training, while they still learn data from
# random starts: here the rounds of rectification take away more than they give.

# %% [markdown]
# ## Text
#
# The docstrings: 27 symbols, 128 positions, real text, masked noise. The gradient moment (less is better) against steps,
# each model at the sampling top-p that was best on validation text. D-MMD's students of 16 steps have three training
# seeds, everything else has one: read this as an observation, not as a claim. Di[M]O, made for one step, and the other
# methods under uniform noise have recipes here and no trained students.

# %%
alt = "Gradient moment on the docstrings against sampling steps for the teachers and every method"
show(methods_against_steps(everything, "docstrings", ["gradient_moment"]), alt)

# %% [markdown]
# The frontier in 16 steps: one line a model, one point a sampling top-p. Sharper sampling buys a lower perplexity with less
# variety. A student that lost modes has fewer distinct 4-grams than another of its perplexity; the gradient moment sees
# both. Numbers and more columns are on the page of [Table 5](table5_text_methods).

# %%
frontier = select(load_results("table5_text_methods"), steps=16)
alt = "Perplexity against distinct 4-grams, and gradient moment against top-p, for masked models in 16 steps"
show(text_frontier(frontier), alt)

# %%
save_records("collapse", records + rounds + drawn_here)
