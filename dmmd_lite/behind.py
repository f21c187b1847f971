"""What stands behind a page: links to code and records that work on the built site and in JupyterLab alike,
and the section that closes every page of the site.

The site holds copies of all committed records under `data/results/`, of what its pages computed under
`records/`, and the source of every module under `_modules/`; see `book`.
"""

import ast
import html
import os
from pathlib import Path

from dmmd_lite.leaderboard import PAGES
from dmmd_lite.pages import load_results
from dmmd_lite.paths import data_dir

STAGES = ("measured", "provenance")  # of a record: of the measurement, of the training


def _link(address: str, text: str) -> str:
    return f'<a href="{address}">{html.escape(text)}</a>'


def _on_site() -> bool:
    """Whether this process runs a page for the site; else links lead to the files of the checkout."""
    return "DMMD_PAGE_OUT" in os.environ


def page_link(name: str, text: str = "") -> str:
    """An HTML link from a page to another one."""
    return _link(f"{name}.html" if _on_site() else f"{name}.py", text or name)


def record_link(name: str, text: str = "") -> str:
    """An HTML link from a page to the committed records `data/results/<name>.json`."""
    return _link(f"../data/results/{name}.json", text or f"{name}.json")


def code_link(module: str, text: str = "", on_site: bool | None = None) -> str:
    """An HTML link from a page to the source of a module, named from the package on: "objectives.dmmd".

    on_site: whether it will be read there; None: whether this process runs a page for it.
    """
    path = "dmmd_lite/" + module.replace(".", "/")
    to_site = _on_site() if on_site is None else on_site
    return _link(f"../_modules/{path}.html" if to_site else f"../{path}.py", text or f"{path}.py")


def results_of(source: str) -> list[str]:
    """Names of the committed records a page's source reads, in alphabetical order.

    Those are the files in `data/results/` that it names, those of the leaderboard if it asks for them, and
    all of them if it holds the paper's claims against them.
    """
    tree = ast.parse(source)
    said = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    asked = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    names = {path.stem for path in (data_dir() / "results").glob("*.json")}
    if "CLAIMS" in asked:
        return sorted(names)
    return sorted(names & (said | (set(PAGES) if "committed_records" in asked else set())))


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
        lines.append(f"- Computed here: {_link(f'../records/{computed.name}', computed.name)}.")
    committed = {name: load_results(name) for name in results_of(source)}
    if committed:
        lines += ["- Committed records:", "", records_table(committed)]
    return "\n".join(lines)


def records_table(files: dict[str, list[dict]]) -> str:
    """A Markdown table of files of records: how many, of which models (recipes), measured and trained when
    and on what. One row for each file and machine."""
    lines = ["| file | records | measured on | models | trained on |", "|---|---|---|---|---|"]
    for name, records in files.items():
        groups: dict[tuple, list[dict]] = {}
        for r in records:
            groups.setdefault(tuple(_facts(r, stage).get("hardware") for stage in STAGES), []).append(r)
        for mine in groups.values():
            models = ", ".join(f"`{model}`" for model in dict.fromkeys(r["model"] for r in mine))
            measured, trained = (_made(mine, stage) for stage in STAGES)
            cells = [record_link(name), str(len(mine)), measured, models, trained]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _facts(record: dict, stage: str) -> dict:
    """What `records.machine` said when a record was measured, or its model trained; {} where neither was."""
    return record["provenance"].get(stage, {})


def _made(records: list[dict], stage: str) -> str:
    """Machine and dates of records that share the machine; "–" where there was none."""
    facts = [_facts(r, stage) for r in records]
    if not facts[0]:
        return "–"
    dates = sorted({f["date"] for f in facts})
    return f"{facts[0]['hardware']}, {' to '.join(dict.fromkeys((dates[0], dates[-1])))}"
