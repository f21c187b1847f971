"""The section that closes a page: its code, its records, and where and when they were made."""

import html
import re
from dataclasses import replace

import pandas as pd
import pytest
from helpers import ROOT
from markdown_it import MarkdownIt

from dmmd_lite.pages import footer
from dmmd_lite.pages.footer import closing_section, modules_of, records_table
from dmmd_lite.pages.links import code_link, link, page_link, record_link
from dmmd_lite.pages.source import page_names
from dmmd_lite.report.claim_tables import claim_section
from dmmd_lite.report.claims import Finding
from dmmd_lite.report.leaderboard import PAGES, committed_records
from dmmd_lite.report.paper import CLAIMS
from dmmd_lite.utils.records import RESULTS_READ, load_results

SOURCE = """# # A page that says fig1_steps_text in its prose
from dmmd_lite.models.evaluation import evaluate
from dmmd_lite.objectives.dmmd import DMMD
from dmmd_lite.utils.records import load_results
import numpy

records = load_results("coins")
"""


def test_modules_are_read_from_the_source():
    assert modules_of(SOURCE) == ["models.evaluation", "objectives.dmmd", "utils.records"]


def test_public_names_count_as_imports_from_the_modules_that_define_them():
    source = "from dmmd_lite import Transformer, Uniform, __version__, evaluate\n"
    source += "from dmmd_lite.models import Model\n"
    assert modules_of(source) == ["networks.transformer", "processes", "models.evaluation", "models.model"]


def test_records_are_noted_while_a_page_runs(tmp_path, monkeypatch):
    """Every function that reads records notes them; a page that a person runs leaves no note."""
    monkeypatch.delenv("DMMD_PAGE_OUT", raising=False)
    load_results("coins")
    monkeypatch.setenv("DMMD_PAGE_OUT", str(tmp_path))
    assert len(committed_records()) > 100 and load_results("coins")
    noted = (tmp_path / RESULTS_READ).read_text().split()
    assert set(noted) == {"coins", *PAGES} and noted[-1] == "coins"


def test_links_lead_to_pages_on_the_site_and_to_files_in_a_checkout(monkeypatch):
    monkeypatch.delenv("DMMD_PAGE_OUT", raising=False)
    assert 'href="coins.py"' in page_link("coins")
    assert 'href="../dmmd_lite/objectives/dmmd.py"' in code_link("objectives.dmmd")
    assert (ROOT / "dmmd_lite" / "objectives" / "dmmd.py").is_file()
    monkeypatch.setenv("DMMD_PAGE_OUT", "somewhere")
    named = page_link("coins", "Two coins")
    assert 'href="coins.html"' in named and ">Two coins<" in named
    assert 'href="../_modules/dmmd_lite/objectives/dmmd.html"' in code_link("objectives.dmmd")
    assert 'href="../data/results/coins.json"' in record_link("coins")


def test_records_of_two_machines_take_two_rows():
    (record,) = load_results("coins")[:1]
    made = record.provenance["measured"]
    there = {"measured": {**made, "hardware": "NVIDIA H200", "date": "2027-01-02"}}
    there["provenance"] = {"hardware": "NVIDIA H200", "date": "2026-12-31"}
    other = replace(record, model="big", provenance=there)
    later = replace(record, provenance={"measured": {**made, "date": "2999-01-01"}})
    head, _, here, there = records_table({"coins": [record, other, later]}).splitlines()
    assert "measured on" in head and "trained on" in head
    assert f"{made['hardware']}, {made['date']} to 2999-01-01" in here and "| 2 |" in here
    assert "NVIDIA H200, 2027-01-02" in there and "NVIDIA H200, 2026-12-31" in there
    assert "<code>big</code>" in there


HOSTILE = "<script>alert(1)</script> | `code` [a](b) **bold** $x$ _y_ &amp;\n# head"


def shown(markdown: str) -> str:
    """Return the text that a browser shows of Markdown, after checking that its HTML is only our own."""
    page = MarkdownIt("commonmark").enable("table").render(markdown)
    assert not re.findall(r"<(?!/?(?:table|thead|tbody|tr|th|td|code|p|a)\b)[^>]*>", page), page
    return html.unescape(re.sub("<[^>]*>", "", page))


def test_what_records_say_is_shown_as_text():
    (record,) = load_results("coins")[:1]
    made = {"hardware": HOSTILE, "date": HOSTILE}
    strange = replace(record, model=HOSTILE, provenance={"measured": made, "provenance": made})
    text = records_table({"coins": [strange]})
    assert len(text.splitlines()) == 3 and shown(text).count(" ".join(HOSTILE.split())) >= 3


def test_what_findings_and_models_say_is_shown_as_text():
    (claim,) = CLAIMS[:1]
    finding = Finding(HOSTILE, HOSTILE, 1, 1, 1, HOSTILE, "coins")
    page = claim_section(replace(claim, text=HOSTILE, paper=HOSTILE), [finding])
    assert "<script>" not in page and page.count(html.escape("<script>")) == 5
    assert 'href="' in page, "links are HTML"
    assert link('"><i>', "<i>") == '<a href="&quot;&gt;&lt;i&gt;">&lt;i&gt;</a>'
    table = pd.DataFrame({"model": [HOSTILE]}).style.hide().to_html()
    assert "<script>" not in table


@pytest.mark.parametrize("name", page_names())
def test_a_closing_section_names_source_command_and_records(name):
    page = ROOT / "book" / f"{name}.py"
    run = {"scale": "smoke", "seconds": 12.3, "results": ["coins", "leaderboard"]}
    text = closing_section(page, run, ROOT / f"{name}.json")
    assert text.startswith("## How this page was made") and f"`book/{name}.py`" in text
    assert f"dmmd-lite page {name} --scale smoke" in text and "12 s" in text
    assert f'href="../records/{name}.json"' in text
    for result in run["results"]:
        assert f'href="../data/results/{result}.json"' in text
    alone = closing_section(page, {"scale": "smoke", "seconds": 1.0, "results": []}, None)
    assert "records/" not in alone and "Committed" not in alone
    assert footer.STAGES == ("measured", "provenance")
