"""Explorers: sliders with a live result in JupyterLab, a filmstrip of the same results in pages run headless.

A moved slider shows a small result at once. Longer work then goes on in parts, in a thread while the kernel
listens, with progress and a button that stops it; moving a slider again starts over.
"""

import asyncio
import html
import os
from collections.abc import Callable, Iterator, Sequence

import ipywidgets as widgets
from IPython.display import display

from dmmd_lite.pages.display import filmstrip


def headless() -> bool:
    """Whether a page is run by `pages.run_page`, where nobody can move a widget."""
    return "DMMD_PAGE_OUT" in os.environ


class Explorer:
    """Sliders above a result.

    controls: values to choose from, by the name of the argument they are. first(**values) gives HTML and
    should take less than 300 ms; longer(**values), if any, gives (part done, HTML) again and again.
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
        """What the sliders say."""
        return {name: slider.value for name, slider in self.sliders.items()}

    def update(self) -> None:
        """Show the first result for the sliders' values and begin the longer work."""
        self.cancel()
        self.bar.value = 0
        try:
            self.result.value = self.first(**self.values)
        except Exception as error:  # a callback's error would end in the kernel's log
            self.result.value = error_html(error)
            return
        if self.longer:
            self.task = asyncio.ensure_future(self._go_on(self.values))

    def cancel(self) -> None:
        """Stop the longer work; what it showed last stays, and a part that has begun is not shown."""
        if self.task is not None:
            self.task.cancel()
            self.task = None
        self.stop.disabled = True

    async def _go_on(self, values: dict) -> None:
        self.stop.disabled = False
        try:
            parts = self.longer(**values)
            while part := await asyncio.to_thread(next, parts, None):
                self.bar.value, self.result.value = part
        except Exception as error:  # nobody waits for this task, so it is said here
            self.result.value = error_html(error)
        self.stop.disabled = True


def error_html(error: Exception) -> str:
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
