"""Tables and figures of how methods collapse: distributions over a training, SDTT's clamp, trials."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from pandas import DataFrame

from dmmd_lite.metrics.suite import METRICS
from dmmd_lite.recipes.trials import RATES
from dmmd_lite.report.plots import MARKERS, PALETTE, grid, series_style
from dmmd_lite.studies.theory.limits import one_step_sdtt
from dmmd_lite.utils.records import Record
from dmmd_lite.worlds.enumerable import EnumerableWorld


def clamp_table(records: Iterable[Record], world: EnumerableWorld) -> DataFrame:
    """Return students of one SDTT round (`sdtt_clamp.one_round`) beside the minimum of their loss.

    The probability of heads ranges over both coins and all seeds, the total variation over seeds.
    """
    groups: dict[tuple, list[Record]] = {}
    for r in records:
        if "clamp" in r.details:
            groups.setdefault((r.details["divergence"], r.details["clamp"]), []).append(r)
    lines = []
    for (divergence, clamp), found in groups.items():
        heads = [p for r in found for p in r.details["heads"]]
        distances = [r.value for r in found]
        lines.append(
            {
                "divergence": divergence,
                "clamp": f"{clamp:g}",
                "heads at the minimum of the loss": f"{_heads(world, clamp, divergence):.3f}",
                "heads, trained": f"{min(heads):.3f} to {max(heads):.3f}",
                "total variation": f"{min(distances):.3f} to {max(distances):.3f}",
                "seeds": len(found),
            }
        )
    return pd.DataFrame(lines)


def _heads(world: EnumerableWorld, clamp: float, divergence: str = "reverse_kl") -> float:
    """Return the probability of heads at the minimum of SDTT's loss."""
    return float(one_step_sdtt(world, clamp, divergence)[0, 0])


def trials_table(records: Iterable[Record]) -> DataFrame:
    """Return the value of each trial by student, with its 95 % interval where it has one, and the best."""
    lines: dict[str, dict[str, str]] = {}
    best: dict[str, Record] = {}
    for r in records:
        trial, cell = r.details["trial"], r.text(3)
        column, cell = (trial, cell) if trial in RATES else ("own knob", f"{trial}: {cell}")
        lines.setdefault(r.model, {})[column] = cell
        best[r.model] = min(best.get(r.model, r), r, key=lambda trial: METRICS[trial.name].sign * trial.value)
    rows = [{**line, "best": best[model].details["trial"]} for model, line in lines.items()]
    index, columns = pd.Index(list(lines), name="student"), [*RATES, "own knob", "best"]
    return pd.DataFrame(rows, index=index, columns=columns, dtype=object).fillna("")


def stacked_distributions(distributions: dict[str, np.ndarray], world: EnumerableWorld) -> Figure:
    """Draw distributions [V^L] as stacked bars, one for each name; impossible outcomes are hatched."""
    fig, ((ax,),) = grid(1, 1, (8, 0.34 * len(distributions) + 1.2))
    left = np.zeros(len(distributions))
    for k, outcome in enumerate(world.show(world.all_sequences())):
        share = np.array([float(p[k]) for p in distributions.values()])
        hatch = "//" if world.law()[k] == 0 else ""
        ax.barh(list(distributions), share, left=left, color=PALETTE[k], hatch=hatch, label=outcome)
        left += share
    ax.invert_yaxis()
    ax.set_xlim(0, 1)
    ax.set_xlabel("probability (hatched: never occurs in the world)")
    ax.tick_params(labelsize=9)
    ax.legend(ncols=4, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return fig


def distributions_over_training(recorded: dict[str, dict], world: EnumerableWorld) -> Figure:
    """Draw the probability of every possible outcome, and of all others together, against the training.

    Dotted lines are the world's probabilities; the colours are those of `stacked_distributions`.

    Args:
    recorded: name of a student -> what `trajectories.record_distributions` recorded.
    """
    truth, outcomes = world.law().numpy(), world.show(world.all_sequences())
    fig, axes = grid(-(-len(recorded) // 4), 4, (2.75, 2.3), len(recorded), sharex=True, sharey=True)
    for ax, (name, strip) in zip(axes.flat, recorded.items(), strict=False):
        part, found = np.array(strip["updates"]) / strip["updates"][-1], np.array(strip["laws"])
        for k in np.flatnonzero(truth):
            ax.plot(part, found[:, k], label=outcomes[k], markersize=3, linewidth=1, **series_style(k))
            ax.axhline(truth[k], color=PALETTE[k], linestyle=":", linewidth=1)
        ax.plot(part, found[:, truth == 0].sum(1), "--", color="gray", label="never occur", linewidth=1)
        ax.set_title(name, fontsize=9)
        ax.set_ylim(0, 1)
    axes[0, 0].legend(fontsize=7)
    fig.supxlabel("part of the training", fontsize=9)
    fig.supylabel("probability", fontsize=9)
    return fig


def clamp_curve(records: list[Record], here: list[Record], world: EnumerableWorld) -> Figure:
    """Draw where one round of SDTT ends on the coins, against the clamp.

    The minimum of the loss is a line.

    Args:
    records: committed students, filled markers.
    here: students that the page has trained, hollow markers.
    """
    fig, ((ax,),) = grid(1, 1, (6, 3.6))
    clamps = np.logspace(-20, -3, 18)
    minimum = [_heads(world, clamp) for clamp in clamps]
    ax.plot(clamps, minimum, color=PALETTE[0], label="reverse KL, minimum of the loss")
    marginal = float(world.law().view([world.vocab_size] * world.length)[0].sum())
    ax.axhline(marginal, color="black", linestyle=":", label="marginal of the world")
    for k, divergence in enumerate(("reverse_kl", "forward_kl")):
        for source, colour in ((records, PALETTE[k]), (here, "white")):
            points = [r.details for r in source if r.details.get("divergence") == divergence]
            heads = [sum(point["heads"]) / 2 for point in points]
            label = divergence.replace("_kl", " KL") + (", computed here" if source is here else ", seeds")
            style = {"color": PALETTE[k], "markerfacecolor": colour, "label": label}
            ax.plot([point["clamp"] for point in points], heads, MARKERS[k], **style)
    ax.set(xscale="log", xlabel="clamp: minimum probability of a target", ylabel="probability of heads")
    ax.legend(fontsize=8)
    return fig
