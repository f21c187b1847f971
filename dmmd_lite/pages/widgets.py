"""Explorers: sliders with a live result in JupyterLab, a filmstrip of the same results in pages run headless.

A moved slider shows a small result at once. Longer work then continues in parts, in a thread while the kernel
listens, with progress and a button that stops it; moving a slider again starts over.
"""

import asyncio
import html
from collections.abc import Callable, Iterator, Sequence

import ipywidgets as widgets
from IPython.display import display

from dmmd_lite.pages.display import filmstrip
from dmmd_lite.pages.links import headless


class Explorer:
    """Sliders above a result.

    Args:
    controls: the values to choose from, by the name of the argument that they are.
    first: a function first(**values) that returns HTML, in less than 300 ms.
    longer: a function longer(**values) that yields (part done, HTML) again and again; None: there is none.
    start: the values that sliders start at; others start at their first value.
    """

    def __init__(
        self,
        controls: dict[str, Sequence],
        first: Callable[..., str],
        longer: Callable[..., Iterator[tuple[float, str]]] | None = None,
        start: dict | None = None,
    ):
        self.first, self.longer, self.task = first, longer, None
        self.sliders = {
            name: widgets.SelectionSlider(
                options=[(str(v), v) for v in values],
                value=(start or {}).get(name, values[0]),
                description=name.replace("_", "-"),
                continuous_update=False,
            )
            for name, values in controls.items()
        }
        self.result, self.bar = widgets.HTML(), widgets.FloatProgress(max=1.0)
        self.stop = widgets.Button(description="stop", disabled=True)
        self.stop.on_click(lambda _: self.cancel())
        for slider in self.sliders.values():
            slider.observe(lambda _: self.update(), names="value")
        below = [widgets.HBox([self.bar, self.stop])] if longer else []
        self.box = widgets.VBox([*self.sliders.values(), self.result, *below])
        self.update()

    @property
    def values(self) -> dict:
        """The values that the sliders stand at."""
        return {name: slider.value for name, slider in self.sliders.items()}

    def update(self) -> None:
        """Show the first result for the sliders' values and begin the longer work."""
        self.cancel()
        self.bar.value = 0
        try:
            self.result.value = self.first(**self.values)
        except Exception as error:  # an error in a callback would be visible in the kernel's log only
            self.result.value = error_html(error)
            return
        if self.longer:
            self.task = asyncio.ensure_future(self._work(self.values))

    def cancel(self) -> None:
        """Stop the longer work; its last result stays, and a part that has begun is not shown."""
        if self.task is not None:
            self.task.cancel()
            self.task = None
        self.stop.disabled = True

    async def _work(self, values: dict) -> None:
        self.stop.disabled = False
        try:
            parts = self.longer(**values)
            while part := await asyncio.to_thread(next, parts, None):
                self.bar.value, self.result.value = part
        except Exception as error:  # nobody awaits this task, so its error is shown here
            self.result.value = error_html(error)
        self.stop.disabled = True


def error_html(error: Exception) -> str:
    """Return an error's type and message as HTML."""
    return f"<b>{type(error).__name__}</b>: {html.escape(str(error))}"


def explore(
    controls: dict[str, Sequence],
    first: Callable[..., str],
    longer: Callable[..., Iterator[tuple[float, str]]] | None = None,
    *,
    strip: str,
    start: dict | None = None,
) -> None:
    """Show an explorer; headless, a filmstrip over the control `strip` with the others at their start."""
    if not headless():
        display(Explorer(controls, first, longer, start).box)
        return
    fixed = {name: (start or {}).get(name, values[0]) for name, values in controls.items()}
    filmstrip(lambda value: first(**{**fixed, strip: value}), controls[strip], strip.replace("_", "-"))
