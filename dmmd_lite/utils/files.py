"""Files: written atomically, made once or owned under a lock, and identified by their SHA-256."""

import hashlib
import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # this module is imported where torch is not needed
    from torch import Tensor, nn


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a path to write to, which replaces `path` at the end: readers see the old file or all of the new.
    Folders are made as needed; if the writer fails, nothing is left behind."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_json(path: str | Path, content) -> None:
    """Write JSON atomically. ValueError for numbers that are not finite."""
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    with atomic_write(path) as part:
        part.write_text(text)


def write_tensors(
    path: str | Path, tensors: "dict[str, Tensor]", about: dict[str, str] | None = None
) -> None:
    """Write a safetensors file atomically, with `about` as its metadata."""
    from safetensors.torch import save_file

    with atomic_write(path) as part:
        save_file(tensors, part, about)


def sha256_of(content: Path | bytes | str) -> str:
    """Compute the SHA-256 of a file, of bytes or of a string, in hexadecimal."""
    if isinstance(content, Path):
        with content.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


def sha256_of_json(content) -> str:
    """Compute the SHA-256 of JSON values, independent of the order of their keys."""
    return sha256_of(json.dumps(content, sort_keys=True))


def weights_sha256(module: "nn.Module") -> str:
    """Compute the SHA-256 of a module's weights and their names."""
    import torch

    digest = hashlib.sha256()
    for key, value in sorted(module.state_dict().items()):
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def made_once(target: Path, make: Callable[[Path], object]) -> Path:
    """Return `target`, after make(target) if it is missing. One process makes it while others wait."""
    from filelock import FileLock

    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_suffix(".lock")):
            if not target.is_file():
                make(target)
    return target


@contextmanager
def folder_lock(folder: str | Path, name: str = ".lock") -> Iterator[None]:
    """Own a folder while the context lasts. The lock ends with its process, also with one that is killed.

    The thread that owns a folder may open the context again.

    Args:
    name: of the file in the folder that is locked, where only a part of the folder is to be owned.
    Errors: ValueError, at once, for a folder that another process or thread owns; it names the owner.
    """
    from filelock import FileLock, Timeout

    file = Path(folder).resolve() / name
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file, timeout=0, is_singleton=True)
    try:
        lock.acquire()
    except Timeout:
        owner = file.read_text(encoding="utf-8") or "another process"
        words = f"{owner} is working there; wait until it has ended, or use another folder"
        raise ValueError(f"out: {str(folder)!r} is not allowed now; {words}") from None
    try:
        since = datetime.now(UTC).isoformat(" ", "seconds")
        file.write_text(f"process {os.getpid()} of {socket.gethostname()}, since {since},", encoding="utf-8")
        yield
    finally:
        lock.release()
