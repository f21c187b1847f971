"""Functions that show something on a page: figures with alternative text, and filmstrips.

Figures are shown as <img> elements with alternative text, so that they read the same in JupyterLab, on the
built site and to a screen reader.
"""

import base64
import html
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display
from matplotlib.figure import Figure
from PIL import Image

LOOK = {"bbox_inches": "tight", "facecolor": "white"}  # options of every saved figure


def save(fig: Figure, file: Path | io.BytesIO, dpi: int = 120) -> None:
    """Write a figure to a file or, as PNG, to a buffer, and close it."""
    fig.savefig(file, format="png" if isinstance(file, io.BytesIO) else None, dpi=dpi, **LOOK)
    plt.close(fig)


def show(fig: Figure, alt: str) -> None:
    """Display a figure with alternative text."""
    display({"text/html": _figure(fig, alt), "text/plain": alt}, raw=True)


def filmstrip(draw: Callable[[object], Figure | str], values: Sequence, label: str, alt: str = "") -> None:
    """Display one frame per value behind an HTML slider, which needs no library and works with the keyboard.

    The last frame is shown first, because a strip ends with its result. A screen reader reads the value, not
    the slider's position.

    Args:
    draw: makes the frame of a value: a figure, which `alt` describes, or HTML that describes itself.
    label: the name of what the slider changes.
    """

    def content(value: object) -> str:
        drawn = draw(value)
        return drawn if isinstance(drawn, str) else _figure(drawn, f"{alt} ({label} {value})", dpi=80)

    frames, last = [content(value) for value in values], len(values) - 1
    names = html.escape("|".join(map(str, values)), quote=True)
    last_name = html.escape(str(values[-1]), quote=True)
    move = (
        "const f=this.closest('figure'),v=this.dataset.names.split('|')[this.value];"
        "f.querySelectorAll('.frame').forEach((m,k)=>m.hidden=(k!=this.value));"
        "f.querySelector('output').value=v;this.setAttribute('aria-valuetext',v)"
    )
    slider = (
        f'<label>{html.escape(label)} <input type="range" min="0" max="{last}" value="{last}" '
        f'autocomplete="off" aria-valuetext="{last_name}" data-names="{names}" oninput="{move}"> '
        f"<output>{last_name}</output></label>"
    )
    strip = "".join(
        f'<div class="frame"{"" if k == last else " hidden"}>{frame}</div>' for k, frame in enumerate(frames)
    )
    text = {"text/html": f'<figure class="filmstrip">{slider}{strip}</figure>', "text/plain": alt or label}
    display(text, raw=True)


def tiles(images: Sequence[np.ndarray], alt: str, columns: int = 16, zoom: int = 4) -> str:
    """Return images side by side as one <img>. This is quicker than `image_grid`.

    Args:
    images: uint8 [height, width(, 3)]; grey ones are shown as dark ink on white.
    columns: images in a row.
    zoom: width of an image's pixel on the screen.
    """
    grey = images[0].ndim == 2
    stack = np.stack([255 - image if grey else image for image in images])
    margins = [(0, -len(stack) % columns), (1, 1), (1, 1), (0, 0)][: stack.ndim]
    stack = np.pad(stack, margins, constant_values=255)
    rows = [np.concatenate(list(row), axis=1) for row in stack.reshape(-1, columns, *stack.shape[1:])]
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate(rows).repeat(zoom, 0).repeat(zoom, 1)).save(buffer, "png")
    return _img(buffer, alt)


def _figure(fig: Figure, alt: str, dpi: int = 100) -> str:
    """Return a figure as an <img> and close it."""
    buffer = io.BytesIO()
    save(fig, buffer, dpi)
    return _img(buffer, alt)


def _img(png: io.BytesIO, alt: str) -> str:
    """Return an <img> that contains the PNG file in a buffer."""
    data = base64.b64encode(png.getvalue()).decode()
    return f'<img alt="{html.escape(alt, quote=True)}" src="data:image/png;base64,{data}">'
