"""Stems, which turn the symbols of sequences and images into vectors, and vectors into logits."""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from dmmd_lite.utils.rng import normal


class Stem(nn.Module):
    """What stems share: the vectors of symbols. hold: whether held symbols get a learned vector more."""

    def __init__(self, num_symbols: int, width: int, hold: bool):
        super().__init__()
        self.embed = nn.Embedding(num_symbols, width)
        self.hold = nn.Parameter(torch.zeros(width)) if hold else None

    def embedded(self, z: Tensor, held: Tensor | None) -> Tensor:
        """Return the vectors [B, L, width] of symbols z [B, L] of which bool [B, L] are held, or the mean
        vectors of distributions [B, L, S] over the first S symbols."""
        weight = self.embed.weight
        vectors = z.to(weight.dtype) @ weight[: z.shape[-1]] if z.is_floating_point() else self.embed(z)
        return vectors if held is None or self.hold is None else vectors + held.unsqueeze(-1) * self.hold


class SequenceStem(Stem):
    """A stem with one vector per symbol; order comes from rotary embeddings inside attention."""

    rotary = per_position = True

    def __init__(
        self, num_symbols: int, vocab_size: int, length: int, width: int, noise: int, hold: bool = False
    ):
        super().__init__(num_symbols, width, hold)
        self.length, self.noise = length, noise
        self.head = nn.Linear(width, vocab_size)
        self.noise_features = noise

    def forward(self, z: Tensor, held: Tensor | None = None) -> Tensor:
        """Map symbols [B, L], or distributions of them, to vectors [B, L, width]."""
        return self.embedded(z, held)

    def logits(self, h: Tensor) -> Tensor:
        """Map vectors [B, L, width] to logits [B, L, V]."""
        return self.head(h)

    def draw_noise(self, batch: int, generator: torch.Generator) -> Tensor:
        """Draw plain Gaussian noise [batch, L, noise] (the paper's choice for text, section 6.5)."""
        return normal((batch, self.length, self.noise), generator)


class ImageStem(Stem):
    """A stem that reads patches and has one categorical head per pixel and channel.

    Attention has one position per patch, so 3,072 tokens are 256 positions; noise, masks and loss ignore
    patches. One vector is assumed to carry the distributions of all pixels of its patch. Given the vector
    they are predicted independently, as in every factorised denoiser, so a patch costs capacity but breaks no
    symmetry of the model. Levels are classes without an order, each with a separate embedding. Symbols are
    ordered row by row, channels last.
    """

    rotary = per_position = False

    def __init__(
        self,
        num_symbols: int,
        vocab_size: int,
        image_shape: tuple[int, int, int],
        patch: int,
        width: int,
        noise: int,
        hold: bool = False,
        symbol_width: int = 16,
    ):
        super().__init__(num_symbols, symbol_width, hold)
        height, width_px, channels = image_shape
        if height % patch or width_px % patch:
            raise ValueError(
                f"patch: {patch!r} is not allowed; it must divide the image size {height}x{width_px}"
            )
        self.image_shape, self.patch = tuple(image_shape), patch
        self.noise, self.vocab_size = noise, vocab_size
        self.grid = (height // patch, width_px // patch)
        slots = patch * patch * channels
        self.merge = nn.Linear(slots * symbol_width, width)
        self.position = nn.Parameter(0.02 * torch.randn(self.grid[0] * self.grid[1], width))
        self.head = nn.Linear(width, slots * vocab_size)
        levels = int(math.log2(min(height, width_px))) + 1
        self.noise_features = noise * levels * patch * patch

    def _to_patches(self, pixels: Tensor) -> Tensor:
        """Cut [B, height, width, features] into [B, P, patch * patch * features]."""
        (rows, columns), p = self.grid, self.patch
        split = pixels.unflatten(1, (rows, p)).unflatten(3, (columns, p))  # [B, rows, p, columns, p, F]
        return split.permute(0, 1, 3, 2, 4, 5).flatten(3).flatten(1, 2)

    def forward(self, z: Tensor, held: Tensor | None = None) -> Tensor:
        """Map symbols [B, L], or distributions of them, to vectors [B, P, width]."""
        height, width_px, _ = self.image_shape
        pixels = self.embedded(z, held).view(len(z), height, width_px, -1)
        return self.merge(self._to_patches(pixels)) + self.position

    def logits(self, h: Tensor) -> Tensor:
        """Map vectors [B, P, width] to logits [B, L, V]."""
        (rows, columns), p = self.grid, self.patch
        cells = self.head(h).view(len(h), rows, columns, p, p, -1, self.vocab_size)
        return cells.permute(0, 1, 3, 2, 4, 5, 6).reshape(len(h), -1, self.vocab_size)

    def draw_noise(self, batch: int, generator: torch.Generator) -> Tensor:
        """Draw a Gaussian noise pyramid (paper, section 6.5), [batch, P, noise_features].

        It is independent noise at every power-of-two resolution down to one cell, scaled to full size.
        """
        height, width_px, _ = self.image_shape
        levels = []
        for level in range(int(math.log2(min(height, width_px))) + 1):
            coarse = normal((batch, self.noise, height >> level, width_px >> level), generator)
            levels.append(interpolate(coarse, size=(height, width_px)))
        return self._to_patches(torch.cat(levels, 1).movedim(1, -1))
