"""Where files live: the data that ships with the package, the cache, and data sets the user supplies."""

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]  # the folder of the package


def source_root() -> Path | None:
    """The checkout this package runs from; None where it is installed from a wheel."""
    root = PACKAGE.parent
    return root if (root / "pyproject.toml").is_file() else None


def data_dir() -> Path:
    """The folder with released models and results: `data/` of the checkout, else its copy in the wheel."""
    root = source_root()
    return root / "data" if root else PACKAGE / "data"


def cache_dir() -> Path:
    """The folder for what can be computed again: $DMMD_CACHE_DIR, else ~/.cache/dmmd_lite; may not exist."""
    return Path(os.environ.get("DMMD_CACHE_DIR") or "~/.cache/dmmd_lite").expanduser().resolve()


def external_data_dir() -> Path | None:
    """The folder with data sets too large to ship: $DMMD_DATA_DIR, None where it is not set.

    Raises ValueError if the variable names something that is not a folder.
    """
    value = os.environ.get("DMMD_DATA_DIR")
    if not value:
        return None
    folder = Path(value).expanduser().resolve()
    if not folder.is_dir():
        raise ValueError(f"DMMD_DATA_DIR: {value!r} is not a folder; name one with data sets, or unset it")
    return folder


def may_download() -> bool:
    """Whether the hub may be asked: only where DMMD_DOWNLOAD=1 is set and the hub's own libraries are not
    told to stay offline."""
    offline = (os.environ.get(name, "").upper() for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"))
    return os.environ.get("DMMD_DOWNLOAD") == "1" and not any(
        v in ("1", "ON", "YES", "TRUE") for v in offline
    )
