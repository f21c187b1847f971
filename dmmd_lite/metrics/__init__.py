"""Metrics: each makes a `Record`. `suite` lists them by name."""

from dmmd_lite.utils.lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "suite": "METRICS Metric evaluate_samples metrics_for",
        "judges": "Judge",
    },
)
