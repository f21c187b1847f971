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
# # Distilling discrete diffusion models
#
# A discrete diffusion model turns noise into tokens by predicting, again and again, every clean token from a noisy
# sequence. Each prediction treats the tokens as independent, so a sampler must go in small steps: hundreds of them. This book
# is about making few steps enough. It follows *Beyond Single Tokens: Distilling Discrete Diffusion Models via
# Discrete MMD* (Hoogeboom, Ruhe, Heek, Mensink, Salimans, [arXiv 2603.20155](https://arxiv.org/abs/2603.20155)),
# called D-MMD, and runs everything it shows: behind each page is `dmmd_lite`, a compact PyTorch package with the whole
# training loop.
#
# ## The method in one paragraph
#
# Take data, add noise to get $z_t$, and let the few-step generator predict soft tokens $\hat x_\eta(z_t)$. Sample
# $x$ from them, step back to a less noisy $z_s$, and ask two many-step models what they think of it: the frozen teacher
# $\hat x_\theta(z_s)$ and an auxiliary model $\hat x_\varphi(z_s)$ that is trained on the generator's samples. Where the
# teacher finds a class more likely than the auxiliary does, push the generator's probability up; where less, down.
#
# $$L_\mathrm{GEN} = -\sum_c \hat x_\eta(z_t)_c\,\bigl(\log \hat x_\theta(z_s) - \log \hat x_\varphi(z_s)\bigr)_c
# \tag{11}$$
#
# $$L_\mathrm{AUX} = -\sum_c \bigl(x + \hat x_\theta(z_s)\bigr)_c \log \hat x_\varphi(z_s)_c \tag{12}$$
#
# Equations have the paper's numbers everywhere in this book. When teacher and auxiliary agree everywhere, the generator
# samples the teacher's law; [Theory, checked](theory.py) says why and measures it.
#
# ## The pages
#
# | page | what it shows |
# |---|---|
# | [Two coins](coins.py) | why one factorised step cannot make two coins agree, and how noise input solves it |
# | [The whole method on one page](standalone.py) | D-MMD without the package, equal to the package to six digits |
# | [Text whose truth is known](exact_text.py) | how an exactly right denoiser still errs in few steps, judged by exact laws |
# | [Theory, checked](theory.py) | equations 6 to 12 and appendices A, B, D in numbers |
# | [How single precision flatters teachers](sampler_bias.py) | a confounder of plots against steps, measured |
# | [How earlier methods collapse](collapse.py) | what each method's one-step student emits, and why |
# | [Leaderboard](leaderboard.py) | methods by worlds by steps, with the command behind every number |
# | [Figure 1 and Table 2](fig1_steps_text.py) | text quality, by the gradient moment, against sampling steps |
# | [Figure 2](fig2_sample.py) | samples of teacher and student, not picked |
# | [Figure 3](fig3_perplexity_vs_gradient_moment.py) | why perplexity lies and the gradient moment does not |
# | [Figure 4](fig4_sampling_temperature.py) | what sampling temperature and top-p do to base models |
# | [Figure 5](fig5_teacher_temperature.py) | whether a sharper teacher makes a better student |
# | [Figure 6](fig6_teacher_top_p.py) | a teacher cut to its top-p, and why the cut must be soft |
# | [Table 1](table1_steps_images.py) | quality against sampling steps on real digits, and on glyphs that nobody can copy |
# | [Table 3](table3_block_autoregressive.py) | diffusion block after block, and its student |
# | [Table 4](table4_against_di4c.py) | D-MMD and Di4C on images |
# | [Table 5](table5_text_methods.py) | text methods side by side |
# | [Table 6](table6_noise_input.py) | what noise as an input is good for |
# | [What the paper leaves open](open_choices.py) | weights, rates, averages, anchors: one change at a time |
# | [Distil your own model](distil_your_own.py) | from your tokens, or from your network, to a saved student |
# | [Sweeps](sweeps.md) | a page at every point of a grid, on one machine or many |
# | [The paper against us](paper_against_us.py) | every figure, table and claim: reproduced or not, at which scale |
# | [What it costs](cost.py) | what every scale needs |
#
# Words are in the [glossary](glossary.md), papers in the [bibliography](references.md), functions in the pages from
# [noise and samplers](api/processes.md) on.
#
# ## How to read numbers here
#
# Every metric comes as a *record*: the value with its 95 % interval over samples, the number of samples, the
# seeds, the steps, the model (a recipe's name), the commit and the hardware. The interval contains the *expectation of the
# value at this number of samples* in 95 % of repetitions, or in the part that stands behind it; "(below 95 %)" marks
# intervals of an earlier method, a bootstrap, whose samples are no longer at hand. Where a value depends on the
# number of samples, as Fréchet distances and coverage do, that is not the value of infinitely many; for Fréchet distances
# the record has an estimate of it (`infinite_n`, from a line through distances against $1/n$). Records of larger runs are committed in
# `data/results/` and drawn filled; what a page computes while it runs is drawn hollow beside them. Numbers of the paper
# appear only where they are marked as the paper's. A distance on the features of a small classifier is called a
# Fréchet distance and never an FID. Every page ends with what is behind it: its code, its records, where and when they
# were made, and the command that runs it again.
#
# ## What is in this copy

# %% tags=["parameters"]
num: int = 32  # digits to draw
steps: int = 16  # sampling steps and student: 4, 8 or 16
seed: int = 0  # random seed

# %%

from dmmd_lite import load_model
from dmmd_lite.pages.display import show
from dmmd_lite.report.plots import image_grid
from dmmd_lite.utils.provenance import machine

for name in ("digits-masked-teacher", f"digits-masked-dmmd-{steps}"):
    model = load_model(name)
    drawn = model.sample(num, steps, seed=seed)
    title = f"{name}, {steps} steps"
    show(image_grid(model.world.show(drawn.tokens), title=title), f"Digits sampled by {title}")

# %% [markdown]
# The same network size, the same training images, the same number of steps: above the teacher, below the student
# that was distilled from it.

# %%
print("\n".join(f"{key:10s} {value}" for key, value in machine().items()))
