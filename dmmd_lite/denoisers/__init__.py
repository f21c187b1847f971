"""Denoisers predict clean tokens from noisy ones; an autoregressive model predicts the next token."""

from typing import TYPE_CHECKING

from dmmd_lite.utils.lazy import lazy

if TYPE_CHECKING:  # the public names, which `lazy` loads when they are first asked for
    from dmmd_lite.denoisers.autoregressive import Autoregressive
    from dmmd_lite.denoisers.base import Denoiser, NetworkDenoiser
    from dmmd_lite.denoisers.exact import ExactDenoiser
    from dmmd_lite.denoisers.hybrid import Hybrid
    from dmmd_lite.denoisers.prediction import Prediction, map_chunks, predict
    from dmmd_lite.denoisers.sharpening import Sharpened, sharpen

__getattr__, __dir__, __all__ = lazy(__name__, __file__)
