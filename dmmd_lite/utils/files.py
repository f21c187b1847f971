"""Files: written atomically, made once or owned under a lock, and identified by their SHA-256."""

import errno
import hashlib
import json
import os
import re
import shutil
import socket
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from dmmd_lite.utils.errors import Failure

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # errors of a disk that has none

if TYPE_CHECKING:  # this module is imported where torch is not needed
    from torch import Tensor, nn

MAX_NESTING = 50  # levels of JSON that is read


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a path to write to, which replaces `path` at the end: readers see the old file or all of the new.
    Errors: those of `atomic_files`."""
    path = Path(path)
    with atomic_files(path, path.name) as folder:
        yield folder / path.name


@contextmanager
def atomic_files(path: str | Path, last: str) -> Iterator[Path]:
    """Yield an empty hidden folder beside `path`, whose files move out beside `path` at the end.

    They are flushed to the disk before they replace others, so a power cut leaves no half file. If the writer
    fails, none has moved and nothing is left behind. What killed processes of this machine left for the same
    path is removed first. Folders are made as needed.

    Args:
    last: name of the file that moves last, which tells readers that the others are complete.
    Errors: Failure, in one line, where the system cannot write, for instance on a full disk.
    """
    path = Path(path)
    with _named_failures(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path)
        folder = path.with_name(f".{path.name}.{_host()}.{os.getpid()}.part")
        folder.mkdir(exist_ok=True)  # a process of the same number may have left one
        try:
            yield folder
            files = sorted(folder.iterdir(), key=lambda file: file.name == last)
            for file in files:
                with suppress(
                    OSError
                ):  # safetensors makes files that nobody else can read; not all disks can
                    file.chmod(folder.stat().st_mode & 0o666)
                _flush(file)
            for file in files:
                os.replace(file, path.with_name(file.name))
            with suppress(OSError):  # some disks and systems cannot flush a folder
                _flush(path.parent)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def remove_leftovers(path: Path) -> None:
    """Remove what killed processes of this machine left beside `path`, half written (`atomic_files`)."""
    for left in path.parent.iterdir():
        match = re.fullmatch(rf"\.{re.escape(path.name)}\.{_host()}\.(\d+)\.part", left.name)
        if match and not _running(int(match[1])):
            shutil.rmtree(left, ignore_errors=True)


def _host() -> str:
    """Return a short name of this machine, without dots."""
    return sha256_of(socket.gethostname())[:8]


def _running(process: int) -> bool:
    """Return whether there is a process of this number on this machine."""
    if os.name == "nt":  # where signal 0 is another one
        return True
    try:
        os.kill(process, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


def _flush(path: Path) -> None:
    """Wait until a file, or the list of a folder's files, is on the disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


@contextmanager
def _named_failures(path: Path) -> Iterator[None]:
    """Turn errors of the system while `path` is written into a Failure of one line."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = " ".join((getattr(error, "strerror", None) or str(error)).split())
        raise Failure(f"{path}: cannot be written ({reason})") from error


def append_line(path: Path, line: str) -> None:
    """Append a line to a text file. Failure where the system cannot write."""
    with _named_failures(path), path.open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")


def write_text(path: str | Path, text: str) -> None:
    """Write a text file atomically, in UTF-8."""
    with atomic_write(path) as part:
        part.write_text(text, encoding="utf-8")


def json_text(content) -> str:
    """Return the text of a JSON file. ValueError for numbers that are not finite."""
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def write_json(path: str | Path, content) -> None:
    """Write JSON atomically. ValueError for numbers that are not finite."""
    write_text(path, json_text(content))


def write_tensors(
    path: str | Path, tensors: "dict[str, Tensor]", about: dict[str, str] | None = None
) -> None:
    """Write a safetensors file atomically, with `about` as its metadata."""
    from safetensors.torch import save_file

    with atomic_write(path) as part:
        save_file(tensors, part, about)


def read_tensors(path: str | Path) -> "tuple[dict[str, Tensor], dict[str, str]]":
    """Read the tensors and the metadata of a safetensors file. ValueError, with the reason, if it is none."""
    from safetensors import safe_open

    try:
        with safe_open(path, "pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ValueError(_reason(error)) from None


def read_cached(path: Path) -> "tuple[dict[str, Tensor], dict[str, str]]":
    """Read a file of the cache as `read_tensors` does. ValueError, with what to do, for a damaged one."""
    try:
        return read_tensors(path)
    except ValueError as error:
        raise ValueError(f"cache: {path} is damaged ({error}); delete it, and it is made again") from None


def read_json(path: str | Path):
    """Read JSON values from a file. ValueError, with the reason, if it holds none or has too many levels."""
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(_reason(error)) from None
    level = [values]
    for _ in range(MAX_NESTING):
        inner = [v.values() if isinstance(v, dict) else v for v in level if isinstance(v, dict | list)]
        level = [value for part in inner for value in part]
    if level:
        raise ValueError(f"more than {MAX_NESTING} levels")
    return values


def _reason(error: Exception) -> str:
    """Return the kind of an error and the first line of its message."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def sha256_of(content: Path | bytes | str) -> str:
    """Compute the SHA-256 of a file, of bytes or of a string, in hexadecimal."""
    if isinstance(content, Path):
        with content.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


def sha256_of_json(content) -> str:
    """Compute the SHA-256 of JSON values, independent of the order of their keys."""
    return sha256_of(json.dumps(content, sort_keys=True))


def tensors_sha256(tensors: "dict[str, Tensor]", about: str = "") -> str:
    """Compute the SHA-256 of named tensors and of a text about them."""
    import torch

    digest = hashlib.sha256(about.encode())
    for key, value in sorted(tensors.items()):
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def weights_sha256(module: "nn.Module") -> str:
    """Compute the SHA-256 of a module's weights and their names."""
    return tensors_sha256(module.state_dict())


def made_once(target: Path, make: Callable[[Path], object]) -> Path:
    """Return `target`, after make(target) if it is missing. One process makes it while others wait."""
    if not target.is_file():
        with folder_lock(target.parent, f"{target.stem}.lock", wait=True):
            if not target.is_file():
                make(target)
    return target


def check_folder(name: str, folder: Path) -> None:
    """Raise ValueError unless a folder, called `name`, can be written, or made. Nothing is left behind."""
    existing = next(path for path in [folder, *folder.absolute().parents] if os.path.lexists(path))
    if not existing.is_dir():
        words = f"{str(existing)!r} is a file, name a folder"
        raise ValueError(f"{name}: {str(folder)!r} is not allowed; {words}")
    try:
        tempfile.TemporaryDirectory(prefix=".", dir=existing).cleanup()
    except OSError as error:
        words = f"{str(existing)!r} cannot be written ({error.strerror})"
        raise ValueError(f"{name}: {str(folder)!r} is not allowed; {words}") from None


@contextmanager
def folder_lock(folder: str | Path, name: str = ".lock", wait: bool = False) -> Iterator[None]:
    """Own a folder while the context lasts. The lock ends with its process, also with one that is killed.

    The thread that owns a folder may open the context again.

    Args:
    name: of the file in the folder that is locked, where only a part of the folder is to be owned.
    wait: until the owner has ended, instead of the error.
    Errors: ValueError, at once, for a folder that another process or thread owns, naming the owner, and for
    one that cannot be made or written. On a disk without locks, as some network disks are, a warning says
    that nothing is owned.
    """
    from filelock import FileLock, Timeout

    file = Path(os.path.realpath(folder), name)
    lock = FileLock(file, timeout=0, is_singleton=True, fallback_to_soft=False)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        owner = file.read_text(encoding="utf-8") or "another process"
        words = f"{owner} is working there; wait until it has ended, or use another folder"
        raise ValueError(f"out: {str(folder)!r} is not allowed now; {words}") from None
    except (OSError, NotImplementedError) as error:
        if not isinstance(error, NotImplementedError) and error.errno not in NO_LOCKS:
            words = f"it cannot be made or written ({error.strerror})"
            raise ValueError(f"out: {str(folder)!r} is not allowed; {words}") from None
        words = "its disk has no locks: do not train there twice at the same time"
        warnings.warn(f"{folder}: {words} ({error})", stacklevel=3)
        yield
        return
    try:
        since = datetime.now(UTC).isoformat(" ", "seconds")
        owner = f"process {os.getpid()} of {socket.gethostname()}, since {since},"
        with _named_failures(file):
            file.write_text(owner, encoding="utf-8")
        yield
    finally:
        lock.release()
