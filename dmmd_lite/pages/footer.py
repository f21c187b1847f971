"""The section that closes every page of the site: what stands behind the page."""

import ast
from pathlib import Path

from dmmd_lite.pages.links import code_link, link, record_link
from dmmd_lite.utils.records import Record, load_results

STAGES = ("measured", "provenance")  # of a record: of the measurement, of the training


def modules_of(source: str) -> list[str]:
    """Modules of the package that a page's source imports from, from the package on, in its order."""
    found = (node.module for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom))
    return list(dict.fromkeys(m.removeprefix("dmmd_lite.") for m in found if m.startswith("dmmd_lite.")))


def closing_section(page: Path, run: dict, computed: Path | None) -> str:
    """Markdown of the section "Behind this page" of the site.

    page: its source. run: what `pages.run_page` noted in the notebook. computed: the records the run saved.
    """
    source = page.read_text()
    code = ", ".join(code_link(module, module, on_site=True) for module in modules_of(source))
    lines = [
        "## Behind this page",
        "",
        f"- Run at {run['scale']} scale in {run['seconds']:.0f} s. Again: "
        f"`dmmd-lite page {page.stem} --scale {run['scale']} --out out`; its source is `book/{page.name}`.",
        f"- Code: {code or 'all of it above'}.",
    ]
    if computed is not None:
        lines.append(f"- Computed here: {link(f'../records/{computed.name}', computed.name)}.")
    committed = {name: load_results(name) for name in run["results"]}
    if committed:
        lines += ["- Committed records:", "", records_table(committed)]
    return "\n".join(lines)


def records_table(files: dict[str, list[Record]]) -> str:
    """A Markdown table of files of records: how many, of which models (recipes), measured and trained when
    and on what. One row for each file and machine."""
    lines = ["| file | records | measured on | models | trained on |", "|---|---|---|---|---|"]
    for name, records in files.items():
        groups: dict[tuple, list[Record]] = {}
        for r in records:
            groups.setdefault(tuple(_facts(r, stage).get("hardware") for stage in STAGES), []).append(r)
        for mine in groups.values():
            models = ", ".join(f"`{model}`" for model in dict.fromkeys(r.model for r in mine))
            measured, trained = (_made(mine, stage) for stage in STAGES)
            cells = [record_link(name), str(len(mine)), measured, models, trained]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _facts(record: Record, stage: str) -> dict:
    """What `records.machine` said when a record was measured, or its model trained; {} where neither was."""
    return record.provenance.get(stage, {})


def _made(records: list[Record], stage: str) -> str:
    """Machine and dates of records that share the machine; "–" where there was none."""
    facts = [_facts(r, stage) for r in records]
    if not facts[0]:
        return "–"
    dates = sorted({f["date"] for f in facts})
    return f"{facts[0]['hardware']}, {' to '.join(dict.fromkeys((dates[0], dates[-1])))}"
