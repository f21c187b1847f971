"""The training loop, its options and state, and what it needs of a method."""

from typing import TYPE_CHECKING

from dmmd_lite.utils.lazy import lazy

if TYPE_CHECKING:  # the public names, which `lazy` loads when they are first asked for
    from dmmd_lite.training.loop import NonFiniteLoss, train
    from dmmd_lite.training.method import Method
    from dmmd_lite.training.options import TrainingOptions
    from dmmd_lite.training.state import TrainingResult

__getattr__, __dir__, __all__ = lazy(
    __name__, __file__, old={"Options": "TrainingOptions", "Result": "TrainingResult"}
)
