"""Limits of mixtures of product laws, against what is known of them, and of SDTT in one round."""

from dataclasses import replace

import pytest
import torch

from dmmd_lite.metrics.exact_laws import total_variation
from dmmd_lite.report.collapse import clamp_table
from dmmd_lite.studies.sdtt_clamp import grids, one_round
from dmmd_lite.studies.theory.limits import best_mixture
from dmmd_lite.worlds import get_world
from dmmd_lite.worlds.enumerable import EnumerableWorld


def limit(world, components, **options):
    """The distance found, after checking that it is the law's."""
    found, law = best_mixture(world, components, **options)
    assert law.sum() == pytest.approx(1) and law.min() >= 0
    assert float(total_variation(law, world)) == pytest.approx(found, abs=1e-9)
    return found


def test_one_product_law():
    """Coins, both with chance p of H: all of p^2 counts once it reaches 0.6, and (1 - p)^2 besides. Parity,
    every bit with chance q of 1: all of (1 - q)^3 up to 1/4 and 3 q^2 (1 - q) count."""
    p = 0.6**0.5
    assert limit(get_world("coins"), 1) == pytest.approx(1 - p**2 - (1 - p) ** 2, abs=1e-3)
    q = 1 - 0.25 ** (1 / 3)
    assert limit(get_world("parity"), 1) == pytest.approx(3 / 4 - 3 * q**2 * (1 - q), abs=1e-3)


def test_equal_components_make_equal_parts():
    """0.6 and 0.4 are three fifths and two fifths; two components are enough for a fair pair of coins only,
    and three or four do better than whole components, which miss 0.6 by 1/15 or 0.1."""
    world = get_world("coins")
    fair = EnumerableWorld("fair", 2, world.outcomes, [0.5, 0.5], "HT")
    assert limit(fair, 2) < 1e-3 and limit(world, 5) < 1e-3
    assert 0.09 < limit(world, 2) < 0.1
    assert 0.06 < limit(world, 3) < 1 / 15
    assert limit(world, 4) == pytest.approx(0.0875, abs=1e-3)  # the four starts of uniform noise
    assert limit(world, 16) < 10 / 16 - 0.6


def test_parity_is_four_certain_components():
    assert limit(get_world("parity"), 2) > 0.4 and limit(get_world("parity"), 4) < 1e-3


def test_components_make_outcomes_of_permutations():
    """M certain components make M of the 24 equally likely outcomes; few can hardly do better than that."""
    world, before = get_world("permutations"), 1.0
    for components in (1, 2, 4):
        found = limit(world, components, restarts=8, steps=300)
        assert found < min(before, 1 - components / 24)
        before = found
    assert before > 0.5
    assert limit(world, 24, restarts=16, steps=600) < 0.3


def test_no_components_are_refused():
    with pytest.raises(ValueError, match="components: 0 is not allowed"):
        best_mixture(get_world("coins"), 0)


def test_the_seed_decides_the_starts_only():
    found = torch.tensor([limit(get_world("coins"), 2, seed=seed) for seed in range(3)])
    assert found.max() - found.min() < 1e-3


def test_a_round_of_sdtt_stands_beside_its_limit():
    coins = get_world("coins")
    records = [one_round(clamp, updates=3) for clamp in (1e-3, 1e-6)]
    for clamp, r in zip((1e-3, 1e-6), records, strict=True):
        assert r.details["changes"]["method.clamp"] == r.details["clamp"] == clamp
        assert r.provenance["training"]["steps"] == 3
        assert all(0 < p < 1 for p in r.details["heads"])
    table = clamp_table([records[0], records[0], records[1]], coins)
    assert list(table["seeds"]) == [2, 1] and list(table["heads at the minimum of the loss"]) == [
        "0.657",
        "0.730",
    ]
    assert clamp_table([replace(records[0], details={})], coins).empty


def test_the_released_grid_of_sdtt_reveals_less_in_between():
    shown = grids(1 / 8, (0.5, 1.0))
    assert shown["intended"] == {0.5: "0.50, 0.38; reveals 25%", 1.0: "1.00, 0.88; reveals 12%"}
    assert shown["released"] == {0.5: "0.62, 0.12; reveals 20%", 1.0: "1.00, 0.00; reveals 12%"}
