"""Large vocabularies: whatever is made from log_x [B, L, V] is made a piece of the batch at a time.

A denoiser is evaluated up to its vocabulary head; only those hidden vectors are kept. Losses and draws ask
for log_x piece by piece. The gradient of a piece is taken with its loss, before the next piece is made (as
fused linear cross-entropies do, arXiv 2410.10989), so that nothing is built again in the backward pass. A
batch small enough is one piece, differentiated as usual.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil

import torch
from torch import Tensor

from dmmd_lite.denoisers.base import Denoiser, denoiser_noise
from dmmd_lite.denoisers.sharpening import sharpen
from dmmd_lite.processes.base import Process
from dmmd_lite.utils.rng import TWO_STAGE_CLASSES, pick, uniform

MAX_ELEMENTS = 2**24  # most elements of log_x made at once, 64 MB in float32
MIN_CHUNKS = 32  # pieces of anything larger: the dozen tensors a loss makes of one stay below the whole


@dataclass(eq=False)
class Prediction:
    """log_x(z [B, L], t [B]) of a denoiser for a process, evaluated up to `hidden` [B, P, ...].

    grad: whether gradients reach the denoiser, as the mode was when the law was made by `predict`.
    """

    denoiser: Denoiser
    process: Process
    hidden: Tensor
    z: Tensor
    t: Tensor
    grad: bool

    @property
    def elements(self) -> int:
        """Of log_x: B L V."""
        return self.z.numel() * self.process.vocab_size

    @property
    def per_position(self) -> bool:
        """Whether positions may be taken apart: neither denoiser nor process asks where one stands."""
        return self.denoiser.per_position and self.process.per_position

    @cached_property
    def whole(self) -> Tensor:
        """All of log_x, made once and kept."""
        return self.log_x()

    def log_x(self) -> Tensor:
        """All of log_x [B, L, V], made anew."""
        with torch.set_grad_enabled(self.grad and torch.is_grad_enabled()):
            return self.denoiser.log_x(self.hidden, self.z, self.t)

    def at(self, where: Tensor) -> "Prediction":
        """The N positions where bool [B, L] is true, as N sequences of one, if `per_position`."""
        return replace(self, hidden=_at(self.hidden, where), z=_at(self.z, where), t=_at(self.t, where))

    def split(self, size: int) -> list["Prediction"]:
        """Its sequences in runs of `size`."""
        parts = (v.split(size) for v in (self.hidden, self.z, self.t))
        return [replace(self, hidden=h, z=z, t=t) for h, z, t in zip(*parts, strict=True)]

    def sample(
        self,
        generator: torch.Generator,
        temperature: float = 1.0,
        top_p: float = 1.0,
        where: Tensor | None = None,
    ) -> Tensor:
        """x ~ Cat(x_hat), sharpened: [B, L], or [N] at the N positions where bool [B, L] is true.

        Equal random numbers give equal x, whatever the pieces. For [B, L] a number is drawn at every
        position, but a large head is not asked where z carries no noise: x is known there.
        """
        if where is None:
            u, noisy = uniform(self.z.shape, generator), self.process.loss_mask(self.z)
            if self.elements <= MAX_ELEMENTS:
                return pick(sharpen(self.whole.detach(), temperature, top_p), u)
            picked = self._picked(noisy, u[noisy.to(u.device)], temperature, top_p)
            return self.z.masked_scatter(noisy, picked)
        return self._picked(where, uniform((int(where.sum()),), generator), temperature, top_p)

    @torch.no_grad()
    def _picked(self, where: Tensor, u: Tensor, temperature: float, top_p: float) -> Tensor:
        """Tokens [N] where bool [B, L] is true, all of which carry noise, at random numbers [N]."""
        plain = (
            self.process.vocab_size > TWO_STAGE_CLASSES and temperature == top_p == 1
        )  # then no normaliser is needed
        tokens, start = [], 0
        for values in self._pieces_at(where, self.denoiser.log_weights if plain else self.denoiser.log_x):
            part = u[start : start + len(values)]
            tokens.append(pick(values if plain else sharpen(values, temperature, top_p), part))
            start += len(values)
        torch.clear_autocast_cache()  # casts made here have no graph, and losses are not to find them
        return torch.cat(tokens)

    def _pieces_at(self, where: Tensor, function: Callable[..., Tensor]) -> Iterator[Tensor]:
        """function(hidden, z, t) at the chosen positions, in order, [n, V] a piece."""
        if self.per_position:
            for piece in self.at(where).split(chunk_size(self.z.numel(), self.elements)):
                yield function(piece.hidden, piece.z, piece.t).squeeze(1)
        else:
            size = chunk_size(len(self.z), self.elements)
            for piece, chosen in zip(self.split(size), where.split(size), strict=True):
                yield function(piece.hidden, piece.z, piece.t)[chosen]


def predict(
    denoiser: Denoiser, process: Process, z: Tensor, t: Tensor, generator: torch.Generator
) -> Prediction:
    """The law of x at z [B, L] and t [B], with fresh input noise where the denoiser takes any."""
    noise = denoiser_noise(denoiser, len(z), generator, z.device)
    return Prediction(denoiser, process, denoiser.hidden(z, t, noise), z, t, torch.is_grad_enabled())


def chunk_size(units: int, elements: int) -> int:
    """How many of the equal units that hold so many elements together make a piece; at least one."""
    pieces = 1 if elements <= MAX_ELEMENTS else max(MIN_CHUNKS, ceil(elements / MAX_ELEMENTS))
    return max(1, units // pieces)


def map_chunks(
    function: Callable[..., dict[str, Tensor]],
    laws: Sequence[Prediction],
    others: Sequence[Tensor],
    where: Tensor,
    weight: Tensor | None = None,
) -> dict[str, Tensor]:
    """What function(log_x of every law ..., *others) gives, tensors [B, L] by name, times weight [B] (None:
    1) where bool [B, L] is true; 0 elsewhere.

    The function treats every position alone. others: [B, L] or [B]; neither they nor weight carry a gradient.
    If laws are large, values elsewhere are not computed where positions can be told apart, and the loss has
    to be a multiple of the sum of everything returned, whose gradient is the one that is kept: the backward
    pass of another one ends in a RuntimeError, on CUDA at the next synchronisation.
    """
    weight = torch.ones(len(where), device=where.device) if weight is None else weight

    def evaluate(logs: list[Tensor], where: Tensor, weight: Tensor, *others: Tensor) -> dict[str, Tensor]:
        return {name: weighted(v, where, weight) for name, v in function(*logs, *others).items()}

    if laws[0].elements <= MAX_ELEMENTS:
        return evaluate([law.whole for law in laws], where, weight, *others)
    distinct = list(dict.fromkeys(laws))
    order, laws = [distinct.index(law) for law in laws], distinct
    apart, constants = all(law.per_position for law in laws), [where, weight, *others]
    size = chunk_size(where.numel() if apart else len(where), laws[0].elements)
    if apart:
        laws, constants = [law.at(where) for law in laws], [_at(v, where) for v in constants]
    tracked = [law.grad and torch.is_grad_enabled() for law in laws]
    heads = [law.denoiser for law, on in zip(laws, tracked, strict=True) if on]
    parameters = list(dict.fromkeys(p for head in heads for p in head.parameters() if p.requires_grad))
    names: list[str] = []

    def one(piece: Sequence[Prediction | Tensor]) -> tuple[list[Tensor], list[Tensor | None]]:
        """Values by name, and gradients of their sum in the laws' hidden vectors and in the parameters."""
        part = [
            replace(law, hidden=law.hidden.detach().requires_grad_(on), grad=on)
            for law, on in zip(piece, tracked, strict=False)
        ]
        with torch.set_grad_enabled(any(tracked)):
            logs = [law.log_x() for law in part]
            found = evaluate([logs[k] for k in order], *piece[len(laws) :])
            total = sum(v.sum() for v in found.values())
        names[:] = found
        values = [v.detach() for v in found.values()]
        if not any(tracked):
            return values, []
        leaves = [law.hidden for law in part if law.grad]
        with torch.autocast(total.device.type, enabled=False):
            slopes = iter(torch.autograd.grad(total, [*leaves, *parameters], allow_unused=True))
        return values, [*(next(slopes) if on else None for on in tracked), *slopes]

    def take() -> tuple[list[Tensor], list[Tensor | None]]:
        """What `one` gives, of all pieces together."""
        values, of_hidden, of_parameters = [], [], [None] * len(parameters)
        for piece in zip(*(v.split(size) for v in [*laws, *constants]), strict=True):
            found, slopes = one(piece)
            values.append(found)
            of_hidden.append(slopes[: len(laws)])
            of_parameters = [_plus(a, b) for a, b in zip(of_parameters, slopes[len(laws) :], strict=True)]
        of_hidden = [None if v[0] is None else torch.cat(v) for v in zip(*of_hidden, strict=True)]
        return [torch.cat(v) for v in zip(*values, strict=True)], [*of_hidden, *of_parameters]

    values = _Kept.apply(take, *(law.hidden for law in laws), *parameters)
    if not apart:
        return dict(zip(names, values, strict=True))
    return {
        name: v.new_zeros(where.shape).masked_scatter(where, v) for name, v in zip(names, values, strict=True)
    }


def weighted(values: Tensor, where: Tensor, weight: Tensor) -> Tensor:
    """Values [B, L] times weight [B] where bool [B, L] is true, 0 elsewhere, whatever they are there."""
    return torch.where(where, values, 0) * weight.unsqueeze(-1)


class _Kept(torch.autograd.Function):
    """Values whose gradient, that of their sum, is known already."""

    @staticmethod
    def forward(ctx, take: Callable, *inputs: Tensor) -> tuple[Tensor, ...]:
        values, ctx.slopes = take()
        return tuple(values)

    @staticmethod
    def backward(ctx, *incoming: Tensor) -> tuple[Tensor | None, ...]:
        slopes, ctx.slopes = ctx.slopes, None
        if slopes is None:
            raise RuntimeError("the gradient of pieces is gone; it can be used once")
        incoming = torch.cat([v.flatten() for v in incoming])
        factor = incoming[:1].sum()  # 0 of no values
        torch._assert_async((incoming == factor).all(), "only the sum of all values of pieces has a gradient")
        return None, *(None if v is None else v * factor for v in slopes)


def _plus(total: Tensor | None, more: Tensor | None) -> Tensor | None:
    """Their sum; None counts as 0."""
    if total is None or more is None:
        return more if total is None else total
    return total + more


def _at(v: Tensor, where: Tensor) -> Tensor:
    """[B, L, ...] at N positions as [N, 1, ...], and [B] as [N]."""
    return v.unsqueeze(-1).expand(where.shape)[where] if v.dim() == 1 else v[where].unsqueeze(1)
