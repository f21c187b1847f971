"""What a page shows: figures with alternative text, and filmstrips.

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


def _png(fig: Figure, dpi: int = 100) -> str:
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=dpi, bbox_inches="tight", facecolor="white")
    plt.close(fig)
    return base64.b64encode(buffer.getvalue()).decode()


def save(fig: Figure, path: Path) -> None:
    """Write a figure to a file and close it."""
    fig.savefig(path, dpi=120, bbox_inches="tight", facecolor="white")
    plt.close(fig)


def show(fig: Figure, alt: str) -> None:
    """Display a figure with alternative text."""
    text = html.escape(alt, quote=True)
    display(
        {"text/html": f'<img alt="{text}" src="data:image/png;base64,{_png(fig)}">', "text/plain": alt},
        raw=True,
    )


def filmstrip(draw: Callable[[object], Figure | str], values: Sequence, label: str, alt: str = "") -> None:
    """One frame per value behind a plain HTML slider, which works without any library and with the keyboard.

    draw(value) makes the frame: a figure, described by `alt`, or HTML that describes itself. The last frame
    shows first: a strip ends with its result. A screen reader is told the value, not the slider's position.
    """

    def content(value: object) -> str:
        drawn = draw(value)
        if isinstance(drawn, str):
            return drawn
        described = html.escape(f"{alt} ({label} {value})", quote=True)
        return f'<img alt="{described}" src="data:image/png;base64,{_png(drawn, dpi=80)}">'

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
    """uint8 images [height, width(, 3)] side by side as one <img>, every pixel `zoom` wide; dark ink on white
    where they are grey. Quicker than `image_grid`."""
    grey = images[0].ndim == 2
    stack = np.stack([255 - image if grey else image for image in images])
    stack = np.pad(
        stack, [(0, -len(stack) % columns), (1, 1), (1, 1), (0, 0)][: stack.ndim], constant_values=255
    )
    rows = [np.concatenate(list(row), axis=1) for row in stack.reshape(-1, columns, *stack.shape[1:])]
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate(rows).repeat(zoom, 0).repeat(zoom, 1)).save(buffer, "png")
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{html.escape(alt, quote=True)}" src="data:image/png;base64,{data}">'
