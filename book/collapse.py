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
# filled in or differs from its paper, the end of this page says so.
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
clamps: list[float] = [1e-3, 1e-10]  # minimum probability of a target, for the curve of SDTT
sdtt_updates: int = 400  # updates of the one-round SDTT students trained live
components: list[int] = [1, 2, 4, 16]  # equal components of a mixture of product laws, for the limits
train_seed: int = 0  # training seed of everything trained live
noise_draws: int = 4096  # draws behind the law of a student with noise input

# %%
from dataclasses import replace

import pandas as pd
from IPython.display import Markdown, display

from dmmd_lite import evaluate, get_recipe, get_world, load_model
from dmmd_lite.metrics.exact_laws import mean_law, total_variation
from dmmd_lite.objectives import deviations
from dmmd_lite.pages.display import filmstrip, show
from dmmd_lite.pages.sphinx_markdown import to_markdown
from dmmd_lite.processes import PROCESSES
from dmmd_lite.recipes.world_settings import settings_of
from dmmd_lite.report.collapse import (
    clamp_curve,
    clamp_table,
    distributions_over_training,
    stacked_distributions,
)
from dmmd_lite.report.leaderboard import (
    NAMES,
    committed_records,
    last_against_chosen,
    methods_against_steps,
    methods_table,
)
from dmmd_lite.report.plots import class_shares, rows_of_images
from dmmd_lite.report.text import text_frontier
from dmmd_lite.studies.comparison import students, teacher
from dmmd_lite.studies.sdtt_clamp import grids, one_round
from dmmd_lite.studies.theory.limits import best_mixture
from dmmd_lite.studies.trajectories import record_distributions
from dmmd_lite.utils.records import decode_tokens, encode_tokens, load_results, save_records, select, table

TO_THE_END = {"training.validate_every": 0}  # the change to a recipe that keeps the last checkpoint
loaded = load_results("collapse")
finished = [r for r in loaded if TO_THE_END.items() <= r.details.get("changes", {}).items()]
committed = [r for r in loaded if r not in finished]
everything = committed_records()
coins = get_world("coins")
outcomes = coins.show(coins.all_sequences())

# %% [markdown]
# ## One step on two coins
#
# What each student emits, computed and not sampled. Every bar is one model, training seed 0.

# %%
laws = {"the world": coins.law()}
for process in ("masked", "uniform"):
    exact = load_model(teacher("coins", process))
    laws[f"teacher, {process}"] = mean_law(exact.denoiser, exact.process, coins, 1)
for name, _ in students("coins", [1]):
    model, recipe = load_model(name), get_recipe(name)
    law = mean_law(model.denoiser, model.process, coins, 1, noise_draws)
    laws[f"{NAMES[recipe.role]}, {recipe.process}"] = law

show(
    stacked_distributions(laws, coins),
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
methods_table(everything, "coins", "total_variation", steps=[1])

# %% [markdown]
# Read it by what is lost. D-MMD with its noise input shows both faces and hardly anything else in all five seeds, masked
# and uniform. So does Di4C, whose mixture is trained towards the same end, with shares that are further off in some
# seeds. Masked IDLM and SDTT end on heads: their students are product laws, of which none has both faces and no
# impossible pairs, and SDTT keeps a part of those besides. Di[M]O, which starts from random tokens and has the noise
# input, too, gets it right in one seed and all but loses a face in the four others; uniform IDLM loses one in three seeds
# and has the wrong shares in two. DCD keeps many impossible pairs in four seeds and shows one face in the fifth. ReDi keeps
# both faces and three impossible pairs in ten: it is made for a few steps, and each of its rounds takes away a part only.
#
# **How fair is this?** All students start from the same network, have the same teacher (its floor on probabilities is
# the one each method stands) and the same work. D-MMD's recipe for this world was lengthened after its first seeds had
# been seen (see [Two coins](coins.py)). Of the others only what stood in their way was mended: IDLM's floor, the number of
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
    record_distributions(get_recipe(name, scale), frames, seed=train_seed, draws=noise_draws)
    for name in watched
]
recorded = {r.model: r.details["film"] for r in committed + records if "film" in r.details}
recorded = {
    f"{NAMES[get_recipe(name).role]}, {get_recipe(name).process}": strip for name, strip in recorded.items()
}
alt = "Probability of two heads, of two tails and of mixed pairs while every method trains; dotted: the world"
show(distributions_over_training(recorded, coins), alt)


# %%
def frame(part):
    """All laws at a part of the training."""
    at = {name: strip["laws"][round(part * len(strip["laws"])) - 1] for name, strip in recorded.items()}
    return stacked_distributions(at, coins)


parts = [round(k / 12, 2) for k in range(1, 13)]
filmstrip(frame, parts, "part of the training", "Every method's law over HH, HT, TH and TT on the way")

# %% [markdown]
# ## SDTT: the clamp decides
#
# SDTT's student is one product law, and its target for a position is what the teacher says of it in one of two
# sub-steps: before the other coin is known (0.6 heads) or after (certain). Reverse KL takes the geometric mean of
# these, in which a certain target beats any doubt, so what a certain target's *other* class is worth decides: the bound
# put on log-probabilities. The line is the minimum of the loss by direct minimisation, the points are trained students of one
# round. Forward KL takes the plain mean, and ends at the product of the marginals.

# %%
trained_here = [one_round(clamp, updates=sdtt_updates, seed=train_seed) for clamp in clamps]
trained_here.append(one_round(clamps[0], "forward_kl", updates=sdtt_updates, seed=train_seed))
alt = "Probability of heads at which one round of SDTT ends, against the clamp on the target's probabilities"
show(clamp_curve(committed, trained_here, coins), alt)

# %%
clamp_table(committed, coins).style.hide()

# %% [markdown]
# The student of the first picture has the default:

# %%
print("clamp of coins-masked-sdtt-1:", get_recipe("coins-masked-sdtt-1").method.clamp)

# %% [markdown]
# Whatever the clamp, a product law with both faces in it has pairs that never occur, and one without them has lost a
# face. Forward KL's total variation is that of the product of the marginals. With the rounds of the method itself (six here, 64 steps to 1) the student of the picture above goes further
# than one round does: what was sharpened once is the next round's teacher.
#
# **The released grid.** SDTT's code starts its two sub-steps at other times than the paper's text does, by what looks like
# a slip: (1 - t) stands where one minus a constant was meant. The table has, for the last round of a four-step student,
# where the two sub-steps start from some z_t, and how many of its masked positions the first one reveals.

# %%
pd.DataFrame(grids(1 / 8)).rename_axis("t")

# %% [markdown]
# Released, the network is asked about times that are not those of its input (the released network has no time input and
# cannot notice), and in between the first sub-step reveals fewer positions than one of that length should. A pair of
# students of the digits in four steps, equal but for the grid, at the end of their training, training seed 0, so an
# observation:

# %%
table(select(finished, model="digits-masked-sdtt-4", training_seed=0), ["model", "changes"], digits=3)

# %% [markdown]
# ## Di4C: as many faces as components
#
# Its student is a mixture. With M equal components no more than M product laws can be mixed; the least distance that
# allows is found by direct optimisation. The trained ones are `coins-masked-di4c-1` with `network.mixture` set to M. With
# one component the loss leaves the student the teacher's marginals, which are not the best product law.

# %%
limits = {m: best_mixture(coins, m)[0] for m in components}
mixtures = [r for r in committed if r.name == "total_variation" and "components" in r.details]
trained = {m: ", ".join(r.text(4) for r in mixtures if r.details["components"] == m) for m in components}
columns = {"best of so many product laws": limits, "Di4C, trained (seed 0)": trained}
pd.DataFrame(columns).rename_axis("components").round(4)

# %% [markdown]
# Intervals are over the draws of the component, of which there are finitely many in a record.

# %% [markdown]
# ## Permutations
#
# Four tokens that are all different: 24 outcomes of 256, so every position depends on all others. Total variation from the
# truth, exact, for students of 1, 4 and 16 steps and three training seeds; the teacher is the exact posterior, and what it
# has in few steps is what independent draws cost.
#
# SDTT and masked IDLM end where the teacher is at the same number of steps: neither has anything that four positions could
# follow together. So does Di4C, although its mixture could: its student never leaves the teacher's law. (Other first
# weights of λ's projection, rates and weights of data were tried for it in single runs, without success and without
# records.) DCD is worse than its teacher at every number of steps. ReDi is better than its teacher at every number of
# steps, uniform IDLM in one and four, Di[M]O in two seeds of three. D-MMD is the nearest in every seed, under both noises and
# at every number of steps. It has needed help: with noise weights that begin at zero its masked students stay with the
# teacher as well, so on this world the projections of noise and λ begin at random values for all methods.

# %%
alt = "Total variation on the permutations against sampling steps for exact teachers and all methods"
show(methods_against_steps(everything, "permutations", ["total_variation"], ["total_variation"]), alt)

# %% [markdown]
# ## Text whose truth is known
#
# A chain over 27 characters, in sequences of 64 ([exact text](exact_text.py)), whose exact posterior is everyone's teacher.
# Total variation of the samples' trigrams from the true ones (less is better), and the true log-likelihood of samples per
# token. Dotted is what as many exact samples have. Above that likelihood a student is surer of itself than the chain.

# %%
markov, metrics = get_world("markov"), ["ngram_divergence", "log_likelihood"]
of_chain = select(everything, world="markov", name="ngram_divergence")
truth = {
    "ngram_divergence": of_chain[0].details["floor"],
    "log_likelihood": -markov.entropy() / markov.length,
}
alt = "Trigram divergence and log-likelihood on Markov text against sampling steps for exact teachers and all methods"
show(methods_against_steps(everything, "markov", metrics, ["ngram_divergence"], truth), alt)

# %% [markdown]
# D-MMD is the nearest to the chain in one and in four steps, under both noises and in every seed, and no sample of its
# students is likelier on average than the chain's own. In sixteen steps nobody comes below the exact teacher, which is
# near the floor by then: D-MMD is within a tenth or so of it, masked Di4C nearer. With four times the updates and for
# eight steps its student does better than the exact teacher ([exact text](exact_text.py)): these runs are short, for all.
#
# Masked, SDTT and Di4C stay with the teacher at every number of steps or end a little above it. Di[M]O loses nearly all of the chain, IDLM much of it: in sixteen steps
# IDLM's trigrams are five to nine times as far away as its teacher's, while the likelihood of its samples looks good. ReDi is better than its teacher in one step and worse in sixteen; in four it is better under
# uniform noise and worse under masked. Uniform, DCD, Di4C and, by far, IDLM are worse in four and sixteen; in one step DCD
# and IDLM are worse, and Di4C is level with it.

# %% [markdown]
# ## Digits
#
# Real images: 64 tokens of 17 levels, no truth to compare with but held-out images. Students in four steps (Di[M]O in
# one) of training seed 0, teachers in four steps on top: the first samples of each, nothing picked.


# %%
def measured(name, steps):
    """A digits model's records, with its first samples in that of the classes."""
    model = load_model(name, scale)
    drawn = model.sample(n_digits, steps)
    found = evaluate(model, list(settings_of("digits").judged_by), steps=steps, num=n_digits, samples=drawn)
    details = {"samples": encode_tokens(drawn.tokens[:16])}
    return [
        replace(r, details={**r.details, **details} if "shares" in r.details else r.details) for r in found
    ]


drawn_here = [r for name in digit_students for r in measured(name, get_recipe(name).method.steps)]
digits = get_world("digits")
compared = {f"teacher, {process}": (teacher("digits", process), 4) for process in PROCESSES}
for name, k in students("digits", [4]) + students("digits", [1], ["dimo"]):
    compared[f"{NAMES[get_recipe(name).role]}, {get_recipe(name).process}"] = name, k
shown = {}
for label, (name, k) in compared.items():
    found = select(drawn_here + committed, name="class_histogram", model=name, steps=k)
    shown |= {label: found[0].details} if found else {}

show(
    rows_of_images({label: digits.show(decode_tokens(d["samples"])) for label, d in shown.items()}),
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
# Read the figure from its left end; every statement holds for all three seeds unless it says otherwise. In one step the
# Fréchet distance of D-MMD is below that of its teacher in sixteen under uniform noise, and under masked noise in two of
# three seeds; the next best method is more than twice as far away, and only D-MMD covers more than half of the held-out
# images. Teachers are means over five draws. In four steps masked Di4C, ReDi and SDTT better theirs; uniform Di4C does so
# in two seeds, DCD and uniform ReDi in none. In sixteen D-MMD is better than its teacher; Di4C, masked ReDi and DCD are level with
# theirs, SDTT is above it by about the interval, uniform ReDi and both IDLM are worse.
#
# Masked IDLM and Di[M]O lose classes (the picture shows seed 0; in the other two seeds of Di[M]O a single class has more
# than half of the samples). Both let the student make the whole image at once and put noise on it again before they judge
# it, so a student without correlations is pushed towards a few images that agree with themselves; D-MMD judges after one
# small step of the sampler. Uniform IDLM keeps all classes in four and more steps, unevenly, and is worse than its teacher
# there; in one step it is level with it.
#
# **What was tried** for these, as for every method: four trials each, of which the best is shown (see
# [the leaderboard](leaderboard.py)). Masked IDLM and Di[M]O were best at the highest rates of the four, uniform IDLM at the
# lowest, so the best may lie outside. The sources train far larger networks from far lower rates, for thirty to more than a thousand times as many
# updates. For DCD its authors' greedy tail was tried, too. It makes all three
# seeds worse, and the teacher; Fréchet distance in sixteen steps with it:

# %%
table(select(committed, greedy_tail=True, name="frechet"), ["model", "training_seed", "steps"], digits=3)

# %% [markdown]
# Besides the trials, the rules of the papers for what the recipes leave at one value. Di4C with its authors' step of the
# teacher for pixels (log-uniform up to 0.01, in the place of 0.05), training seed 0: behind the recipe's under masked noise,
# level with it under uniform. On permutations a fifth and five times the step leave it where it is. And Di[M]O sampled at
# other temperatures, which its authors tune up to 7 or 10: its student is so sure of itself that this changes next to
# nothing.

# %%
tried = [r for r in committed if "tried" in r.details]
table(tried, ["model", "training_seed", "steps", "temperature", "changes"], digits=3)

# %% [markdown]
# ### What the last rounds do
#
# All students so far are the best of four checkpoints on validation images. For methods that go in rounds this hides
# most of what they do: SDTT and DCD make their final jump in the last round only, ReDi redraws its pairs in every round, and
# nearly every chosen checkpoint of theirs is of an earlier one (masked ReDi's of four steps have learned data from random
# starts and nothing else). So here are the same runs at their end, beside the chosen checkpoints; "checkpoint" is the part of the training
# after which each seed's was chosen. D-MMD's stand below for comparison.

# %%
ended = [r for r in finished if r.details["changes"] == TO_THE_END]
metrics = ["frechet", "coverage", "class_histogram"]
last_against_chosen(ended, everything, metrics).style.hide()

# %%
at_end = {f"teacher, {process}": shown[f"teacher, {process}"] for process in PROCESSES}
for name, k in dict.fromkeys((r.model, r.steps) for r in ended):
    (first, *_) = select(ended, name="class_histogram", model=name, steps=k, training_seed=0)
    if k <= 4:
        recipe = get_recipe(name)
        at_end[f"{NAMES[recipe.role]}, {recipe.process}, {k} step{'s' * (k > 1)}"] = first.details
show(
    rows_of_images({label: digits.show(decode_tokens(d["samples"])) for label, d in at_end.items()}),
    "Sixteen digits at the end of training, a row each: " + "; ".join(at_end),
)

# %%
alt = "Shares of the ten digit classes among samples at the end of training, held-out images as a line"
show(class_shares(at_end), alt)

# %% [markdown]
# The collapse is there, in all three seeds. SDTT in one step ends farther from real digits than its teacher in one
# step, with few classes left, and DCD at more than twice its teacher's distance: shapes that are no digits, to which the
# classifier gives a few labels. In four steps SDTT, DCD and ReDi all end behind their teachers; with as few rounds as sixteen
# steps leave, what is lost is small for SDTT and DCD. D-MMD's last checkpoints are about as good as its chosen ones, so it
# does not need the choice; it is the nearest to real digits with either rule, in every seed. The trials below were chosen
# between by the best checkpoint too: SDTT with half the rates, say, would lose less at the end.

# %% [markdown]
# ## Text
#
# The docstrings: 27 symbols, 128 positions, real text, masked noise. The gradient moment (less is better) against steps,
# each model at the sampling top-p that was best on validation text in as many steps (of 0.2, 0.4, 0.6, 0.8 and 1; D-MMD's
# students and the teacher in 128 steps were tried at one or two more). D-MMD's students of 16 steps have three training
# seeds, everything else has one: read this as an observation, not as a claim. ReDi is the variant its authors have for
# text, perturbed rectification; the source stores its completed sequences and learns from each many times, here every one is
# made anew, and so the work of the others buys no more than 147 updates. Di[M]O, made for one step, and the other
# methods under uniform noise have recipes here and no trained students.

# %%
alt = "Gradient moment on the docstrings against sampling steps for the teachers and every method"
show(methods_against_steps(everything, "docstrings", ["gradient_moment"]), alt)

# %% [markdown]
# The frontier in 16 steps: one line a model, one point a sampling top-p. Sharper sampling buys a lower perplexity with less
# variety. A student that lost modes has fewer distinct 4-grams than another of its perplexity; the gradient moment sees
# both. Numbers and more columns are on the page of [Table 5](table5_text_methods.py).

# %%
frontier = select(load_results("table5_text_methods"), steps=16)
alt = "Perplexity against distinct 4-grams, and gradient moment against top-p, for masked models in 16 steps"
show(text_frontier(frontier), alt)

# %% [markdown]
# ## What differs from the papers
#
# Where a method had to be filled in or differs from its paper, in the words of its file. Discrepancies between a paper and
# its released code are named where they matter.

# %%
for role, name in NAMES.items():
    display(Markdown(f"**{name}**\n\n{to_markdown(deviations(role))}"))

# %%
save_records("collapse", records + trained_here + drawn_here)
