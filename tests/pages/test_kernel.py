"""Explorers in a real Jupyter kernel: messages move sliders and press buttons, as those of a browser do."""

import time
from queue import Empty

import pytest
from helpers import ROOT
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager

from dmmd_lite.pages.source import read_page, resolve_parameters

pytestmark = pytest.mark.slow

VIEW = "application/vnd.jupyter.widget-view+json"
TIMED = """
import time
from dmmd_lite.pages.widgets import Explorer

taken, plain = [], Explorer.update

def update(self):
    start = time.thread_time()
    plain(self)
    taken.append(time.thread_time() - start)

Explorer.update = update
"""


class FrontEnd:
    """A kernel that runs a page's cells, and the state of its widgets, as a browser keeps it."""

    def __init__(self):
        self.widgets, self.views, self.errors = {}, [], []
        self.manager = KernelManager(kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))
        self.manager.start_kernel(cwd=str(ROOT / "book"))
        self.client = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)

    def open(self, page: str, until: str, parameters: dict, but: tuple[str, ...] = ()) -> None:
        """Run the code cells of a page at smoke scale, up to the first one with `until`, except those with a
        word of `but`."""
        values = resolve_parameters(page, "smoke", parameters)
        for cell in read_page(ROOT / "book" / f"{page}.py").cells:
            if cell.cell_type == "code" and not any(word in cell.source for word in but):
                self.run(cell.source)
            if "parameters" in cell.metadata.get("tags", []):
                self.run("\n".join(f"{name} = {value!r}" for name, value in values.items()))
            if until in cell.source:
                return

    def run(self, source: str, expression: str = "None") -> str:
        """Run one cell and return the text of an expression afterwards; an error fails the test."""
        heard = {"output_hook": self.heed, "user_expressions": {"result": expression}}
        reply = self.client.execute_interactive(source, timeout=120, **heard)["content"]
        assert reply["status"] == "ok", reply.get("traceback")
        return reply["user_expressions"]["result"]["data"]["text/plain"]

    def heed(self, message: dict) -> None:
        """Take in a message of the kernel."""
        kind, content = message["msg_type"], message["content"]
        if kind in ("comm_open", "comm_msg"):
            held = self.widgets.setdefault(content["comm_id"], {})
            held.update(content["data"].get("state", {}))
        elif kind == "display_data" and VIEW in content["data"]:
            self.views.append(content["data"][VIEW]["model_id"])
        elif kind == "error":
            self.errors.append("\n".join(content["traceback"]))
        elif kind == "stream" and "Traceback" in content["text"]:
            self.errors.append(content["text"])

    def of(self, view: str, kind: str, **state) -> list[dict]:
        """Return the states of all widgets of a kind in a view, in order, that have the given values."""
        found = [key for key in self._inside(view) if self.widgets[key]["_model_name"] == f"{kind}Model"]
        return [
            self.widgets[key] | {"id": key}
            for key in found
            if all(self.widgets[key].get(name) == value for name, value in state.items())
        ]

    def _inside(self, key: str) -> list[str]:
        children = [child.removeprefix("IPY_MODEL_") for child in self.widgets[key].get("children", [])]
        return [key, *(below for child in children for below in self._inside(child))]

    def send(self, widget: dict, data: dict) -> None:
        """Send the message that a browser sends when somebody uses a widget."""
        content = {"comm_id": widget["id"], "data": data}
        self.client.shell_channel.send(self.client.session.msg("comm_msg", content))

    def move(self, slider: dict, index: int) -> None:
        """Move a slider; the kernel sends no message of its new place."""
        self.widgets[slider["id"]]["index"] = index
        self.send(slider, {"method": "update", "state": {"index": index}, "buffer_paths": []})

    def press(self, button: dict) -> None:
        """Press a button."""
        self.send(button, {"method": "custom", "content": {"event": "click"}})

    def wait(self, condition, seconds: float = 120) -> None:
        """Take in messages until a condition holds."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end and not self.errors, self.errors or "waited in vain"
            try:
                self.heed(self.client.get_iopub_msg(timeout=1))
            except Empty:
                pass


@pytest.fixture
def front_end(monkeypatch):
    """A kernel as JupyterLab starts one."""
    monkeypatch.delenv("DMMD_PAGE_OUT", raising=False)
    monkeypatch.delenv("MPLBACKEND")
    found = FrontEnd()
    yield found
    found.client.stop_channels()
    found.manager.shutdown_kernel(now=True)
    assert not found.errors


def test_the_sampler_answers_every_slider_at_once_measures_and_stops(front_end):
    front_end.run(TIMED)
    few = {"n": 64, "steps": 4, "temperatures": [1.0], "top_ps": [0.9]}
    front_end.open("fig4_sampling_temperature", "explore(", few)
    [view] = front_end.views
    shown_html, bar, stop = (
        lambda kind=kind, key=key: front_end.of(view, kind)[0][key]
        for kind, key in (("HTML", "value"), ("FloatProgress", "value"), ("Button", "disabled"))
    )
    sliders = front_end.of(view, "SelectionSlider")
    assert [slider["description"] for slider in sliders] == ["model", "steps", "temperature", "top-p"]
    waits = []
    for slider in sliders:
        moves = [k for k in range(len(slider["_options_labels"])) if k != slider["index"]]
        if slider["description"] == "model":  # move back, because sharp glyphs are blank and look alike
            moves.append(slider["index"])
        for index in moves:
            before, start = shown_html(), time.monotonic()
            front_end.move(slider, index)
            front_end.wait(lambda before=before: "first samples" in shown_html() != before)
            waits.append(time.monotonic() - start)
            assert "<img" in shown_html()
    before = shown_html()
    front_end.move(sliders[1], 2)  # 16 steps take a while; it stands at 32
    front_end.wait(lambda: "first samples" in shown_html() != before)
    front_end.wait(lambda: 0 < bar() < 1 and not stop())
    front_end.press(front_end.of(view, "Button")[0])
    front_end.wait(stop)
    reached = bar()
    front_end.run("time.sleep(1)")
    assert bar() == reached < 1, "the work continued after it was stopped"

    taken = [float(number) for number in front_end.run("", "taken").strip("[]").split(",")]
    assert max(taken) < 0.3, taken
    print(f"first results: {sorted(waits)[len(waits) // 2]:.3f} s by the clock, at most {max(waits):.3f} s")
    print(f"first results: at most {max(taken):.3f} s of one core")

    front_end.move(sliders[1], 0)
    front_end.wait(lambda: bar() == 1 and stop())
    assert "n = 512" in shown_html() and "frechet" in shown_html() and "[" in shown_html()


def test_the_reverse_process_is_walked_through(front_end):
    front_end.open("fig2_sample", "explore(", {"num_seeds": 1}, but=("texts(",))
    [view] = front_end.views
    [slider], hidden = front_end.of(view, "SelectionSlider"), []
    for index in range(len(slider["_options_labels"])):
        front_end.move(slider, index)
        at = f"t = {1 - index / 4:.3f}"
        front_end.wait(lambda at=at: at in front_end.of(view, "HTML")[0]["value"])
        shown = front_end.of(view, "HTML")[0]["value"]
        hidden.append(shown.count("·"))
        assert ("<mark>" in shown) == (index > 0)
    assert hidden == sorted(hidden, reverse=True) and hidden[0] > hidden[-1] == 0


def test_predictions_are_shown_and_a_training_is_watched_and_stopped(front_end):
    others = ("best_mixture(", "evaluate(", "pivot_table(", "laws[")
    front_end.open("coins", "Live(", {"watch_steps": 200, "watch_every": 100}, but=others)
    *_, players, live = front_end.views
    [slider] = front_end.of(players, "SelectionSlider")
    before = front_end.of(players, "HTML")[0]["value"]
    assert all(f"{who}, both hidden" in before for who in ("generator", "auxiliary", "teacher"))
    front_end.move(slider, 1)
    front_end.wait(lambda: front_end.of(players, "HTML")[0]["value"] != before)

    begin, stop = front_end.of(live, "Button")
    front_end.press(begin)
    front_end.wait(lambda: front_end.of(live, "FloatProgress")[0]["value"] > 0)
    assert "auxiliary, both hidden" in front_end.of(live, "HTML")[0]["value"]
    assert [button["disabled"] for button in front_end.of(live, "Button")] == [True, False]
    front_end.press(stop)
    front_end.wait(lambda: front_end.of(live, "Button")[1]["disabled"])
    assert front_end.of(live, "FloatProgress")[0]["value"] < 1
    assert not front_end.of(live, "Button")[0]["disabled"]
