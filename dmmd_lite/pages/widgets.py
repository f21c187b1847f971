"""Explorers: sliders and text fields with a live result in JupyterLab, a filmstrip of the same results in
pages run headless.

A moved slider or a changed text shows a small result at once. Longer work then continues in parts, in a
thread while the kernel listens, with progress and a button that stops it; another change starts over.
"""

import asyncio
import html
from collections.abc import Callable, Iterator, Sequence

import ipywidgets as widgets
from IPython.display import display

from dmmd_lite.pages.display import filmstrip
from dmmd_lite.pages.links import headless


class Explorer:
    """Sliders and text fields above a result.

    Args:
    controls: the values to choose from, by the name of the argument that they are; or a string, the first
    content of a text field, or of a text area if it has several lines.
    first: a function first(**values) that returns HTML, in less than 300 ms.
    longer: a function longer(**values) that yields (part done, HTML) again and again; None: there is none.
    start: the values that sliders start at; others start at their first value.
    """

    def __init__(
        self,
        controls: dict[str, Sequence | str],
        first: Callable[..., str],
        longer: Callable[..., Iterator[tuple[float, str]]] | None = None,
        start: dict | None = None,
    ):
        self.first, self.longer, self.task = first, longer, None
        starts = _starts(controls, start)
        self.controls = {name: _control(name, values, starts[name]) for name, values in controls.items()}
        self.result, self.bar = widgets.HTML(), widgets.FloatProgress(max=1.0)
        self.stop = widgets.Button(description="stop", disabled=True)
        self.stop.on_click(lambda _: self.cancel())
        for control in self.controls.values():
            control.observe(lambda _: self.update(), names="value")
        below = [widgets.HBox([self.bar, self.stop])] if longer else []
        self.box = widgets.VBox([*self.controls.values(), self.result, *below])
        self.update()

    @property
    def values(self) -> dict:
        """The values of the controls."""
        return {name: control.value for name, control in self.controls.items()}

    def update(self) -> None:
        """Show the first result for the controls' values and begin the longer work."""
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


def _starts(controls: dict[str, Sequence | str], start: dict | None) -> dict:
    """Return the value that each control starts at."""
    firsts = {name: values if isinstance(values, str) else values[0] for name, values in controls.items()}
    return firsts | (start or {})


def _control(name: str, values: Sequence | str, value: object) -> widgets.ValueWidget:
    """Make the slider over some values or, for a string, the text field of a control."""
    options = {"value": value, "description": name.replace("_", "-"), "continuous_update": False}
    if not isinstance(values, str):
        return widgets.SelectionSlider(options=[(str(v), v) for v in values], **options)
    if "\n" not in values:
        return widgets.Text(**options)
    return widgets.Textarea(rows=values.count("\n") + 1, **options)


def explore(
    controls: dict[str, Sequence | str],
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
    fixed = _starts(controls, start)
    filmstrip(lambda value: first(**{**fixed, strip: value}), controls[strip], strip.replace("_", "-"))
