"""The section that closes every page of the site: how to run the page again, its code and its records."""

import ast
from importlib import import_module
from pathlib import Path

from dmmd_lite.pages.links import code_link, link, record_link
from dmmd_lite.utils.lazy import PLACES
from dmmd_lite.utils.markup import literal
from dmmd_lite.utils.paths import PACKAGE
from dmmd_lite.utils.records import Record, load_results

STAGES = ("measured", "provenance")  # keys of a record's provenance: the measurement, the training


def modules_of(source: str) -> list[str]:
    """Return the modules that define what a page imports, without "dmmd_lite.", in the page's order."""
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)]
    names = [(node.module, alias.name) for node in nodes for alias in node.names]
    found = dict.fromkeys(_home(*name) for name in names if f"{name[0]}.".startswith("dmmd_lite."))
    return [module.removeprefix("dmmd_lite.") for module in found if module != "dmmd_lite"]


def _home(module: str, name: str) -> str:
    """Return the module that a public name is loaded from; other names lie in the given module."""
    if (PACKAGE.parent / module.replace(".", "/")).is_dir():
        import_module(module)  # the door of a room, which loads nothing else but fills PLACES
    place = PLACES.get(module, {}).get(name)
    return _home(place, name) if place else module


def closing_section(page: Path, run: dict, computed: Path | None) -> str:
    """Return the Markdown of the section "How this page was made" of the site.

    Args:
    page: the page's source.
    run: the metadata that `run_page` left in the notebook.
    computed: the file of records that the run saved; None: it saved none.
    """
    modules = modules_of(page.read_text(encoding="utf-8"))
    code = ", ".join(code_link(name, name, on_site=True) for name in modules)
    lines = [
        "## How this page was made",
        "",
        f"- Run at {run['scale']} scale in {run['seconds']:.0f} s. Again: "
        f"`dmmd-lite page {page.stem} --scale {run['scale']} --out out`; its source is `book/{page.name}`.",
        f"- Code: {code or 'all of it above'}.",
    ]
    if computed is not None:
        lines.append(f"- Computed here: {link(f'../records/{computed.name}', computed.name)}.")
    if committed := {name: load_results(name) for name in run["results"]}:
        lines += ["- Committed records:", "", records_table(committed)]
    return "\n".join(lines)


def records_table(files: dict[str, list[Record]]) -> str:
    """Return a Markdown table of files of records, with one row for each file and machine.

    A row shows the number of records, their models (recipes), and the machine and dates of the measurements
    and trainings.
    """
    lines = ["| file | records | measured on | models | trained on |", "|---|---|---|---|---|"]
    for name, records in files.items():
        groups: dict[tuple, list[Record]] = {}
        for r in records:
            groups.setdefault(tuple(_facts(r, stage).get("hardware") for stage in STAGES), []).append(r)
        for group in groups.values():
            names = dict.fromkeys(r.model for r in group)
            models = ", ".join(f"<code>{literal(model)}</code>" for model in names)
            measured, trained = (_origin(group, stage) for stage in STAGES)
            cells = [record_link(name), str(len(group)), measured, models, trained]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _facts(record: Record, stage: str) -> dict:
    """Return what `machine` noted when a record was measured or its model trained; {} if it noted nothing."""
    return record.provenance.get(stage, {})


def _origin(records: list[Record], stage: str) -> str:
    """Return the machine and dates of records that share the machine; "–" if no machine was noted."""
    facts = [_facts(r, stage) for r in records]
    if not facts[0]:
        return "–"
    dates = sorted({f["date"] for f in facts})
    return literal(f"{facts[0]['hardware']}, {' to '.join(dict.fromkeys((dates[0], dates[-1])))}")
