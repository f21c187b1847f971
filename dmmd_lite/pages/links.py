"""Links to pages, code and records that work on the built site and in JupyterLab alike.

The site holds copies of all committed records under `data/results/`, of what its pages computed under
`records/`, and the source of every module under `_modules/`; see `site`.
"""

import html
import os


def link(address: str, text: str) -> str:
    return f'<a href="{address}">{html.escape(text)}</a>'


def _on_site() -> bool:
    """Whether this process runs a page for the site; else links lead to the files of the checkout."""
    return "DMMD_PAGE_OUT" in os.environ


def page_link(name: str, text: str = "") -> str:
    """An HTML link from a page to another one."""
    return link(f"{name}.html" if _on_site() else f"{name}.py", text or name)


def record_link(name: str, text: str = "") -> str:
    """An HTML link from a page to the committed records `data/results/<name>.json`."""
    return link(f"../data/results/{name}.json", text or f"{name}.json")


def code_link(module: str, text: str = "", on_site: bool | None = None) -> str:
    """An HTML link from a page to the source of a module, named from the package on: "objectives.dmmd".

    on_site: whether it will be read there; None: whether this process runs a page for it.
    """
    path = "dmmd_lite/" + module.replace(".", "/")
    to_site = _on_site() if on_site is None else on_site
    return link(f"../_modules/{path}.html" if to_site else f"../{path}.py", text or f"{path}.py")
