"""Links to pages, code and records that work on the built site and in JupyterLab alike.

The site holds copies of all committed records under `data/results/`, of the records that its pages computed
under `records/`, and the source of every module under `_modules/`; see `site`.
"""

import html
import os


def headless() -> bool:
    """Return whether this process runs a page for the site (`run_page`), where nobody can move a widget."""
    return "DMMD_PAGE_OUT" in os.environ


def link(address: str, text: str) -> str:
    """Return an HTML link."""
    return f'<a href="{html.escape(address)}">{html.escape(text)}</a>'


def page_link(name: str, text: str = "") -> str:
    """Return an HTML link from a page to another one."""
    return link(f"{name}.html" if headless() else f"{name}.py", text or name)


def record_link(name: str, text: str = "") -> str:
    """Return an HTML link from a page to the committed records `data/results/<name>.json`."""
    return link(f"../data/results/{name}.json", text or f"{name}.json")


def code_link(module: str, text: str = "", on_site: bool | None = None) -> str:
    """Return an HTML link from a page to the source of a module.

    Args:
    module: its name without "dmmd_lite.", such as "objectives.dmmd".
    on_site: whether the link will be read on the site; None: whether this process runs a page for it.
    """
    path = "dmmd_lite/" + module.replace(".", "/")
    to_site = headless() if on_site is None else on_site
    return link(f"../_modules/{path}.html" if to_site else f"../{path}.py", text or f"{path}.py")
