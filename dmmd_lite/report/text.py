"""Figures of text models."""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from dmmd_lite.report.plots import MARKERS, PALETTE
from dmmd_lite.utils.records import select


def text_frontier(records: list[dict]) -> Figure:
    """Text models sampled at several top-p: perplexity against the share of distinct 4-grams, and the
    gradient moment against top-p. Records of one world and one number of steps."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    metrics = ("perplexity", "distinct_4grams", "gradient_moment")
    for place, model in enumerate(dict.fromkeys(r["model"] for r in records)):
        found = {m: {r["top_p"]: r["value"] for r in select(records, model=model, name=m)} for m in metrics}
        at = sorted(found["gradient_moment"])
        look = {"color": PALETTE[place % len(PALETTE)], "marker": MARKERS[place % len(MARKERS)]}
        across, up = ([found[m][p] for p in at] for m in ("perplexity", "distinct_4grams"))
        left.plot(across, up, label=model.split("-", 1)[1], **look)
        right.plot(at, [found["gradient_moment"][p] for p in at], **look)
    left.set_xlabel("perplexity")
    left.set_xscale("log")
    left.set_ylabel("distinct 4-grams")
    left.legend(fontsize=7)
    right.set_xlabel("sampling top-p")
    right.set_ylabel("gradient moment")
    right.set_yscale("log")
    return fig
