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

from dmmd_lite.evaluate import evaluate
from dmmd_lite.leaderboard import NAMES, board, committed_records, students, teacher
from dmmd_lite.metrics.exact import exact_law, total_variation
from dmmd_lite.metrics.limits import best_mixture, one_step_sdtt
from dmmd_lite.pages import load_results, save_records
from dmmd_lite.plots import MARKERS, PALETTE, show
from dmmd_lite.recipes import get_recipe
from dmmd_lite.rng import generator_for
from dmmd_lite.store import load_model, read_model, train_recipe
from dmmd_lite.worlds import get_world

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

fig, ax = plt.subplots(figsize=(8, 0.34 * len(laws) + 1.2))
left = np.zeros(len(laws))
for k, outcome in enumerate(outcomes):
    share = np.array([float(law[k]) for law in laws.values()])
    impossible = coins.law()[k] == 0
    ax.barh(list(laws), share, left=left, color=PALETTE[k], hatch="//" if impossible else "", label=outcome)
    left += share
ax.invert_yaxis()
ax.set_xlim(0, 1)
ax.set_xlabel("probability (hatched: never occurs in the world)")
ax.legend(ncols=4, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0))
show(
    fig,
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
board(committed_records(), "coins", "total_variation", steps=[1])

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
    recipe = get_recipe("coins-masked-sdtt-1", changes=changes)
    with tempfile.TemporaryDirectory() as folder:
        model = read_model(train_recipe(recipe, folder, seed=train_seed))
    (record,) = evaluate(model, ["total_variation"], steps=1)
    law = law_of(model)
    heads = [float(law[:2].sum()), float(law[::2].sum())]
    return replace(record, details={"clamp": clamp, "divergence": divergence, "heads": heads}).to_dict()


records = [one_round(clamp) for clamp in clamps] + [one_round(clamps[0], "forward_kl")]
curve = np.logspace(-20, -3, 18)
least = [float(one_step_sdtt(coins, clamp)[0, 0]) for clamp in curve]

fig, ax = plt.subplots(figsize=(6, 3.6))
ax.plot(curve, least, color=PALETTE[0], label="reverse KL, least loss")
ax.axhline(0.6, color="black", linestyle=":", label="marginal of the world")
for k, divergence in enumerate(("reverse_kl", "forward_kl")):
    for source, colour in ((load_results("collapse"), PALETTE[k]), (records, "white")):
        points = [r for r in source if r["details"].get("divergence") == divergence]
        at = [r["details"]["clamp"] for r in points]
        heads = [sum(r["details"]["heads"]) / 2 for r in points]
        label = divergence.replace("_kl", " KL") + (", computed here" if source is records else ", seeds")
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
mixtures = [
    r for r in load_results("collapse") if r["name"] == "total_variation" and "components" in r["details"]
]
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

# %%
save_records("collapse", records)
