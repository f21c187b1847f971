"""The section that closes a page: its code, its records, where and when they were made."""

import pytest
from conftest import ROOT

from dmmd_lite import behind
from dmmd_lite.behind import (
    closing_section,
    code_link,
    modules_of,
    page_link,
    record_link,
    records_table,
    results_of,
)
from dmmd_lite.leaderboard import PAGES
from dmmd_lite.pages import load_results, page_names

SOURCE = """# # A page that says fig1_steps_text in its prose
from dmmd_lite.evaluate import evaluate
from dmmd_lite.objectives.dmmd import DMMD
from dmmd_lite.evaluate import draw_samples
from dmmd_lite.pages import load_results
import numpy

records = load_results("coins")
"""


def test_records_and_modules_are_read_from_the_source():
    assert results_of(SOURCE) == ["coins"]
    assert modules_of(SOURCE) == ["evaluate", "objectives.dmmd", "pages"]
    everything = SOURCE + "committed_records()\n"
    assert set(results_of(everything)) >= {"coins", *PAGES} & set(behind_names())


def behind_names() -> set[str]:
    return {path.stem for path in (ROOT / "data" / "results").glob("*.json")}


def test_links_lead_to_pages_on_the_site_and_to_files_in_a_checkout(monkeypatch):
    monkeypatch.delenv("DMMD_PAGE_OUT", raising=False)
    assert 'href="coins.py"' in page_link("coins")
    assert 'href="../dmmd_lite/objectives/dmmd.py"' in code_link("objectives.dmmd")
    assert (ROOT / "dmmd_lite" / "objectives" / "dmmd.py").is_file()
    monkeypatch.setenv("DMMD_PAGE_OUT", "somewhere")
    assert 'href="coins.html"' in page_link("coins", "Two coins") and ">Two coins<" in page_link(
        "coins", "Two coins"
    )
    assert 'href="../_modules/dmmd_lite/objectives/dmmd.html"' in code_link("objectives.dmmd")
    assert 'href="../data/results/coins.json"' in record_link("coins")


def test_records_of_two_machines_take_two_rows():
    (record,) = load_results("coins")[:1]
    made = record["provenance"]["measured"]
    other = {
        **record,
        "model": "big",
        "provenance": {"measured": {**made, "hardware": "NVIDIA H200", "date": "2027-01-02"}},
    }
    other["provenance"]["provenance"] = {"hardware": "NVIDIA H200", "date": "2026-12-31"}
    later = {**record, "provenance": {"measured": {**made, "date": "2999-01-01"}}}
    head, _, here, there = records_table({"coins": [record, other, later]}).splitlines()
    assert "measured on" in head and "trained on" in head
    assert f"{made['hardware']}, {made['date']} to 2999-01-01" in here and "| 2 |" in here
    assert "NVIDIA H200, 2027-01-02" in there and "NVIDIA H200, 2026-12-31" in there and "`big`" in there


@pytest.mark.parametrize("name", page_names())
def test_a_closing_section_names_source_command_and_records(name):
    page = ROOT / "book" / f"{name}.py"
    text = closing_section(page, {"scale": "smoke", "seconds": 12.3}, ROOT / f"{name}.json")
    assert text.startswith("## Behind this page") and f"`book/{name}.py`" in text
    assert f"dmmd-lite page {name} --scale smoke" in text and "12 s" in text
    assert f'href="../records/{name}.json"' in text
    for result in results_of(page.read_text()):
        assert f'href="../data/results/{result}.json"' in text
    assert (
        "records/"
        not in closing_section(page, {"scale": "smoke", "seconds": 1.0}, None).split("Committed")[0]
    )
    assert behind.STAGES == ("measured", "provenance")
