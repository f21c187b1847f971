"""Metrics: each makes a `Record`. `suite` lists them by name."""

from typing import TYPE_CHECKING

from dmmd_lite.utils.lazy import lazy

if TYPE_CHECKING:  # the public names, which `lazy` loads when they are first asked for
    from dmmd_lite.metrics.judges import Judge
    from dmmd_lite.metrics.suite import METRICS, Metric, evaluate_samples, metrics_for

__getattr__, __dir__, __all__ = lazy(__name__, __file__)
