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
# # Figure 6: students against the top-p of their teacher
#
# **Question.** Section 3.3 cuts a teacher to its top-p: what falls outside loses $\Delta=2$ of its log-probability; with a
# hard exclusion ($-10^{20}$), the paper reports, training diverges. Its Figure 6 shows FID against the teacher's top-p on
# CIFAR-10. Here: the Fréchet distance on classifier features (not an FID), of digits in 8 steps and of glyphs in 16, letters
# and digits of 22 fonts under random maps, of which no image is ever trained on twice; both noises, several p at
# $\Delta=2$ and several $\Delta$ at $p=0.85$. Diverged counts what is worse than no distillation at all, or not finite.
#
# The recipes themselves were chosen without a cut, with seed 0. The expectations were written for the digits; before the
# glyphs were run with a cut, what a sharper teacher (temperatures of 0.9 and 0.6) does to their students was known.
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
from dmmd_lite.studies.study import DIVERGED
from dmmd_lite.utils.records import load_results, save_records, select

STUDY = "fig6_teacher_top_p"
records = measure(STUDY, students, now, train_seeds, n)
committed = load_results(STUDY)

# %% [markdown]
# ## Quality against the teacher's top-p, and against what exclusion costs
#
# Means over training seeds with bars from minimum to maximum, where there is more than one. Dotted is the
# network that the students start from, the teacher itself, in as many steps: a student above its line is worse than no
# distillation.


# %%
def top_p(changes):
    return changes.get("method.top_p", 1.0) if changes.get("method.delta", 2) == 2 else None


def delta(changes):
    """Return the place on the axis. A diverged training has no distance; if 10^20 has one, it stands at 16."""
    if not changes:
        return 0
    return min(changes["method.delta"], 16) if changes["method.top_p"] == 0.85 else None


worlds = by_world(STUDY)
fig, axes = grid(len(worlds), 2, sharex="col", sharey="row")
for row, (world, of_world) in zip(axes, worlds.items(), strict=True):
    for student in of_world:
        study_lines(row[0], committed, student, "frechet", top_p)
        study_lines(row[1], committed, student, "frechet", delta)
    row[0].set(ylabel=f"{world}: Fréchet distance", yscale="log")
axes[-1, 0].set_xlabel("top-p of the teacher, Δ = 2")
axes[-1, 1].set_xlabel("Δ at top-p 0.85; $10^{20}$ stands at 16")
axes[0, 0].legend(fontsize=8)
alt = "Fréchet distance of students against their teacher's top-p, and against delta at top-p 0.85, digits and glyphs."
show(fig, alt)
for r in select(committed, name=DIVERGED):
    print(f"{r.model}, training seed {r.training_seed}: the loss is not finite after {r.value:g} updates")

# %% [markdown]
# ## What sharpening takes away
#
# The share of pixels at the most frequent level, as on [the page of Figure 5](fig5_teacher_temperature.py): of the test
# images and of the first 16 samples of a variant, training seed 0, with 95 % intervals over images.

# %%
level_shares(STUDY, committed)

# %% [markdown]
# ## Verdicts, samples, numbers

# %%
show_study(STUDY, committed, records)
save_records(STUDY, records)
