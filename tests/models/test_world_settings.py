"""The rows behind the catalogue: one a world, one a method; what nobody knows is an error."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from dmmd_lite import worlds
from dmmd_lite.models.loading import load_model, train_recipe
from dmmd_lite.objectives import METHODS
from dmmd_lite.processes import PROCESSES
from dmmd_lite.recipes import catalogue
from dmmd_lite.recipes.catalogue import RECIPES, get_recipe
from dmmd_lite.recipes.cost import cost
from dmmd_lite.recipes.recipe import Recipe
from dmmd_lite.recipes.students import PLANS, plan_of, student_for
from dmmd_lite.recipes.world_settings import NOISES, TINY, WORLD_SETTINGS, ScaleSettings, WorldSettings
from dmmd_lite.recipes.world_settings import settings_of as settings
from dmmd_lite.utils.scales import SCALES
from dmmd_lite.worlds.base import World


def test_the_catalogue_is_listed_without_torch():
    code = "import dmmd_lite.recipes.catalogue as c, sys; print(len(c.RECIPES), 'torch' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert answer.split() == [str(len(RECIPES)), "False"]


def test_the_rows_are_those_of_worlds_noises_and_methods():
    assert list(WORLD_SETTINGS) == list(worlds.WORLDS)
    assert tuple(PROCESSES) == NOISES and PLANS.keys() == METHODS.keys()
    for row in WORLD_SETTINGS.values():
        assert list(row.scales) == [scale for scale in SCALES if scale in row.scales or scale != "desk"]
        assert {key.split("-")[0] for key in row.overrides} <= set(NOISES)
    for role, plan in PLANS.items():
        assert plan.processes == METHODS[role].processes
        assert {*plan.processes, *plan.why_not} == set(NOISES) and not set(plan.processes) & set(plan.why_not)
        assert plan.recommended[0] and plan.label


STRENGTHS = [(world, suffix) for world, row in WORLD_SETTINGS.items() for suffix in row.strengths]


@pytest.mark.parametrize("process", NOISES)
@pytest.mark.parametrize("world, suffix", STRENGTHS)
def test_teachers_of_another_strength_are_recipes_with_students(world, suffix, process):
    row, shown = settings(world), settings(world).shown_at
    strength, plain = row.strengths[suffix], get_recipe(f"{world}-{process}-teacher")
    teacher = get_recipe(f"{world}-{process}-teacher-{suffix}")
    assert teacher.training.steps == round(strength.updates * plain.training.steps)
    assert teacher.training.validate_every == teacher.training.steps // 10
    same = {"steps": 1, "validate_every": 0}
    assert replace(teacher.training, **same) == replace(plain.training, **same)
    assert teacher.network["width"] == strength.width * plain.network["width"]
    students = {n for n in RECIPES if n.startswith(f"{world}-{process}-dmmd") and n.endswith(f"-{suffix}")}
    assert len(students) == (3 if row.kind == "text" else 1)
    for name in students:
        student, same = get_recipe(name), get_recipe(name.removesuffix(f"-{suffix}"))
        assert student.start == student.teacher == teacher.name and student.scale == shown
        assert (student.training, student.method) == (same.training, same.method)
        assert all(student.network[key] == value for key, value in teacher.network.items())
    if row.kind == "text":
        assert {get_recipe(name).method.top_p for name in students} == {1.0, 0.85, 0.95}


def test_judges_may_be_larger_than_their_generators():
    judge, baseline = (get_recipe(f"books27-ar-{role}") for role in ("judge", "baseline"))
    assert cost(judge)["parameters"] > 2e6 > cost(baseline)["parameters"]
    assert get_recipe("docstrings-ar-judge").network == get_recipe("docstrings-ar-baseline").network


def test_a_row_is_found_by_name_noise_and_steps():
    assert settings("cifar10@16") == settings("cifar10") and settings("glyphs256") == settings("glyphs")
    assert settings("mnist@4") == settings("fashion_mnist")
    assert settings("markov", "masked", 8).validation == "ngram_divergence"
    assert settings("markov", "masked", 4) == settings("markov", "uniform", 8) == settings("markov")
    assert [settings("digits", p, 4).at("laptop").dmmd_steps for p in NOISES] == [1000, 400]
    assert settings("digits", "masked").at("gpu") == settings("digits").at("gpu")


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: settings("svhn"), "world: 'svhn' has no settings; choose one of .*'coins'"),
        (lambda: settings("coins").at("huge"), "scale: 'huge' is not allowed; choose one of"),
        (lambda: WorldSettings("songs", {}, (1,)), "kind: 'songs' is not allowed; choose one of"),
        (lambda: student_for("sdt", "coins", "masked", 1), "method: 'sdt' is not allowed; choose one of"),
        (lambda: student_for("sdtt", "svhn", "masked", 1), "world: 'svhn' has no settings"),
        (lambda: plan_of("sdtt").recipe("coins", "uniform", 1, "smoke"), "process: 'uniform' is not allowed"),
        (lambda: plan_of("dmmd").recipe("svhn", "masked", 1, "smoke"), "world: 'svhn' has no settings"),
        (lambda: get_recipe("coins-masked-exact", "huge"), "scale: 'huge' is not allowed; choose one of"),
        (lambda: changed({"role": "student"}), "role: 'student' is not allowed; choose one of"),
        (lambda: changed({"process": "third"}), "process: 'third' is not allowed; choose one of"),
        (lambda: changed({"world": "svhn"}).make_network(), "world: 'svhn' is not allowed; choose one of"),
        (
            lambda: changed({"network.bogus": 1}).make_network(),
            r"network: \['bogus'\] is not allowed; the keys",
        ),
        (lambda: changed({"network.causal": True}).make_network(), r"network: \['causal'\] is not allowed"),
        (lambda: Recipe.from_dict({"role": ["dmmd"], "process": "masked"}), "role: .* is not allowed"),
        (lambda: Recipe.from_dict({"role": "dmmd"}), "recipe: key 'name' is missing"),
    ],
)
def test_what_nobody_knows_is_an_error(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def changed(changes):
    return get_recipe("markov-masked-teacher", "smoke", changes)


def test_a_network_takes_the_keys_of_its_class():
    networks = [changed(c).make_network() for c in ({}, {"network.positions": True})]
    sizes = [sum(p.numel() for p in network.parameters()) for network in networks]
    assert sizes[1] - sizes[0] == TINY["width"] * worlds.get_world("markov").length


class Stairs(World):
    """Sequences that rise by one, modulo 5."""

    name, vocab_size, length = "stairs", 5, 4

    def sample(self, num, generator, split="train"):
        return (torch.randint(5, (num, 1), generator=generator) + torch.arange(4)) % 5


def test_a_world_is_a_class_and_a_row(tmp_path, monkeypatch):
    size = ScaleSettings(TINY, 8, 4, 2e-3, 8, 4, (1e-3, 1e-3), 0.9)
    monkeypatch.setitem(WORLD_SETTINGS, "stairs", WorldSettings("images", {"smoke": size}, (2,)))
    monkeypatch.setitem(worlds.WORLDS, "stairs", Stairs)
    for table in ("RECIPES", "BEFORE_TUNING"):
        monkeypatch.setattr(catalogue, table, {})
    catalogue.register()
    assert len(catalogue.RECIPES) == len(RECIPES) + 2 * 3  # a teacher, a student, and one without noise input
    train_recipe(get_recipe("stairs-masked-teacher", "smoke"), tmp_path / "run", validate=lambda players: 0.0)
    assert load_model(str(tmp_path / "run")).sample(3, 2).tokens.shape == (3, 4)
    student = get_recipe("stairs-uniform-dmmd-2", "smoke")
    assert student.network["noise"] == 1 and student.make_network().noise == 1
