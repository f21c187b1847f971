"""Metrics: each returns a `Record`. `suite` has them by name."""

from dmmd_lite.utils.lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "suite": "METRICS evaluate_samples metrics_for",
        "judges": "Judge",
    },
)
