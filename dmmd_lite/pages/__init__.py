"""The machinery of the book's pages: parameters, runs, sweeps, the site. It knows no science."""

from dmmd_lite.utils.lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "source": "JupytextReader page_names",
        "run": "run_page",
    },
)
