"""SDTT in one round on the two coins: where the clamp on its targets' probabilities lets it end.

The limits are by direct minimisation (`metrics.limits.one_step_sdtt`), this trains students to stand beside
them.
"""

import tempfile
from dataclasses import replace

import torch

from dmmd_lite.metrics.exact_laws import mean_law
from dmmd_lite.models.evaluation import evaluate
from dmmd_lite.models.model import read_model
from dmmd_lite.models.store import train_recipe
from dmmd_lite.objectives.sdtt import GRIDS, sub_step_times
from dmmd_lite.recipes.catalogue import BEFORE_TUNING
from dmmd_lite.utils.records import Record


def one_round(clamp: float, divergence: str = "reverse_kl", *, updates: int, seed: int = 0) -> Record:
    """Total variation of a one-round, one-step student of the coins at a clamp; nothing else is kept of it.

    Its details hold the probability of heads of either coin, and what of the recipe `coins-masked-sdtt-1` was
    changed. The teacher's floor is far below every clamp. ValueError for an unknown divergence or clamp.
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
    return replace(
        record, details={"clamp": clamp, "divergence": divergence, "heads": heads, "changes": changes}
    )


def grids(dt: float, times: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)) -> dict[str, dict[float, str]]:
    """SDTT's grids at some times t: where the two sub-steps of length dt start, and how many of the masked
    positions the first one reveals under linear masked noise: grid -> t -> words."""
    t = torch.tensor(times)
    found = {}
    for grid in GRIDS:
        first, second = sub_step_times(t, dt, grid)
        revealed = (dt / first).clamp(max=1)
        found[grid] = {
            time: f"{a:.2f}, {max(b, 0):.2f}; reveals {share:.0%}"
            for time, a, b, share in zip(
                times, first.tolist(), second.tolist(), revealed.tolist(), strict=True
            )
        }
    return found
