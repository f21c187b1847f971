"""The base class of failures, in a module that imports nothing, so that the command line starts at once."""


class Failure(RuntimeError):
    """Work that began and failed. The command line prints the message and returns exit code 1."""
