"""Molecules in pictures, drawn by rdkit as SVG that takes the colour of the text around it."""

import html
import re
from collections import Counter
from collections.abc import Sequence

from dmmd_lite.metrics.molecules import canonical
from dmmd_lite.utils.checks import checked

WIDTH, HEIGHT = 144, 110  # pixels of a picture
COLOURS = {7: (0.25, 0.5, 0.95), 8: (0.9, 0.27, 0.25), 9: (0.13, 0.6, 0.33)}  # of N, O, F on light and dark
TILE = "flex:0 0 {width}px;text-align:center;position:relative"
GREY = "background:rgba(128,128,128,.25);border:1px solid rgba(128,128,128,.6);border-radius:4px"
CODE = "font-family:monospace;font-size:12px;line-height:1.25;overflow-wrap:anywhere"
BADGE = "position:absolute;top:2px;right:4px;font-size:12px;font-weight:bold"


@checked
def molecule_grid(smiles: Sequence[str], beginning: str = "") -> str:
    """Return pictures of the molecules of SMILES strings as HTML, each above its string.

    A string that is no molecule, as in `metrics.molecules`, is a grey box. What is shown several times, as
    the same molecule or as the same string, carries its number, as "×2". The label for screen readers counts
    molecules and different ones.

    Args:
    beginning: the part that all strings were given, which is printed in bold.
    Errors: ValueError without rdkit.
    """
    found = canonical(smiles)
    keys = [text if known is None else known for text, known in zip(smiles, found, strict=True)]
    times, molecules = Counter(keys), [known for known in found if known is not None]
    label = f"{len(molecules)} of {len(smiles)} strings are molecules"
    if len(set(molecules)) < len(molecules):
        label += f", {len(set(molecules))} of them different"
    tiles = []
    for text, known, key in zip(smiles, found, keys, strict=True):
        held = beginning if text.startswith(beginning) else ""
        caption = f"<b>{html.escape(held)}</b>{html.escape(text[len(held) :])}" if text else "(empty)"
        inner = "no molecule" if known is None else _picture(text)
        look = f"height:{HEIGHT}px;line-height:{HEIGHT}px;{GREY if known is None else ''}"
        badge = f'<span style="{BADGE}">×{times[key]}</span>' if times[key] > 1 else ""
        picture = f'<div style="{look}">{inner}</div>{badge}'
        style = TILE.format(width=WIDTH)
        tiles.append(f'<div style="{style}">{picture}<div style="{CODE}">{caption}</div></div>')
    row = "display:flex;flex-wrap:wrap;gap:10px"
    return f'<div role="group" aria-label="{label}" style="{row}">{"".join(tiles)}</div>'


def _picture(smiles: str) -> str:
    """Draw a molecule as an <svg>, hidden from screen readers, which read its string."""
    from rdkit.Chem import MolFromSmiles
    from rdkit.Chem.Draw import rdMolDraw2D

    drawer = rdMolDraw2D.MolDraw2DSVG(WIDTH, HEIGHT)
    options = drawer.drawOptions()
    options.clearBackground, options.fixedBondLength, options.minFontSize = False, 26, 11
    options.setAtomPalette({-1: (0, 0, 0), **COLOURS})
    rdMolDraw2D.PrepareAndDrawMolecule(drawer, MolFromSmiles(smiles))
    drawer.FinishDrawing()
    svg = drawer.GetDrawingText()
    paths = re.sub(
        r"<!--.*?-->|\s*class='[^']*'", "", svg[svg.index(">", svg.index("<svg")) + 1 :], flags=re.S
    )
    head = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" aria-hidden="true">'
    return head + paths.replace("#000000", "currentColor").replace("\n", "")
