"""Denoisers predict clean tokens from noisy ones; an autoregressive model predicts the next token."""

from dmmd_lite.utils.lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "base": "Denoiser NetworkDenoiser",
        "exact": "ExactDenoiser",
        "sharpening": "Sharpened sharpen",
        "hybrid": "Hybrid",
        "prediction": "Prediction predict map_chunks",
        "autoregressive": "Autoregressive",
    },
)
