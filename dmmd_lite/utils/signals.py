"""Graceful shutdown: SIGINT and SIGTERM are collected, so that a loop can save its state and end."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Interrupted(RuntimeError):
    """The error of work that a signal stopped after it had saved its state. signal: the signal's number."""

    def __init__(self, message: str, number: int):
        super().__init__(message)
        self.signal = number


@contextmanager
def collect_signals() -> Iterator[list[int]]:
    """Open a list that collects SIGINT and SIGTERM while the context lasts, in the main thread only."""
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
