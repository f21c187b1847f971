"""Networks: transformers from symbols, a time and noise to logits. They know nothing of diffusion."""

from typing import TYPE_CHECKING

from dmmd_lite.utils.lazy import lazy

if TYPE_CHECKING:  # the public names, which `lazy` loads when they are first asked for
    from dmmd_lite.networks.base import SplitNetwork
    from dmmd_lite.networks.transformer import BlockTransformer, Transformer

__getattr__, __dir__, __all__ = lazy(__name__, __file__)
