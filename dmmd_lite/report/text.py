"""Figures of text models."""

from matplotlib.figure import Figure

from dmmd_lite.report.plots import grid, series_style
from dmmd_lite.utils.records import Record, select


def text_frontier(records: list[Record]) -> Figure:
    """Draw perplexity against the share of distinct 4-grams, and the gradient moment against top-p.

    Args:
    records: text models sampled at several top-p, of one world and one number of steps.
    """
    fig, ((left, right),) = grid(1, 2, (5.5, 4))
    metrics = ("perplexity", "distinct_4grams", "gradient_moment")
    for place, model in enumerate(dict.fromkeys(r.model for r in records)):
        found = {m: {r.top_p: r.value for r in select(records, model=model, name=m)} for m in metrics}
        top_ps = sorted(found["gradient_moment"])
        across, up, moment = ([found[m][p] for p in top_ps] for m in metrics)
        left.plot(across, up, label=model.split("-", 1)[1], **series_style(place))
        right.plot(top_ps, moment, **series_style(place))
    left.set(xlabel="perplexity", ylabel="distinct 4-grams", xscale="log")
    right.set(xlabel="sampling top-p", ylabel="gradient moment", yscale="log")
    left.legend(fontsize=7)
    return fig
