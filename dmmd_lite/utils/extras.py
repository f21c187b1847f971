"""Packages that only a part of the work needs; one that is missing is named before the work begins."""

from importlib.util import find_spec

EXTRAS = {  # module -> (its package, the extra of dmmd-lite that installs it, "" for none)
    "IPython": ("ipython", "book"),
    "PIL": ("pillow", "book"),
    "datasets": ("datasets", "book"),
    "distributed": ("distributed", "cluster"),
    "fcd": ("fcd", "chem"),
    "huggingface_hub": ("huggingface-hub", "book"),
    "ipywidgets": ("ipywidgets", "book"),
    "jupyter_book": ("jupyter-book", "book"),
    "jupyter_client": ("jupyter-client", "book"),
    "jupytext": ("jupytext", "book"),
    "matplotlib": ("matplotlib", "book"),
    "nbformat": ("nbformat", "book"),
    "pandas": ("pandas", "book"),
    "papermill": ("papermill", "book"),
    "pyarrow": ("pyarrow", "book"),
    "rdkit": ("rdkit", "chem"),
    "seaborn": ("seaborn", "book"),
    "sklearn": ("scikit-learn", "book"),
    "tokenizers": ("tokenizers", "book"),
    "torch_fidelity": ("torch-fidelity", "fid"),
    "transformers": ("transformers", ""),
}


def require(*modules: str) -> None:
    """Raise ValueError, in one line with what to install, unless these modules are there."""
    for module in modules:
        try:
            found = find_spec(module)
        except ImportError:
            found = None
        if found is None:
            raise ValueError(missing(module))


def missing(module: str) -> str:
    """Say that a module of `EXTRAS` is missing, and what installs it."""
    package, extra = EXTRAS[module]
    return f"{package} is not installed; pip install " + (f"'dmmd-lite[{extra}]'" if extra else package)
