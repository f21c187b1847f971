"""The door of the command line, which imports almost nothing: an interrupt is one line at any moment."""

import signal
import sys

ALARMS = hasattr(signal, "setitimer")  # Windows has none
AGAIN = 3  # seconds until an interrupt is tried again: some libraries swallow it while they are imported


def main() -> int:
    """Run the command line and return the exit code."""
    try:
        signal.signal(signal.SIGINT, _interrupt)
        if ALARMS:
            signal.signal(signal.SIGALRM, _interrupt)
        sys.unraisablehook = _report
        from dmmd_lite.cli import main

        return main()
    except KeyboardInterrupt:
        if ALARMS:
            signal.signal(signal.SIGALRM, signal.SIG_IGN)
        print("dmmd-lite: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT


def _interrupt(number, frame):
    if ALARMS:
        signal.setitimer(signal.ITIMER_REAL, AGAIN)
    raise KeyboardInterrupt


def _report(ignored) -> None:
    """Report an error that Python cannot raise, unless it is an interrupt, which comes again."""
    if not isinstance(ignored.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(ignored)


if __name__ == "__main__":
    sys.exit(main())
