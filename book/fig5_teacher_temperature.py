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
# # Figure 5: students against the temperature of their teacher
#
# **Question.** A student follows its teacher. Does a teacher at a temperature a little below 1 make a better student? The
# paper's Figure 5 shows FID against the teacher temperature used while distilling, on CIFAR-10; no optimum is given in
# words. Here it is the Fréchet distance on classifier features (not an FID), of digits in 8 steps and of
# glyphs in 16, letters and digits of 22 fonts under random maps, of which no image is ever trained on twice; both noises.
# The temperature acts on the teacher's $\log\hat x_\theta(z_s)$ in (11) and (12), and on nothing while sampling.
#
# What was known before: the recipes were chosen at a temperature of 1, with seed 0, and of the four trials of the
# four-step students of digits on validation images ([the leaderboard](leaderboard.py)) the one with a temperature of 0.8
# was the worst. Of the glyphs nothing was known about this.
#
# Run time: seconds on one core of a laptop; the curves are committed records, one training run a point.

# %% tags=["parameters"]
students: list[str] = ["digits-masked-dmmd-8", "digits-uniform-dmmd-8"]  # students measured now
now: list[str] = ["as it is"]  # their variants measured now; others than "as it is" are trained first
train_seeds: list[int] = [0]  # training seeds of what is measured now
n: int = 500  # samples per cell measured now

# %%
from dmmd_lite.pages.display import show
from dmmd_lite.report.plots import grid
from dmmd_lite.report.studies import by_world, level_shares, show_study, study_lines
from dmmd_lite.studies.run import measure
from dmmd_lite.utils.records import load_results, save_records

STUDY = "fig5_teacher_temperature"
records = measure(STUDY, students, now, train_seeds, n)
committed = load_results(STUDY)

# %% [markdown]
# ## Quality against the teacher's temperature
#
# Means over training seeds with bars from minimum to maximum, where there is more than one; dotted is the
# network that the students start from, the teacher itself, in as many steps.

# %%
titles = {"frechet": "Fréchet distance", "coverage": "coverage", "output_entropy": "output entropy, nats"}
worlds = by_world(STUDY)
fig, axes = grid(len(worlds), len(titles), (4, 3.5), sharex=True)
for row, (world, of_world) in zip(axes, worlds.items(), strict=True):
    for ax, (metric, title) in zip(row, titles.items(), strict=True):
        for student in of_world:
            study_lines(ax, committed, student, metric, lambda change: change.get("method.temperature", 1.0))
        ax.set_title(f"{world}: {title}")
for ax in axes[-1]:
    ax.set_xlabel("temperature of the teacher")
axes[0, 0].legend(fontsize=8)
alt = "Fréchet distance, coverage and output entropy of students against the temperature of their teacher, digits and glyphs."
show(fig, alt)

# %% [markdown]
# ## What sharpening takes away
#
# The share of pixels at the level that is most frequent in the test images, blank in both worlds, with 95 % intervals over
# images: all of the test images, and the first 16 samples of a variant, training seed 0. It is the likeliest level at most
# pixels, so a sharpened teacher asks for more of it at every step, on the student's samples as well: of the glyphs, blank
# for the most part, little is left then.

# %%
level_shares(STUDY, committed)

# %% [markdown]
# ## Verdicts, samples, numbers

# %%
show_study(STUDY, committed, records)
save_records(STUDY, records)
