"""Equal tuning: the same few trials for every method, chosen between on validation data.

A method's trials on a world are its recipe as it is, with half and with twice its learning rates, and with
one other value of a knob of its own. All of them take the recipe's own work. They are judged by the world's
first metric (`leaderboard.JUDGED_BY`), for training seed 0, and the best one becomes the recipe.
"""

from dataclasses import replace
from typing import Any

from dmmd_lite.evaluate import evaluate
from dmmd_lite.leaderboard import JUDGED_BY
from dmmd_lite.recipes import get_recipe
from dmmd_lite.records import Record
from dmmd_lite.store import model_of

KNOBS: dict[str, dict[str, Any]] = {  # role -> another value of its own knob, as changes to the recipe
    "dmmd": {"method.temperature": 0.8},
    "sdtt": {"method.divergence": "forward_kl"},
    "dcd": {"method.divergence": "forward_kl"},
    "di4c": {"method.data_weight": 0.1},
    "idlm": {"training.betas": [0.0, 0.99]},
    "dimo": {"method.beta": -0.2},
    "redi": {"method.pool_steps": 64, "method.uses": 16},
}


def trials(name: str) -> dict[str, dict[str, Any]]:
    """The trials of a student's recipe: what each is called -> changes to the recipe."""
    recipe = get_recipe(name)
    knob = KNOBS[recipe.role]

    def scaled(factor: float) -> dict[str, Any]:
        return {f"training.lr.{player}": factor * rate for player, rate in recipe.training.lr.items()}

    called = ", ".join(f"{key.split('.')[-1]} {value}" for key, value in knob.items())
    return {"the recipe": {}, "rates x 1/2": scaled(0.5), "rates x 2": scaled(2), called: knob}


def try_out(name: str, trial: str, *, num: int = 2000, seed: int = 1) -> Record:
    """Train a student's trial (training seed 0, kept in the cache) and measure it on validation data.

    num: samples, where the metric draws any; seed: of the samples. ValueError for an unknown trial.
    """
    known = trials(name)
    if trial not in known:
        raise ValueError(f"trial: {trial!r} is not allowed; choose from {list(known)}")
    recipe = get_recipe(name, changes=known[trial])
    (record,) = evaluate(model_of(recipe), [JUDGED_BY[recipe.world][0]], num=num, seed=seed, split="valid")
    return replace(record, details={**record.details, "trial": trial, "changes": known[trial]})
