"""The world of molecules: symbols, splits, round trips."""

import numpy as np
import pytest
import torch

from dmmd_lite.metrics import molecules
from dmmd_lite.metrics.molecules import _distinct, canonical
from dmmd_lite.metrics.suite import evaluate_samples
from dmmd_lite.worlds import get_world
from dmmd_lite.worlds.molecules import PADDING, SYMBOLS


@pytest.fixture(scope="module")
def world():
    return get_world("molecules")


def test_every_molecule_comes_back_from_its_tokens(world):
    for split, smiles in world.smiles.items():
        assert world.show(world.parts[split]) == smiles
        assert PADDING not in "".join(smiles)
    used = torch.cat(list(world.parts.values())).unique().tolist()
    assert used == list(range(world.vocab_size)) and world.vocab_size == len(set(SYMBOLS)) == 31


def test_splits_are_disjoint_and_of_the_published_share(world):
    parts = {split: set(smiles) for split, smiles in world.smiles.items()}
    sizes = {split: len(smiles) for split, smiles in world.smiles.items()}
    assert {split: len(p) for split, p in parts.items()} == sizes and sum(sizes.values()) == 130_744
    assert sizes["test"] == sizes["valid"] == round(0.05 * 130_744)
    assert (
        not parts["train"] & parts["test"] | parts["train"] & parts["valid"] | parts["valid"] & parts["test"]
    )


def test_samples_are_molecules_of_the_split(world, rng):
    drawn = world.sample(50, rng, "test")
    assert drawn.dtype == torch.long and set(world.show(drawn)) <= set(world.smiles["test"])
    assert torch.equal(world.reference("valid", 20), world.reference("valid", 20))


def test_padding_inside_a_string_is_seen(world):
    tokens = world.encode(["CC=O"])
    tokens[0, 1] = 0
    assert world.show(tokens) == ["C.=O"]


@pytest.mark.parametrize(
    "smiles, words",
    [
        ("CCBr", "smiles: 'CCBr' is not allowed; 'Br' is none of"),
        ("C.C", "'.' is none of"),
        ("[13C]", r"'\[13C\]' is none of"),
        ("C\nC", "is none of"),
        ("C" * 25, "it has 25 tokens, at most 24"),
    ],
)
def test_other_strings_are_refused(world, smiles, words):
    with pytest.raises(ValueError, match=words) as error:
        world.encode(["CC", smiles])
    assert "\n" not in str(error.value)


def test_what_is_a_molecule_is_decided_by_rdkit(world):
    """Valid, different and new ones of strings whose answers are known."""
    pytest.importorskip("rdkit")
    known = world.smiles["train"][:2]
    tokens = world.encode([*known, known[0], "OC", "CO", "C(", "C" * 24])
    tokens = torch.cat([tokens, torch.zeros(2, 24, dtype=torch.long)])
    tokens[-1, 1] = 1  # a hole before an atom; the row before is empty
    found = {r.name: r for r in evaluate_samples(tokens, world, ["valid", "unique", "valid_unique", "novel"])}
    assert found["valid"].value == 6 / 9 and found["unique"].value == 4 / 6
    assert found["valid_unique"].value == 4 / 9 and found["novel"].n == 4
    new = set(canonical(["CO", "C" * 24])) - set(world.smiles["train"])
    assert found["novel"].value == len(new) / 4
    assert all(0 <= r.low <= r.value <= r.high <= 1 and r.low < r.high for r in found.values())


def test_real_molecules_are_valid_different_and_not_new(world, rng):
    pytest.importorskip("rdkit")
    names = ["valid", "unique", "novel"]
    train = {r.name: r.value for r in evaluate_samples(world.parts["train"][:300].long(), world, names)}
    test = {r.name: r.value for r in evaluate_samples(world.parts["test"][:300].long(), world, names)}
    assert train == {"valid": 1, "unique": 1, "novel": 0} and test == {"valid": 1, "unique": 1, "novel": 1}
    nothing = torch.zeros(5, 24, dtype=torch.long)
    assert [r.value for r in evaluate_samples(nothing, world, [*names, "valid_unique"])] == [0] * 4


def test_intervals_of_different_molecules_cover(rng):
    """Draws of a Zipf-like distribution over 60 strings; the expectation is known."""
    p = 1 / torch.arange(1, 61, dtype=torch.float64)
    p /= p.sum()
    n, expected = 80, float((1 - (1 - p) ** 80).sum() / 80)
    covered = 0
    for _ in range(400):
        drawn = torch.multinomial(p, n, True, generator=rng)
        record = _distinct("valid_unique", [str(int(x)) for x in drawn], n, "")
        covered += record.low <= expected <= record.high
    assert 0.92 <= covered / 400 <= 0.985


def test_chemnet_gives_every_molecule_features(world):
    pytest.importorskip("fcd")
    features = molecules._chemnet(tuple(world.smiles["test"][:3]))
    assert features.shape == (3, 512) and np.isfinite(features).all()
    assert len(np.unique(features.round(4), axis=0)) == 3


def test_the_chemnet_distance_is_that_of_valid_samples_to_the_split(world, monkeypatch):
    """With counts of symbols as features: real molecules are near, molecules without nitrogen are far."""
    pytest.importorskip("fcd")
    counts = lambda smiles: np.array([[s.count(c) for c in "CNO="] for s in smiles], float)  # noqa: E731
    monkeypatch.setattr(molecules, "_chemnet", counts)
    drawn = world.parts["valid"][:1000].long()
    without = drawn[(drawn != SYMBOLS.index("N")).all(1)]
    near, far = (evaluate_samples(x, world, ["fcd"], split="test")[0] for x in (drawn, without))
    assert 0 <= near.low <= near.value <= near.high < far.low
    assert near.reference == "6537 molecules of the test split" and near.n == 1000
    broken = torch.cat([drawn, torch.full((50, 24), SYMBOLS.index("="))])  # no molecules
    assert evaluate_samples(broken, world, ["fcd"], split="test")[0].value == near.value


def test_too_few_molecules_have_no_chemnet_distance(world, monkeypatch):
    pytest.importorskip("fcd")
    monkeypatch.setattr(molecules, "_chemnet", lambda smiles: np.zeros((len(smiles), 512)))
    with pytest.raises(ValueError, match="samples: 300 are not allowed"):
        evaluate_samples(world.parts["valid"][:300], world, ["fcd"])
