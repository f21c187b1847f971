"""SDTT in one round on the two coins: where the clamp on its targets' probabilities lets it end.

The limits come from direct minimisation (`theory.limits.one_step_sdtt`); this module trains students to
compare with them.
"""

import tempfile
from dataclasses import replace

import torch

from dmmd_lite.metrics.exact_laws import mean_law
from dmmd_lite.models.evaluation import evaluate
from dmmd_lite.models.loading import train_recipe
from dmmd_lite.models.store import read_model
from dmmd_lite.objectives.sdtt import GRIDS, sub_step_times
from dmmd_lite.recipes.catalogue import BEFORE_TUNING
from dmmd_lite.utils.records import Record


def one_round(clamp: float, divergence: str = "reverse_kl", *, updates: int, seed: int = 0) -> Record:
    """Train a one-round, one-step student of the coins at a clamp and return its total variation.

    The model is not kept. The record's details hold the probability of heads of either coin and the changes
    to the recipe `coins-masked-sdtt-1`. The teacher's floor is far below every clamp. ValueError for an
    unknown divergence or clamp.
    """
    changes = {
        "method.rounds": 1,
        "method.clamp": clamp,
        "method.divergence": divergence,
        "floor": 1e-21,
        "training.steps": updates,
    }
    recipe = BEFORE_TUNING["coins-masked-sdtt-1"]("laptop").with_changes(changes)
    with tempfile.TemporaryDirectory() as folder:
        model = read_model(train_recipe(recipe, folder, seed=seed))
    (record,) = evaluate(model, ["total_variation"], steps=1)
    law = mean_law(model.denoiser, model.process, model.world, 1)
    heads = [float(law[:2].sum()), float(law[::2].sum())]
    details = {"clamp": clamp, "divergence": divergence, "heads": heads, "changes": changes}
    return replace(record, details=details)


def grids(dt: float, times: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)) -> dict[str, dict[float, str]]:
    """Return SDTT's grids at some times t in words: grid -> t -> "0.50, 0.38; reveals 25%".

    The numbers are the starts of the two sub-steps of length dt, and the share of masked positions that the
    first sub-step reveals under linear masked noise.
    """
    found = {}
    for grid in GRIDS:
        first, second = sub_step_times(torch.tensor(times), dt, grid)
        revealed = (dt / first).clamp(max=1)
        columns = (times, first.tolist(), second.tolist(), revealed.tolist())
        found[grid] = {
            t: f"{a:.2f}, {max(b, 0):.2f}; reveals {share:.0%}"
            for t, a, b, share in zip(*columns, strict=True)
        }
    return found
