"""One transformer with stems for sequences and images. It maps symbols, a time and noise to logits and
knows nothing of diffusion.

Layout: a stem turns symbols [B, L] into P vectors of the model's width; blocks with adaptive-norm time
conditioning (adaLN-zero, arXiv 2212.09748) mix them; the stem's head turns them into logits [B, L, V].
`BlockTransformer` has a second stack of blocks for the known beginning of a sequence.
"""

import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention, silu

from dmmd_lite.networks.base import SplitNetwork
from dmmd_lite.networks.stems import ImageStem, SequenceStem
from dmmd_lite.utils.checks import Count, CountOrZero, PositiveOrZero, checked
from dmmd_lite.utils.rng import integers

CONTINUOUS = 2**24  # the number of values that lambda ~ U[0, 1) can take in single precision


def rotate(x: Tensor, base: int) -> Tensor:
    """Rotate queries or keys [B, H, P, D], D even, by their position; wavelengths are up to 2 pi base."""
    half = x.shape[-1] // 2
    frequency = base ** (-torch.arange(half, device=x.device, dtype=torch.float32) / half)
    angle = torch.arange(x.shape[-2], device=x.device).unsqueeze(-1) * frequency
    cos, sin, (a, b) = angle.cos().to(x.dtype), angle.sin().to(x.dtype), x.split(half, -1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


def check_width(width: int, heads: int) -> None:
    """Raise ValueError unless every head has an even number of features, which `rotate` needs."""
    if width % (2 * heads):
        raise ValueError(f"width: {width!r} is not allowed; it must be a multiple of 2 * heads = {2 * heads}")


class Block(nn.Module):
    """A layer of attention and MLP, each with an adaptive norm and a gate that starts at zero."""

    def __init__(
        self,
        width: int,
        heads: int,
        mlp_ratio: int,
        time_width: int,
        rotary_base: int | None,
        local: int,
        causal: bool,
    ):
        super().__init__()
        self.heads, self.rotary_base, self.local, self.causal = heads, rotary_base, local, causal
        if local:
            self.mix = nn.Conv1d(width, width, local, groups=width)
            nn.init.zeros_(self.mix.weight)
            nn.init.zeros_(self.mix.bias)
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, mlp_ratio * width), nn.GELU("tanh"), nn.Linear(mlp_ratio * width, width)
        )
        self.modulation = nn.Linear(time_width, 6 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, h: Tensor, time: Tensor, context: Tensor | None = None) -> Tensor:
        """Return new vectors for h.

        Args:
        h: [B, P, width].
        time: [B, time_width].
        context: vectors [B, C, width] of the C positions before h, read but not changed.
        """
        if self.local:
            h = h + self._neighbours(h, context)
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(time).unsqueeze(1).chunk(6, -1)
        read = self.norm(h) * (1 + scale1) + shift1
        if context is not None:
            read = torch.cat([self.norm(context), read], 1)
        q, k, v = self.qkv(read).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # [B, H, C + P, D]
        if self.rotary_base is not None:
            q, k = rotate(q, self.rotary_base), rotate(k, self.rotary_base)
        q = q[:, :, -h.shape[1] :]
        mixed = scaled_dot_product_attention(q, k, v, is_causal=self.causal).transpose(1, 2).flatten(2)
        h = h + gate1 * self.out(mixed)
        return h + gate2 * self.mlp(self.norm(h) * (1 + scale2) + shift2)

    def _neighbours(self, h: Tensor, context: Tensor | None) -> Tensor:
        """Compute the convolution at the positions of h, [B, P, width]; it also reads the context."""
        read = self.norm(h if context is None else torch.cat([context, h], 1))
        sides = (self.local, 0) if self.causal else (self.local // 2, self.local // 2)
        mixed = self.mix(pad(read.mT, sides)).mT
        return mixed[:, mixed.shape[1] - h.shape[1] :]


class Transformer(SplitNetwork):
    """A transformer from symbols [B, L], times [B] and optional noise to logits [B, L, V].

    Args:
    num_symbols: the number of values that the input may take.
    vocab_size: V, the number of predicted classes.
    length: L.
    image_shape: (height, width, channels) selects the image stem with square patches of side `patch`.
    rotary_base: longest wavelength of the rotary embedding of sequences, in units of 2 pi positions. If it is
    far above the length, most frequencies of a narrow head hardly turn and neighbours are hard to tell apart.
    local: width of a depthwise convolution over positions at the start of every block (0: none), zero at
    first. It gives a position its neighbours, which attention alone takes long to find among masks.
    positions: True to add a learned vector per position (images always have one): for sequences whose
    positions have a meaning, as in short records of one length.
    causal: True if every position attends only to itself and to the positions before; else to all.
    noise: channels of Gaussian input noise (0: none), added to the residual stream through a projection.
    noise_std: initial standard deviation of the projection's weights. At 0 a network with noise input starts
    equal to one without, and training has to leave a saddle to use the noise.
    mixture: number of values of a mixture's variable lambda (0: none), in the place of Gaussian noise: the
    middles of equal parts of [0, 1], equally likely. Each sequence has one; it is embedded and added through
    the projection.
    hold: True to add a learned vector, zero at first, to symbols that are held.
    Errors: ValueError for sizes that are not allowed.
    """

    @checked
    def __init__(
        self,
        num_symbols: Count,
        vocab_size: Count,
        length: Count,
        *,
        image_shape: tuple[Count, Count, Count] | None = None,
        patch: Count = 2,
        width: Count = 96,
        depth: Count = 3,
        heads: Count = 4,
        mlp_ratio: Count = 2,
        time_width: Count = 32,
        rotary_base: Count = 10_000,
        local: CountOrZero = 0,
        positions: bool = False,
        causal: bool = False,
        noise: CountOrZero = 0,
        noise_std: PositiveOrZero = 0.0,
        mixture: CountOrZero = 0,
        hold: bool = False,
    ):
        super().__init__()
        check_width(width, heads)
        if local % 2 == 0 and local:
            raise ValueError(f"local: {local!r} is not allowed; it must be odd, or 0 for none")
        if positions and image_shape is not None:
            raise ValueError(f"positions: {positions!r} is not allowed; images have them")
        if mixture and noise:
            raise ValueError(f"mixture: {mixture!r} is not allowed with noise {noise!r}; one of them is 0")
        if image_shape is None:
            self.stem = SequenceStem(num_symbols, vocab_size, length, width, noise, hold)
        else:
            self.stem = ImageStem(num_symbols, vocab_size, image_shape, patch, width, noise, hold)
        self.positions = nn.Parameter(torch.randn(length, width)) if positions else None
        self.time_width, self.noise, self.mixture = time_width, noise, mixture
        self.per_position = self.stem.per_position
        self.time = nn.Sequential(
            nn.Linear(2 * time_width, time_width), nn.SiLU(), nn.Linear(time_width, time_width)
        )
        base = rotary_base if self.stem.rotary else None
        self._make_block = partial(Block, width, heads, mlp_ratio, time_width, base, local)
        self.blocks = nn.ModuleList(self._make_block(causal) for _ in range(depth))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Linear(time_width, 2 * width)
        for layer in [self.modulation, self.stem.head]:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        if mixture:
            self.mixture_embedding = nn.Sequential(nn.Linear(2 * time_width, time_width), nn.SiLU())
        if noise or mixture:
            features = time_width if mixture else self.stem.noise_features
            self.noise_projection = nn.Linear(features, width, bias=False)
            nn.init.normal_(self.noise_projection.weight, std=noise_std)

    def draw_noise(self, batch: int, generator: torch.Generator) -> Tensor | None:
        """Draw input noise for one call on `batch` sequences, lambda [batch] for a mixture, else None."""
        if self.mixture:
            return ((integers(self.mixture, (batch,), generator).double() + 0.5) / self.mixture).float()
        return self.stem.draw_noise(batch, generator) if self.noise else None

    def _features(self, t: Tensor) -> Tensor:
        """Compute sinusoids [B, 2 time_width] of numbers [B] in [0, 1], in the precision of the weights."""
        frequency = torch.exp(torch.linspace(0, math.log(1000), self.time_width, device=t.device))
        angle = math.pi / 2 * t.float().unsqueeze(-1) * frequency
        return torch.cat([angle.cos(), angle.sin()], -1).to(self.modulation.weight.dtype)

    def _time_vector(self, t: Tensor) -> Tensor:
        return silu(self.time(self._features(t)))

    def hidden(
        self,
        z: Tensor,
        t: Tensor,
        noise: Tensor | None = None,
        held: Tensor | None = None,
        context: Tensor | None = None,
    ) -> Tensor:
        """Map symbols to vectors [B, P, width].

        Args:
        z: symbols [B, L], or distributions [B, L, symbols] of them.
        t: times [B] in [0, 1].
        noise: what `draw_noise` gave.
        held: which symbols are held, bool [B, L]; None: none.
        context: vectors [B, C, width] of the C positions before, which every block also attends to.
        """
        h = self.stem(z, held)
        if self.positions is not None:
            h = h + self.positions
        if self.mixture:
            noise = self.mixture_embedding(self._features(noise)).unsqueeze(1)
        if self.noise or self.mixture:
            h = h + self.noise_projection(noise.to(h.dtype))
        time = self._time_vector(t)
        for block in self.blocks:
            h = block(h, time, context)
        shift, scale = self.modulation(time).unsqueeze(1).chunk(2, -1)
        return self.norm(h) * (1 + scale) + shift

    def logits(self, h: Tensor) -> Tensor:
        """Map vectors [B, P, width] to logits [B, L, V]."""
        return self.stem.logits(h)


class BlockTransformer(Transformer):
    """A transformer for the last `block` symbols of a sequence, with an encoder for the symbols before.

    The encoder is a second, causal stack of `encoder_depth` blocks at time 0; the first stack also attends to
    its vectors. Both share the embedding of symbols, and rotary positions continue from one to the other. The
    other arguments are those of `Transformer` for sequences; input noise is for the last symbols only.
    """

    @checked
    def __init__(self, num_symbols: int, vocab_size: int, block: Count, *, encoder_depth: Count = 1, **sizes):
        super().__init__(num_symbols, vocab_size, block, image_shape=None, causal=False, **sizes)
        self.block, self.per_position = block, False
        self.encoder = nn.ModuleList(self._make_block(causal=True) for _ in range(encoder_depth))

    def encode(self, known: Tensor, held: Tensor | None = None) -> Tensor:
        """Map symbols [B, C] to vectors [B, C, width], each from a symbol and those before; C may be 0."""
        h = self.stem(known, held)
        time = self._time_vector(torch.zeros(len(known), device=known.device))
        for block in self.encoder:
            h = block(h, time)
        return h

    def hidden(self, z: Tensor, t: Tensor, noise: Tensor | None = None, held: Tensor | None = None) -> Tensor:
        """Map symbols z [B, C + block] to vectors, which are 0 for the first C; see `Transformer.hidden`."""
        (known, last), holds = self._parts(z), (None, None) if held is None else self._parts(held)
        context = self.encode(known, holds[0])
        return pad(super().hidden(last, t, noise, holds[1], context), (0, 0, known.shape[1], 0))

    def _parts(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """Split [B, C + block] into the known beginning and the block."""
        return v[:, : -self.block], v[:, -self.block :]

    def logits(self, h: Tensor) -> Tensor:
        """Map vectors [B, C + block, width] to logits [B, C + block, V], 0 for the first C."""
        return pad(super().logits(h[:, -self.block :]), (0, 0, h.shape[1] - self.block, 0))
