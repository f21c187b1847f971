"""The training loop, its options and state, and what it needs of a method."""

from dmmd_lite.utils.lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "loop": "train NonFiniteLoss",
        "options": "TrainingOptions",
        "state": "TrainingResult",
        "method": "Method",
    },
    old={"Options": "TrainingOptions", "Result": "TrainingResult"},
)
