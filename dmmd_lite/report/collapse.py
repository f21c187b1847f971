"""Tables and figures of how methods collapse: laws on the way, SDTT's clamp, trials."""

from collections.abc import Iterable

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from pandas import DataFrame

from dmmd_lite.recipes.trials import RATES
from dmmd_lite.report.cells import interval_text
from dmmd_lite.report.plots import MARKERS, PALETTE, panels
from dmmd_lite.studies.theory.limits import one_step_sdtt
from dmmd_lite.worlds.enumerable import EnumerableWorld


def clamp_table(records: Iterable[dict], world: EnumerableWorld) -> DataFrame:
    """Students of one SDTT round (`clamps.one_round`) beside the least loss at their clamp: least and most
    of the probability of heads over both coins and all seeds, and of the total variation."""
    rows = {}
    for r in records:
        if "clamp" in r["details"]:
            rows.setdefault((r["details"]["divergence"], r["details"]["clamp"]), []).append(r)
    lines = []
    for (divergence, clamp), found in rows.items():
        heads = [p for r in found for p in r["details"]["heads"]]
        distance = [r["value"] for r in found]
        lines.append(
            {
                "divergence": divergence,
                "clamp": f"{clamp:g}",
                "heads at the least loss": f"{float(one_step_sdtt(world, clamp, divergence)[0, 0]):.3f}",
                "heads, trained": f"{min(heads):.3f} to {max(heads):.3f}",
                "total variation": f"{min(distance):.3f} to {max(distance):.3f}",
                "seeds": len(found),
            }
        )
    return pd.DataFrame(lines)


def trials_table(records: Iterable[dict]) -> DataFrame:
    """Trials by student: the value of each with its 95 % interval, where it has one, and the best of them."""
    lines: dict[str, dict[str, str]] = {}
    least: dict[str, dict] = {}
    for r in records:
        trial, cell = r["details"]["trial"], f"{r['value']:.3f}{interval_text(r, 3)}"
        column, cell = (trial, cell) if trial in RATES else ("own knob", f"{trial}: {cell}")
        lines.setdefault(r["model"], {})[column] = cell
        if r["value"] < least.setdefault(r["model"], r)["value"]:
            least[r["model"]] = r
    rows = [{**line, "best": least[model]["details"]["trial"]} for model, line in lines.items()]
    columns = [*RATES, "own knob", "best"]
    return pd.DataFrame(
        rows, index=pd.Index(list(lines), name="student"), columns=columns, dtype=object
    ).fillna("")


def stacked_laws(laws: dict[str, np.ndarray], world: EnumerableWorld) -> Figure:
    """Laws [V^L] as stacked bars, one a name; what never occurs in the world is hatched."""
    fig, ax = plt.subplots(figsize=(8, 0.34 * len(laws) + 1.2))
    left = np.zeros(len(laws))
    for k, outcome in enumerate(world.show(world.all_sequences())):
        share = np.array([float(law[k]) for law in laws.values()])
        hatch = "//" if world.law()[k] == 0 else ""
        ax.barh(list(laws), share, left=left, color=PALETTE[k], hatch=hatch, label=outcome)
        left += share
    ax.invert_yaxis()
    ax.set_xlim(0, 1)
    ax.set_xlabel("probability (hatched: never occurs in the world)")
    ax.tick_params(labelsize=9)
    ax.legend(ncols=4, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    fig.tight_layout()
    return fig


def laws_on_the_way(films: dict[str, dict], world: EnumerableWorld) -> Figure:
    """Films (`watching.film`) of several students: the probability of every outcome that occurs, and of all
    that never do, against the part of the training; dotted where the world has them."""
    truth, outcomes = world.law().numpy(), world.show(world.all_sequences())
    fig, axes = panels(len(films), 4, 2.3)
    for ax, (name, strip) in zip(axes, films.items(), strict=True):
        way, law = np.array(strip["updates"]) / strip["updates"][-1], np.array(strip["laws"])
        for k in np.flatnonzero(truth):  # in the colours of `stacked_laws`
            look = {"color": PALETTE[k], "marker": MARKERS[k], "markersize": 3, "linewidth": 1}
            ax.plot(way, law[:, k], label=outcomes[k], **look)
            ax.axhline(truth[k], color=PALETTE[k], linestyle=":", linewidth=1)
        ax.plot(way, law[:, truth == 0].sum(1), "--", color="gray", label="never occur", linewidth=1)
        ax.set_title(name, fontsize=9)
        ax.set_ylim(0, 1)
    axes[0].legend(fontsize=7)
    fig.supxlabel("part of the training", fontsize=9)
    fig.supylabel("probability", fontsize=9)
    fig.tight_layout()
    return fig


def clamp_curve(records: list[dict], here: list[dict], world: EnumerableWorld) -> Figure:
    """Where one round of SDTT ends on the coins, against the clamp: the least loss as a line, committed
    students filled, those trained `here` hollow."""
    curve = np.logspace(-20, -3, 18)
    fig, ax = plt.subplots(figsize=(6, 3.6))
    least = [float(one_step_sdtt(world, clamp)[0, 0]) for clamp in curve]
    ax.plot(curve, least, color=PALETTE[0], label="reverse KL, least loss")
    marginal = float(world.law().view([world.vocab_size] * world.length)[0].sum())
    ax.axhline(marginal, color="black", linestyle=":", label="marginal of the world")
    for k, divergence in enumerate(("reverse_kl", "forward_kl")):
        for source, colour in ((records, PALETTE[k]), (here, "white")):
            points = [r for r in source if r["details"].get("divergence") == divergence]
            at = [r["details"]["clamp"] for r in points]
            heads = [sum(r["details"]["heads"]) / 2 for r in points]
            label = divergence.replace("_kl", " KL") + (", computed here" if source is here else ", seeds")
            ax.plot(at, heads, MARKERS[k], color=PALETTE[k], markerfacecolor=colour, label=label)
    ax.set_xscale("log")
    ax.set_xlabel("clamp: least probability of a target")
    ax.set_ylabel("probability of heads")
    ax.legend(fontsize=8)
    return fig
