"""The machinery of the book's pages: parameters, runs, sweeps, the site. It knows no science."""

from typing import TYPE_CHECKING

from dmmd_lite.utils.lazy import lazy

if TYPE_CHECKING:  # the public names, which `lazy` loads when they are first asked for
    from dmmd_lite.pages.run import run_page
    from dmmd_lite.pages.source import JupytextReader, page_names

__getattr__, __dir__, __all__ = lazy(__name__, __file__)
