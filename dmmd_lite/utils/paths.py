"""Folders: the data that ships with the package, the cache, and data sets that the user supplies."""

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


def source_root() -> Path | None:
    """Return the checkout that this package runs from; None if a wheel is installed."""
    root = PACKAGE.parent
    return root if (root / "pyproject.toml").is_file() else None


def data_dir() -> Path:
    """Return the folder of released models and results: `data/` of the checkout, else of the wheel."""
    root = source_root()
    return root / "data" if root else PACKAGE / "data"


def cache_dir() -> Path:
    """Return the folder, which may not exist, for files that can be computed again: $DMMD_CACHE_DIR, else
    ~/.cache/dmmd_lite."""
    return _resolved(os.environ.get("DMMD_CACHE_DIR") or "~/.cache/dmmd_lite")


def external_data_dir() -> Path | None:
    """Return the folder with data sets too large to ship: $DMMD_DATA_DIR, None if it is not set.

    Errors: ValueError if the variable names something that is not a folder.
    """
    value = os.environ.get("DMMD_DATA_DIR")
    if not value:
        return None
    folder = _resolved(value)
    if not os.path.isdir(folder):  # unlike Path.is_dir, False for a name that is too long
        raise ValueError(f"DMMD_DATA_DIR: {value!r} is not a folder; name one with data sets, or unset it")
    return folder


def may_download() -> bool:
    """Return True if the hub may be asked: DMMD_DOWNLOAD=1 is set, and no variable of the hub's libraries
    forbids it."""
    offline = {os.environ.get(name, "").upper() for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")}
    return os.environ.get("DMMD_DOWNLOAD") == "1" and offline.isdisjoint(("1", "ON", "YES", "TRUE"))


def _resolved(path: str) -> Path:
    """Return an absolute path without symbolic links; a loop of links is kept, as it leads to no folder."""
    return Path(os.path.realpath(os.path.expanduser(path)))
