"""Provenance of results: hardware, versions, date and git commit."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import dmmd_lite
from dmmd_lite.utils.paths import source_root

if TYPE_CHECKING:
    import torch


def machine(device: "torch.device | str" = "cpu") -> dict:
    """Describe where and with what something is computed: hardware, versions, commit, date."""
    import torch  # here, because the import takes longer than the rest of a run that only saves records

    device = torch.device(device)
    hardware = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{platform.machine()} CPU"
    return {
        "hardware": f"{hardware}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "dmmd_lite": dmmd_lite.__version__,
        "commit": commit(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def commit() -> str:
    """Return the git commit of the source tree, with "+changes" if the package was edited since; "unknown"
    outside a git checkout of this project."""
    root = source_root()

    def git(*args):
        command = ["git", "-C", str(root), *args]
        return subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout.strip()

    try:
        if root is None or Path(git("rev-parse", "--show-toplevel")) != root:
            return "unknown"
        changes = "+changes" if git("status", "--porcelain", "dmmd_lite") else ""
        return git("rev-parse", "--short=12", "HEAD") + changes
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
