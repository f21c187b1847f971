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
# # Figure 3: perplexity against gradient moment
#
# **Claim.** Perplexity is a metric that lies. As sampling gets sharper, by a lower temperature or a smaller top-p,
# generative perplexity keeps falling, however dull the text becomes. The gradient moment falls first, as errors go, and
# then rises again, as variety goes: it has a minimum inside the range.
#
# The model is the masked teacher on docstrings; the judge is the autoregressive model that never saw its text. Beside
# both numbers stands the variety of the samples: without it neither means much. Filled curves are committed records,
# hollow markers are computed while the page runs. Run time: about a minute on one core of a laptop.

# %% tags=["parameters"]
n: int = 128  # samples per cell computed live
model_name: str = "docstrings-masked-teacher"  # model that is sampled
steps: int = 16  # sampling steps
temperatures: list[float] = [0.3, 0.8]  # sampling temperatures computed live
top_ps: list[float] = [0.5, 0.8]  # sampling top-p values computed live
frames: list[float] = [0.1, 0.2, 0.4, 0.6, 0.8, 1.0]  # temperatures of the text behind the slider
calibration_n: int = 256  # real windows behind each row of the calibration table
sampling_seed: int = 0  # seed of the samples

# %%
import matplotlib.pyplot as plt

from dmmd_lite import load_model
from dmmd_lite.metrics.gradient_moment import calibration
from dmmd_lite.models.evaluation import frontier
from dmmd_lite.models.loading import load_judge
from dmmd_lite.pages.display import filmstrip, show
from dmmd_lite.report.plots import interval_line
from dmmd_lite.utils.records import load_results, save_records, select, table

model = load_model(model_name)
judge = load_judge(None, model.world, model.recipe.scale)
sampling = {"judge": judge, "steps": steps, "num": n, "seed": sampling_seed}
records = frontier(model, temperatures, **sampling)
records += frontier(model, top_ps=top_ps, **sampling)
committed = load_results("fig3_perplexity_vs_gradient_moment")
LABELS = {
    "perplexity": "perplexity under the judge",
    "gradient_moment": "gradient moment",
    "distinct_4grams": "distinct 4-grams",
}


# %%
def rows(source, metric, knob):
    """Records of a metric along one knob, the other one at 1; calibration rows belong to no model."""
    other = {"temperature": "top_p", "top_p": "temperature"}[knob]
    return select(source, name=metric, model=model_name, **{other: 1})


fig, axes = plt.subplots(3, 2, figsize=(10, 9), sharex="col", sharey="row", layout="constrained")
for row, metric in enumerate(LABELS):
    for column, knob in enumerate(("temperature", "top_p")):
        ax = axes[row, column]
        interval_line(ax, rows(committed, metric, knob), knob, "committed records", row)
        interval_line(ax, rows(records, metric, knob), knob, f"here (n = {n})", row, live=True)
        real = [r.details for r in rows(committed, metric, knob)[:1]]
        for name in ("reference", "real"):
            for details in real:
                if name in details:
                    ax.axhline(details[name], color="black", linestyle=":", label="real text")
        if row == 2:
            ax.set_xlabel("sampling " + knob.replace("_", "-"))
    axes[row, 0].set_ylabel(LABELS[metric])
    axes[row, 0].legend(fontsize=8)
axes[0, 0].set_yscale("log")
axes[1, 0].set_yscale("log")
show(fig, "Perplexity, gradient moment and distinct 4-grams against temperature and against top-p.")

# %% [markdown]
# ## Does the gradient moment have its minimum inside?
#
# For each knob: is perplexity monotone, where is the least gradient moment, and how much higher is it at the sharp end?

# %%
for knob in ("temperature", "top_p"):
    curve = sorted(rows(committed, "gradient_moment", knob), key=lambda r: getattr(r, knob))
    falls = sorted(rows(committed, "perplexity", knob), key=lambda r: getattr(r, knob))
    if curve:
        monotone = all(a.value < b.value for a, b in zip(falls, falls[1:], strict=False))
        best, sharp, plain = min(curve, key=lambda r: r.value), curve[0], curve[-1]
        print(
            f"{knob}: perplexity {'falls all the way' if monotone else 'does not fall all the way'} as sampling sharpens"
        )
        for r, label in ((sharp, "sharpest"), (best, "least"), (plain, "widest")):
            print(f"    {label:9s} {knob} {getattr(r, knob):.2f}: {r.text(4)}")

# %% [markdown]
# ## The text beside the numbers
#
# The same seed at every temperature.


# %%
def frame(temperature):
    drawn = model.sample(6, steps, seed=sampling_seed, temperature=temperature)
    at = {"model": model_name, "temperature": temperature, "top_p": 1}
    found = [
        select(committed + records, name=metric, **at)[:1] for metric in ("perplexity", "gradient_moment")
    ]
    values = ", ".join(f"{r.name.replace('_', ' ')} {r.value:.3g}" for part in found for r in part)
    fig = plt.figure(figsize=(11, 1.9))
    lines = [f"temperature {temperature}   {values}", "", *model.world.show(drawn.tokens)]
    fig.text(0.01, 0.97, "\n".join(lines), family="monospace", fontsize=9, va="top")
    return fig


filmstrip(frame, frames, "temperature", "Samples of the masked teacher")

# %% [markdown]
# ## Calibration: what the judge says of text whose quality is known
#
# Real text against other real text must come out near zero. One row repeated has the perplexity of that row and no
# variety; shuffled characters have variety and no order; "weak" is the teacher sampled in 4 steps. With GPT-2-large as
# the judge, the metric's authors give real −0.001, a weak model between 0.4 and 0.7, repeated 7.00 and shuffled 8.63:
# other judge, other scale, so compare the order.

# %%
weak = load_model("docstrings-masked-teacher").sample(calibration_n, 4, seed=sampling_seed).tokens
calibrated = calibration(model.world, judge, calibration_n, sampling_seed, weak=weak)
table(calibrated, ["model", "n"])

# %%
save_records("fig3_perplexity_vs_gradient_moment", records + calibrated)
