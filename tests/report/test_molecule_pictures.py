"""Pictures of molecules: what is drawn, greyed, marked and said."""

import re
from xml.etree import ElementTree

import pytest

from dmmd_lite.report.molecules import COLOURS, molecule_grid

pytest.importorskip("rdkit")


def tiles(grid):
    """The label of a grid and, of each tile, its text and its drawing, None for a grey box."""
    root = ElementTree.fromstring(grid)
    return root.get("aria-label"), [("".join(tile.itertext()), tile.find(".//svg")) for tile in root]


@pytest.mark.parametrize(
    "smiles, label",
    [
        (["CCO", "OCC", "CC(", "C.C", ""], "2 of 5 strings are molecules, 1 of them different"),
        (["C", "N", "O"], "3 of 3 strings are molecules"),
        (["<script>", "c1cc", "C=O", "C=O"], "2 of 4 strings are molecules, 1 of them different"),
    ],
)
def test_the_label_counts_molecules_and_different_ones(smiles, label):
    found, shown = tiles(molecule_grid(smiles))
    assert found == label and len(shown) == len(smiles)
    assert sum(drawing is not None for _, drawing in shown) == int(label[0])


def test_what_is_no_molecule_is_a_grey_box_with_its_string():
    _, shown = tiles(molecule_grid(["CC(", "C.C", "", "O=C<b>&", "CC"]))
    assert [text for text, _ in shown] == [
        f"no molecule{t}" for t in ("CC(", "C.C", "(empty)", "O=C<b>&")
    ] + ["CC"]
    assert [drawing is None for _, drawing in shown] == [True] * 4 + [False]
    assert molecule_grid(["CC(", "CC"]).count("background:") == 1


def test_repeated_molecules_and_strings_carry_their_number():
    _, shown = tiles(molecule_grid(["CCO", "OCC", "C(", "C(", "C(", "C"]))
    assert [re.findall("×(\\d)", text) for text, _ in shown] == [["2"], ["2"], ["3"], ["3"], ["3"], []]


def test_what_was_given_is_bold():
    grid = ElementTree.fromstring(molecule_grid(["CC(=O)N", "CC(=O)(", "OCC"], beginning="CC(=O)"))
    assert [bold.text for bold in grid.iter("b")] == ["CC(=O)", "CC(=O)", None]


def test_drawings_take_the_colour_of_the_text_and_nothing_from_outside():
    grid = molecule_grid(["NC(=O)CF", "c1ccc[nH]1", "C"])
    used = set(re.findall("#[0-9A-F]{6}", grid))
    atoms = {"#" + "".join(f"{int(255 * part):02X}" for part in colour) for colour in COLOURS.values()}
    assert used == atoms and "currentColor" in grid
    assert not re.search("http|src=|href=|<img|<rect", grid)
