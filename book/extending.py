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
# # Extending: a world, a metric and a method of your own, step by step
#
# **What it takes.** A world is a class and one row of numbers. A metric is a function and one row. A method is its loss with
# the description of what it costs, and a plan that says how its students are made. This page adds one of each, without a
# change to the package, and trains the new method on the new world beside D-MMD. In the package the cells would be:
#
# | what | files |
# |---|---|
# | a world | `worlds/dice.py` with its name in `worlds/__init__.py`, a row in `recipes/world_settings.py`, a test |
# | a metric | the function and its row in `metrics/suite.py`, a line in the glossary |
# | a method | `objectives/skip.py` and `recipes/students/skip.py`, each named in its `__init__`, a test, its paper in `references.bib` |
# | a noise process | `processes/NAME.py`, named in `processes/__init__.py`, a test |
#
# A new module also gets a line in `book/api/`; a test names the missing one.
#
# Run time: about a minute on one core of a laptop.

# %% tags=["parameters"]
updates: int = 2000  # training updates of each student
n: int = 2000  # samples measured
seed: int = 0  # training seed

# %% [markdown]
# ## A world
#
# Two dice that always show seven together: six outcomes of 36, each equally likely. A world has a name, a number of classes,
# a length and a way to draw and to show its tokens. This one is a table of outcomes, so `EnumerableWorld` does the rest, and
# its posteriors are exact. Its traits say which metrics apply to it; the last one is its own.

# %%
import torch

from dmmd_lite import get_world
from dmmd_lite.worlds import WORLDS
from dmmd_lite.worlds.enumerable import EnumerableWorld


class Dice(EnumerableWorld):
    """Two dice that always show seven together."""

    traits = EnumerableWorld.traits | {"dice"}

    def __init__(self):
        super().__init__("dice", 6, torch.tensor([[k, 5 - k] for k in range(6)]), [1 / 6] * 6, "123456")


WORLDS["dice"] = Dice
world = get_world("dice")
print(
    world.show(world.sample(6, torch.Generator().manual_seed(0))),
    "entropy",
    round(world.entropy(), 3),
    "nats",
)

# %% [markdown]
# Recipes and comparisons ask a second place for numbers: one row with the network, the batch, the lengths of training at
# every scale, and the metrics that decide. The dice take the row of the permutations, whose noise input is awake from the
# start (`noise_std`), with students of one and two steps.

# %%
from dataclasses import replace

from dmmd_lite.recipes.catalogue import RECIPES, register
from dmmd_lite.recipes.world_settings import WORLD_SETTINGS

WORLD_SETTINGS["dice"] = replace(WORLD_SETTINGS["permutations"], student_steps=(1, 2))
register()
print(*(name for name in RECIPES if name.startswith("dice-masked")), sep="\n")

# %% [markdown]
# ## A metric
#
# A function that returns a `Record`, and a row that says what the function is called with (`metrics.suite.NEEDS`) and which
# worlds it applies to, by one of their traits. The record carries an interval; whoever samples adds the model, the steps,
# the seed and the provenance.

# %%
from dmmd_lite import Record, metrics_for
from dmmd_lite.metrics.intervals import mean_share
from dmmd_lite.metrics.suite import METRICS, Metric


def share_of_sevens(tokens, world, seed, split) -> Record:
    """Estimate the share of samples [n, 2] whose faces add up to seven."""
    seven = (tokens.sum(-1) == 5).double().numpy()  # class k is the face k + 1
    return Record("share_of_sevens", *mean_share(seven), len(tokens), "the rule of the dice")


METRICS["share_of_sevens"] = Metric("share_of_sevens", "tokens", "dice", share_of_sevens)
print(metrics_for(world))

# %% [markdown]
# ## A method
#
# The toy method `skip`: at $z_t$ the student learns what the teacher predicts at $z_s$, one step of the teacher closer to
# the data, by cross-entropy. A method is a set of players and a function `losses`; the training loop knows nothing else about
# it. Its `MethodSpec` says how it is built, for which noises it is defined, and what a step costs in forward passes, so that
# its students get as much work as all others.

# %%
from dataclasses import dataclass

from dmmd_lite.denoisers import map_chunks, predict
from dmmd_lite.objectives import METHODS
from dmmd_lite.objectives.base import MethodSpec
from dmmd_lite.objectives.terms import EARLIEST, mean_over, soft_cross_entropy, stratified_times


@dataclass(frozen=True)
class SkipSettings:
    """Settings of the toy method. steps: sampling steps the student is for. jump: length of the teacher's step."""

    steps: int
    jump: float = 0.5


class Skip:
    """Toy method: the student predicts at z_t what its teacher predicts one step later."""

    def __init__(self, student, teacher, process, settings: SkipSettings):
        self.players = {"student": student}
        self.teacher, self.process, self.settings = teacher, process, settings

    def losses(self, step, x, generator):
        """Return the cross-entropy between the teacher's prediction at z_s and the student's at z_t, in nats."""
        t = stratified_times(len(x), generator, x.device)
        s = (t - self.settings.jump).clamp(min=EARLIEST)
        z_t = self.process.corrupt(x, t, generator)
        with torch.no_grad():
            tokens = predict(self.teacher, self.process, z_t, t, generator).sample(generator)
            z_s = self.process.step(z_t, tokens, s, t, generator)
            later = predict(self.teacher, self.process, z_s, s, generator)
        student = predict(self.players["student"], self.process, z_t, t, generator)
        mask = self.process.loss_mask(z_t)
        found = map_chunks(lambda *logs: {"nats": soft_cross_entropy(*logs)}, [later, student], [], mask)
        return {"student": {"cross_entropy": mean_over(mask, found["nats"])}}


METHODS["skip"] = MethodSpec(
    SkipSettings,
    ("masked", "uniform"),
    lambda settings, fresh, teacher, process: Skip(fresh(), teacher, process, settings),
    forwards=lambda settings: 5,  # the teacher twice, the student forwards and backwards
)

# %% [markdown]
# The plan names the method in tables, makes the recipe of a student for any world, noise, number of steps and scale, and
# offers one other setting for the four equal trials that every method has.

# %%
from dmmd_lite.recipes.students import PLANS
from dmmd_lite.recipes.students.base import StudentPlan, student
from dmmd_lite.recipes.world_settings import settings_of


def make(world: str, process: str, steps: int, scale: str):
    """Make the recipe of a student of the toy method."""
    lr = {"student": settings_of(world, process, steps).at(scale).dmmd_lr[0]}
    return student("skip", world, process, scale, SkipSettings(steps), lr)


PLANS["skip"] = StudentPlan("skip", "Skip", make, (1, "1"), knob=lambda recipe: {"method.jump": 0.25})
register()

# %% [markdown]
# ## All three together
#
# One-step students of masked noise from random weights, with equally many updates; left to the plans, both would evaluate
# equally many sequences. D-MMD has a noise input, which
# lets it make a mixture; `skip` has none, so one step gives a product of two independent dice, and one in six pairs is a seven.

# %%
import tempfile
from pathlib import Path

import pandas as pd

from dmmd_lite import evaluate, get_recipe
from dmmd_lite.models.loading import train_recipe
from dmmd_lite.models.store import read_model
from dmmd_lite.utils.records import save_records

records = []
for role in ("dmmd", "skip"):
    changes = {"start": "", "training.steps": updates}
    recipe = get_recipe(f"dice-masked-{role}-1", changes=changes)
    with tempfile.TemporaryDirectory() as folder:
        model = read_model(train_recipe(recipe, Path(folder), seed=seed))
    records += evaluate(model, ["total_variation", "share_of_sevens"], num=n)
rows = [{"student": r.model, "metric": r.name, "value": round(r.value, 3), "n": r.n} for r in records]
pd.DataFrame(rows).pivot(index="student", columns="metric", values="value")

# %% [markdown]
# `share_of_sevens` of a perfect generator is 1, of independent dice 1/6; the total variation is exact, averaged over noise.
#
# A **noise process** is one class as well, a subclass of `Process` with its prior, its posterior, its step, and the facts
# that samplers and methods ask for (`reveals_first`, `bound_prediction`); `tests/science/test_third_process.py` adds one and
# checks it by Bayes' rule, chi-square and training. A **page** like this one is a script in `book/`, a line in `_toc.yml`, and
# parameters at smoke scale in `book/scales.toml`.

# %%
save_records("extending", records)
