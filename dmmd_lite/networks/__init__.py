"""Networks: transformers from symbols, a time and noise to logits. They know nothing of diffusion."""

from dmmd_lite.utils.lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "base": "SplitNetwork",
        "transformer": "Transformer BlockTransformer",
    },
)
