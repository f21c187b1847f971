"""The diffusion transformer of MDLM, SDTT, Duo, UDLM and SEDD, with the names of their published weights.

It differs from `Transformer` in its weights alone: no biases in attention, norms with a weight, a larger
conditioning vector. What its conditioning number and its output stand for differs between the families and is
said where checkpoints are loaded (`models.public`).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, scaled_dot_product_attention, silu

from dmmd_lite.networks.base import SplitNetwork
from dmmd_lite.networks.transformer import check_width, rotate
from dmmd_lite.utils.checks import Count, checked

FREQUENCIES = 128  # of the sinusoids of the conditioning number
LONGEST = 10_000  # wavelength of these and of the rotary embedding, in units of 2 pi


class Norm(nn.Module):
    """Layer normalisation in single precision, with a weight and no bias."""

    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, h: Tensor) -> Tensor:
        """Normalise vectors [B, L, width]."""
        return layer_norm(h.float(), h.shape[-1:]).to(h.dtype) * self.weight


class Embedding(nn.Module):
    """One vector for each symbol."""

    def __init__(self, num_symbols: int, width: int):
        super().__init__()
        self.embedding = nn.Parameter(torch.randn(num_symbols, width) / math.sqrt(width))

    def forward(self, z: Tensor) -> Tensor:
        """Return the vectors [B, L, width] of symbols [B, L], or the mean vectors of distributions."""
        if z.is_floating_point():
            return z.to(self.embedding.dtype) @ self.embedding[: z.shape[-1]]
        return self.embedding[z]


class Conditioning(nn.Module):
    """The vector [B, condition] of a number [B]."""

    def __init__(self, condition: int):
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(2 * FREQUENCIES, condition), nn.SiLU(), nn.Linear(condition, condition)
        )

    def forward(self, number: Tensor) -> Tensor:
        """Compute the vectors of numbers [B]."""
        k = torch.arange(FREQUENCIES, device=number.device, dtype=torch.float32)
        angle = number.float().unsqueeze(-1) * LONGEST ** (-k / FREQUENCIES)
        features = torch.cat([angle.cos(), angle.sin()], -1)
        return silu(self.mlp(features.to(self.mlp[0].weight.dtype)))


class Rotary(nn.Module):
    """The frequencies of the rotary embedding, which checkpoints hold; `rotate` computes them anew."""

    def __init__(self, head: int):
        super().__init__()
        self.register_buffer("inv_freq", LONGEST ** (-torch.arange(0, head, 2).float() / head))


class DiTBlock(nn.Module):
    """A layer of attention and MLP, each with a modulated norm and a gate."""

    def __init__(self, width: int, heads: int, condition: int, mlp_ratio: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = Norm(width), Norm(width)
        self.attn_qkv = nn.Linear(width, 3 * width, bias=False)
        self.attn_out = nn.Linear(width, width, bias=False)
        self.mlp = nn.Sequential(
            nn.Linear(width, mlp_ratio * width), nn.GELU("tanh"), nn.Linear(mlp_ratio * width, width)
        )
        self.adaLN_modulation = _modulation(condition, 6 * width)

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        """Return new vectors for h [B, L, width]; condition: [B, condition]."""
        parts = self.adaLN_modulation(condition).unsqueeze(1).chunk(6, -1)
        shift1, scale1, gate1, shift2, scale2, gate2 = parts
        qkv = self.attn_qkv(self.norm1(h) * (1 + scale1) + shift1)
        q, k, v = qkv.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(rotate(q, LONGEST), rotate(k, LONGEST), v)
        h = h + gate1 * self.attn_out(mixed.transpose(1, 2).flatten(2))
        return h + gate2 * self.mlp(self.norm2(h) * (1 + scale2) + shift2)


class DiTHead(nn.Module):
    """The last norm and the linear layer to logits."""

    def __init__(self, width: int, outputs: int, condition: int):
        super().__init__()
        self.norm_final = Norm(width)
        self.linear = nn.Linear(width, outputs)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.adaLN_modulation = _modulation(condition, 2 * width)

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        """Return the vectors that `linear` reads, [B, L, width]."""
        shift, scale = self.adaLN_modulation(condition).unsqueeze(1).chunk(2, -1)
        return self.norm_final(h) * (1 + scale) + shift


class DiT(SplitNetwork):
    """A transformer from symbols [B, L] and a conditioning number [B] to logits [B, L, num_symbols].

    Args:
    num_symbols: rows of the embedding, and outputs.
    width, depth, heads, mlp_ratio: sizes; 768, 12, 12, 4 for the smallest published one.
    condition: width of the conditioning vector.
    Errors: ValueError for a width that heads do not divide.
    """

    @checked
    def __init__(
        self,
        num_symbols: Count,
        *,
        width: Count = 768,
        depth: Count = 12,
        heads: Count = 12,
        condition: Count = 128,
        mlp_ratio: Count = 4,
    ):
        super().__init__()
        check_width(width, heads)
        self.vocab_embed = Embedding(num_symbols, width)
        self.sigma_map = Conditioning(condition)
        self.rotary_emb = Rotary(width // heads)
        self.blocks = nn.ModuleList(DiTBlock(width, heads, condition, mlp_ratio) for _ in range(depth))
        self.output_layer = DiTHead(width, num_symbols, condition)

    def hidden(self, z: Tensor, t: Tensor, noise: Tensor | None = None, held: Tensor | None = None) -> Tensor:
        """Map symbols [B, L], or distributions of them, and numbers t [B] to vectors [B, L, width].

        Args:
        noise: a term [B, L, width] added to the vectors of the symbols.
        held: read by no weight of these networks.
        """
        h, condition = self.vocab_embed(z), self.sigma_map(t)
        if noise is not None:
            h = h + noise
        for block in self.blocks:
            h = block(h, condition)
        return self.output_layer(h, condition)

    def logits(self, h: Tensor) -> Tensor:
        """Map vectors [B, L, width] to logits [B, L, num_symbols]."""
        return self.output_layer.linear(h)


def _modulation(condition: int, outputs: int) -> nn.Linear:
    """Make a layer of shifts, scales and gates, which are zero at first."""
    layer = nn.Linear(condition, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
