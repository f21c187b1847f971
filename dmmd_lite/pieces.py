"""Large vocabularies: whatever is made from log_x [B, L, V] is made a piece of the batch at a time.

A denoiser is evaluated up to its vocabulary head; only those hidden vectors are kept. Losses and draws ask
for log_x piece by piece, and a piece that carries a gradient is rebuilt in the backward pass (checkpointing,
arXiv 1604.06174). A batch small enough is one piece and evaluated once.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from dmmd_lite.denoisers import Denoiser, denoiser_noise, sharpen
from dmmd_lite.processes import Process
from dmmd_lite.rng import pick, uniform

ELEMENTS = 2**24  # most elements of log_x made at once, 64 MB in float32
FEWEST = 16  # pieces of anything larger: the dozen tensors a loss makes of one stay below the whole


@dataclass(eq=False)
class Law:
    """log_x(z [B, L], t [B]) of a denoiser for a process, evaluated up to `hidden` [B, P, ...].

    grad: whether gradients reach the denoiser, as the mode was when the law was made by `law_of`.
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

    def at(self, where: Tensor) -> "Law":
        """The N positions where bool [B, L] is true, as N sequences of one, if `per_position`."""
        return replace(self, hidden=_at(self.hidden, where), z=_at(self.z, where), t=_at(self.t, where))

    def split(self, size: int) -> list["Law"]:
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

        Equal random numbers give equal x, whatever the pieces.
        """
        u = uniform((self.z.numel() if where is None else int(where.sum()),), generator)
        x = u.new_empty(u.shape, dtype=torch.long, device=self.z.device)
        start = 0
        for log_x in self._log_x_at(where):
            part = slice(start, start + len(log_x))
            x[part] = pick(sharpen(log_x.detach(), temperature, top_p), u[part])
            start = part.stop
        return x.view_as(self.z) if where is None else x

    def _log_x_at(self, where: Tensor | None) -> Iterator[Tensor]:
        """log_x at the chosen positions (None: all), in order, [n, V] a piece."""
        if where is None and self.elements <= ELEMENTS:
            yield self.whole.flatten(0, 1)
            return
        where = torch.ones_like(self.z, dtype=torch.bool) if where is None else where
        if self.per_position:
            law = self.at(where)
            for piece in law.split(piece_size(len(law.z), law.elements)):
                yield piece.log_x().squeeze(1)
        else:
            size = piece_size(len(self.z), self.elements)
            for piece, chosen in zip(self.split(size), where.split(size), strict=True):
                yield piece.log_x()[chosen]


def law_of(denoiser: Denoiser, process: Process, z: Tensor, t: Tensor, generator: torch.Generator) -> Law:
    """The law of x at z [B, L] and t [B], with fresh input noise where the denoiser takes any."""
    noise = denoiser_noise(denoiser, len(z), generator, z.device)
    return Law(denoiser, process, denoiser.hidden(z, t, noise), z, t, torch.is_grad_enabled())


def piece_size(units: int, elements: int) -> int:
    """How many of the equal units that hold so many elements together make a piece; at least one."""
    pieces = 1 if elements <= ELEMENTS else max(FEWEST, ceil(elements / ELEMENTS))
    return max(1, units // pieces)


def by_pieces(
    function: Callable[..., dict[str, Tensor]], laws: Sequence[Law], others: Sequence[Tensor], where: Tensor
) -> dict[str, Tensor]:
    """What function(log_x of every law ..., *others) gives, tensors [B, L] by name.

    The function treats every position alone. others: [B, L] or [B]. where: bool [B, L]; values elsewhere are
    of no use to the caller, and are not computed if positions can be told apart and the laws are large.
    """
    if laws[0].elements <= ELEMENTS:
        return function(*(law.whole for law in laws), *others)
    apart = all(law.per_position for law in laws)
    size = piece_size(where.numel() if apart else len(where), laws[0].elements)
    if apart:
        laws, others = [law.at(where) for law in laws], [_at(v, where) for v in others]

    def evaluate(laws, others):
        return function(*(law.log_x() for law in laws), *others)

    cut = zip(*(v.split(size) for v in [*laws, *others]), strict=True)
    pieces = [
        checkpoint(evaluate, c[: len(laws)], c[len(laws) :], use_reentrant=False, preserve_rng_state=False)
        for c in cut
    ]
    joined = {name: torch.cat([piece[name] for piece in pieces]) for name in pieces[0]}
    if not apart:
        return joined
    return {name: v.new_zeros(where.shape).masked_scatter(where, v) for name, v in joined.items()}


def _at(v: Tensor, where: Tensor) -> Tensor:
    """[B, L, ...] at N positions as [N, 1, ...], and [B] as [N]."""
    return v.unsqueeze(-1).expand(where.shape)[where] if v.dim() == 1 else v[where].unsqueeze(1)
