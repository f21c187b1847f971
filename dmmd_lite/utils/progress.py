"""A progress bar on terminals and in notebooks, and nothing elsewhere."""

import os
from contextlib import contextmanager


class _Silent:
    def set(self, step: int, values: dict | None = None) -> None:
        """Show nothing."""


class _Bar:
    def __init__(self, bar):
        self.bar = bar

    def set(self, step: int, values: dict | None = None) -> None:
        """Move to `step` and show the latest values."""
        if values:
            self.bar.set_postfix({key: f"{value:.4g}" for key, value in values.items()}, refresh=False)
        self.bar.update(step - self.bar.n)


@contextmanager
def progress_bar(total: int, start: int = 0, label: str = "", show: bool = True):
    """Open a bar with a method `set(step, values)`; it stays silent elsewhere and if TQDM_DISABLE is set."""
    show = show and "TQDM_DISABLE" not in os.environ
    try:
        from tqdm.auto import tqdm
    except ImportError:
        show = False
    if not show:
        yield _Silent()
        return
    with tqdm(total=total, initial=start, desc=label, disable=None, leave=False) as bar:
        yield _Bar(bar)
