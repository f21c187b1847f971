"""The world of molecules: symbols, splits, round trips."""

import pytest
import torch

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
