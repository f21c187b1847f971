"""Failures of work, in a module that imports nothing, so that the command line starts at once."""


class Failure(RuntimeError):
    """Work that began and failed. The command line prints the message and returns exit code 1."""


def memory_ran_out(error: Exception) -> bool:
    """Return whether memory ran out. torch says so by several kinds of RuntimeError."""
    words = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in words or "can't allocate memory" in words
