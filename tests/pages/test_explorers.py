import asyncio
import re
import time

import pytest

from dmmd_lite.models.loading import load_model
from dmmd_lite.pages import widgets
from dmmd_lite.pages.widgets import Explorer, explore
from dmmd_lite.recipes.catalogue import get_recipe
from dmmd_lite.report.explorers import Live, sampler, trajectory


@pytest.fixture(scope="module")
def student():
    return load_model("digits-masked-dmmd-4")


def test_a_moved_slider_shows_its_first_result():
    explorer = Explorer({"top_p": [0.5, 1.0], "steps": [1, 2]}, lambda top_p, steps: f"{top_p} {steps}")
    assert explorer.result.value == "0.5 1"
    explorer.sliders["steps"].value = 2
    assert explorer.result.value == "0.5 2"
    assert explorer.sliders["top_p"].description == "top-p"


def test_longer_work_continues_in_parts_until_it_is_done():
    def longer(x):
        for part in (0.5, 1.0):
            yield part, f"{x} {part}"

    async def run():
        explorer = Explorer({"x": [1, 2]}, lambda x: "first", longer)
        assert explorer.result.value == "first"
        await explorer.task
        assert explorer.result.value == "1 1.0" and explorer.bar.value == 1 and explorer.stop.disabled

    asyncio.run(run())


def test_longer_work_stops_when_asked_and_starts_over_when_a_slider_moves():
    seen = []

    def longer(x):
        for part in range(1000):
            seen.append(x)
            time.sleep(0.001)
            yield part / 1000, str(x)

    async def run():
        explorer = Explorer({"x": [1, 2]}, lambda x: "first", longer)
        await asyncio.sleep(0.1)
        explorer.sliders["x"].value = 2
        await asyncio.sleep(0.1)
        explorer.stop.click()
        await asyncio.sleep(0.1)  # the part that has begun ends in this time
        at = len(seen)
        await asyncio.sleep(0.1)
        assert len(seen) == at < 1000 and explorer.stop.disabled
        assert seen == sorted(seen) and {1, 2} <= set(seen)

    asyncio.run(run())


def test_a_sampler_adds_metrics_to_its_first_pictures(student):
    first, longer = sampler({"masked": student}, ["coverage"], num=96, seed=1)
    values = {"model": "masked", "steps": 2, "temperature": 1.0, "top_p": 1.0}
    assert 'alt="16 samples of the masked model"' in first(**values)
    shown = list(longer(**values))
    assert [part for part, _ in shown] == [0.5, 80 / 96, 1.0]
    assert "coverage" not in shown[0][1]
    assert re.search(r"coverage 0\.\d+ \[0\.\d+, 0\.\d+\]; n = 96", shown[-1][1])


def test_a_trajectory_marks_every_token_once(student):
    text = load_model("docstrings-masked-teacher", "smoke")
    first = trajectory(text, 4, num=2, seed=3)
    marks = [first(step).count("<mark>") for step in range(5)]
    assert marks[0] == 0 and sum(marks) == 2 * text.world.length
    assert "·" in first(0) and "·" not in first(4)


def test_headless_an_explorer_is_a_filmstrip(monkeypatch):
    shown = []
    monkeypatch.setenv("DMMD_PAGE_OUT", "somewhere")
    monkeypatch.setattr("dmmd_lite.pages.display.display", lambda data, raw: shown.append(data["text/html"]))
    explore({"x": [1, 2], "y": [3, 4]}, lambda x, y: f"<b>{x} {y}</b>", strip="y", start={"x": 2})
    assert "<b>2 3</b>" in shown[0] and "<b>2 4</b>" in shown[0] and "<b>1" not in shown[0]


def test_a_live_training_shows_stops_and_begins_again():
    recipe = get_recipe("coins-masked-dmmd-1", "smoke")
    seen = []
    live = Live(recipe, lambda players: seen.append(set(players)) or f"look {len(seen)}", every=5)
    live.start()
    live.thread.join(60)
    assert live.result.value == "look 4" and live.bar.value == 1 and not live.begin.disabled
    assert seen[0] == {"generator", "auxiliary"}
    live.start()
    live.cancel()
    live.thread.join(60)
    assert len(seen) == 5 and live.stop.disabled


def test_an_error_in_a_training_is_shown():
    live = Live(get_recipe("coins-masked-dmmd-1", "smoke"), lambda players: 1 / 0, every=5)
    live.start()
    live.thread.join(60)
    assert "ZeroDivisionError" in live.result.value and not live.begin.disabled and live.stop.disabled


def test_an_error_in_longer_work_is_shown():
    def longer(x):
        yield 0.5, "half"
        raise ValueError("x < 1")

    async def explored():
        explorer = Explorer({"x": [1]}, lambda x: "first", longer)
        await explorer.task
        return explorer

    explorer = asyncio.run(explored())
    assert "x &lt; 1" in explorer.result.value and explorer.stop.disabled


def test_an_error_in_a_first_result_is_shown_and_gone_with_the_next():
    explorer = Explorer({"x": [1, 0]}, lambda x: f"{1 / x:g}")
    explorer.sliders["x"].value = 0
    assert "ZeroDivisionError" in explorer.result.value
    explorer.sliders["x"].value = 1
    assert explorer.result.value == "1"


@pytest.mark.parametrize("name, steps", [("digits-masked-dmmd-4", 4), ("digits-uniform-teacher", 32)])
def test_first_results_come_at_once(name, steps):
    """The median of five is below 300 ms of processor time, on which other work has no influence."""
    first, _ = sampler({"one": load_model(name)}, [])
    taken = []
    for seed in range(5):
        start = time.process_time()
        first(model="one", steps=steps, temperature=1.0 - seed / 100, top_p=1.0)
        taken.append(time.process_time() - start)
    assert sorted(taken)[2] < 0.3


def test_a_page_run_by_a_person_is_not_headless(monkeypatch):
    monkeypatch.delenv("DMMD_PAGE_OUT", raising=False)
    assert not widgets.headless()
