"""Cells of tables: means over draws of samples and over training seeds, intervals, checkpoints."""

import html
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pandas as pd
from pandas import DataFrame

from dmmd_lite.metrics.intervals import mean_interval, t_quantile
from dmmd_lite.utils.records import Record, select

STUDY = ("variant", "trial", "changes", "clamp", "components", "greedy_tail")  # details that name a model


def over_draws(records: Iterable[Record]) -> list[Record]:
    """Return records with the draws of one cell, which differ in the sampling seed, replaced by their mean.

    The interval of a mean is Student's over the draws. Its details have the sampling seeds and both sources
    of spread: the standard deviation between draws, and the standard error that the intervals of single draws
    give, which agree where intervals are what they say. The last of several records of one seed counts.
    """
    cells: dict[tuple, dict[int | None, Record]] = {}
    for r in records:
        settings = (r.name, r.model, r.training_seed, r.steps, r.n, r.temperature, r.top_p, r.split)
        study = tuple(str(r.details.get(name)) for name in STUDY)
        cells.setdefault(settings + study, {})[r.seed] = r
    return [_mean(list(draws.values())) for draws in cells.values()]


def _mean(draws: list[Record]) -> Record:
    """Return the mean of draws as a record; the last one if one is alone or exact."""
    if len(draws) == 1 or any(r.low is None for r in draws):
        return draws[-1]
    value, low, high = mean_interval(values := np.array([r.value for r in draws]))
    within = np.mean([((r.high - r.low) / 2 / t_quantile()) ** 2 for r in draws]) ** 0.5
    spread = {"between_draws": float(values.std(ddof=1)), "within_a_draw": float(within)}
    details = draws[0].details | {"sampling_seeds": [r.seed for r in draws]} | spread
    return replace(draws[0], value=value, low=low, high=high, details=details, seed=None)


def by_seed(records: Iterable[Record]) -> dict[int, Record]:
    """Return records, means over draws, by training seed; the last one counts where a seed has several."""
    return {r.training_seed: r for r in over_draws(records)}


pd.options.styler.format.escape = "html"  # as in tables without a style


def steps_text(steps: int) -> str:
    """Return "1 step" or "4 steps"."""
    return f"{steps} step{'s' * (steps > 1)}"


def by_steps(lines: dict[tuple, list[str]], steps: list[int], names: list[str]) -> DataFrame:
    """Return lines of cells as a table with one column for each number of steps.

    Args:
    lines: key of a row -> its cells.
    names: names of the parts of a key.
    """
    frame = pd.DataFrame.from_dict(lines, orient="index", columns=[steps_text(k) for k in steps])
    frame.index = pd.MultiIndex.from_tuples(frame.index, names=names)
    return frame


def values_by_seed(records: Iterable[Record], model: str, steps: int, metric: str) -> list[float]:
    """Return one value for each training seed."""
    return [r.value for r in by_seed(select(records, name=metric, model=model, steps=steps)).values()]


def value_cell(records: Iterable[Record], model: str, steps: int, metric: str) -> str:
    """Return the mean over training seeds with minimum and maximum; the interval where there is one seed."""
    found = by_seed(select(records, name=metric, model=model, steps=steps)).values()
    values = [r.value for r in found]
    if len(values) > 1:
        return (
            f"{sum(values) / len(values):.3f} ({min(values):.3f} to {max(values):.3f}, {len(values)} seeds)"
        )
    return "".join(r.text(3) for r in found)


def checkpoint_cell(records: Iterable[Record], model: str, steps: int, metric: str) -> str:
    """Return the part of the training after which each seed's checkpoint was taken, per cent.

    "last" stands for checkpoints that were not chosen.
    """
    found = by_seed(select(records, name=metric, model=model, steps=steps)).values()
    runs = [r.provenance["training"] for r in found]
    if any(run.get("best_step") is None for run in runs):
        return "last"
    return ", ".join(f"{run['best_step'] / run['steps']:.0%}" for run in runs)


def as_html(table: DataFrame, linked: str) -> str:
    """Return a table as HTML, without its index. linked: the column whose cells are HTML, such as links."""
    others = [name for name in table.columns if name != linked]
    text = table.assign(**table[others].map(lambda cell: html.escape(str(cell))))
    return text.to_html(escape=False, index=False, border=0)
