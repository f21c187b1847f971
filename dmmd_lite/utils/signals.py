"""Long work that is asked to stop: signals are collected, the work ends at a good place and says so."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Interrupted(RuntimeError):
    """The work was asked to stop and saved what it had. `signal` is the signal's number."""

    def __init__(self, message: str, number: int):
        super().__init__(message)
        self.signal = number


@contextmanager
def collect_signals() -> Iterator[list[int]]:
    """A list that grows with every SIGINT and SIGTERM while the context lasts, in the main thread alone."""
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {
        number: signal.signal(number, lambda n, _: asked.append(n))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
