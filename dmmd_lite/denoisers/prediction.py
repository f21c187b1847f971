"""Predictions of denoisers, evaluated chunk by chunk where the vocabulary is large.

A denoiser is evaluated up to its vocabulary head, and only those hidden vectors are kept. Losses and samples
ask for log_x [B, L, V] in chunks of the batch. The gradient of a chunk is computed together with its loss,
before the next chunk is made (as fused linear cross-entropies do, arXiv 2410.10989), so that nothing is
computed again in the backward pass. Small batches are not split; they use ordinary autograd.
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
from dmmd_lite.utils.checks import checked
from dmmd_lite.utils.rng import TWO_STAGE_CLASSES, pick, uniform
from dmmd_lite.utils.tensors import Times, check_noisy

MAX_ELEMENTS = 2**24  # the largest log_x that is made in one chunk, in elements; 64 MB in float32
MIN_CHUNKS = 32  # for a larger log_x, so that the dozen tensors that a loss makes of a chunk stay below it


@dataclass(eq=False)
class Prediction:
    """The log-probabilities log_x(z [B, L], t [B]) of a denoiser, evaluated up to `hidden` [B, P, ...].

    grad: True if gradients reach the denoiser; `predict` takes the mode in which it is called.
    """

    denoiser: Denoiser
    process: Process
    hidden: Tensor
    z: Tensor
    t: Tensor
    grad: bool

    @property
    def elements(self) -> int:
        """Return the number of elements of log_x, B L V."""
        return self.z.numel() * self.process.vocab_size

    @property
    def per_position(self) -> bool:
        """Return True if each position can be processed independently of its index."""
        return self.denoiser.per_position and self.process.per_position

    @cached_property
    def whole(self) -> Tensor:
        """Compute all of log_x once and keep it."""
        return self.log_x()

    def log_x(self) -> Tensor:
        """Compute all of log_x [B, L, V] anew."""
        with torch.set_grad_enabled(self.grad and torch.is_grad_enabled()):
            return self.denoiser.log_x(self.hidden, self.z, self.t)

    def at(self, where: Tensor) -> "Prediction":
        """Return the N positions where bool [B, L] is true as N sequences of one; needs `per_position`."""
        parts = {name: _at(getattr(self, name), where) for name in ("hidden", "z", "t")}
        return replace(self, **parts)

    def split(self, size: int) -> list["Prediction"]:
        """Split the sequences into chunks of `size`."""
        parts = (v.split(size) for v in (self.hidden, self.z, self.t))
        return [replace(self, hidden=h, z=z, t=t) for h, z, t in zip(*parts, strict=True)]

    def sample(
        self,
        generator: torch.Generator,
        temperature: float = 1.0,
        top_p: float = 1.0,
        where: Tensor | None = None,
    ) -> Tensor:
        """Draw x ~ Cat(x_hat), sharpened: [B, L], or [N] at the N positions where bool [B, L] is true.

        Equal random numbers give equal x for all chunk sizes. For [B, L] a number is drawn at every
        position, but a large head is not evaluated where z carries no noise, because x is known there. Where
        x_hat is no distribution, x is -1 among [N], for a sampler to refuse, and class 0 in [B, L], because a
        training ends by its loss.
        """
        if where is not None:
            return self._sample_at(where, uniform((int(where.sum()),), generator), temperature, top_p)
        u, noisy = uniform(self.z.shape, generator), self.process.loss_mask(self.z)
        if self.elements <= MAX_ELEMENTS:
            return pick(sharpen(self.whole.detach(), temperature, top_p), u).clamp(min=0)
        drawn = self._sample_at(noisy, u[noisy.to(u.device)], temperature, top_p)
        return self.z.masked_scatter(noisy, drawn.clamp(min=0))

    @torch.no_grad()
    def _sample_at(self, where: Tensor, u: Tensor, temperature: float, top_p: float) -> Tensor:
        """Draw tokens [N] with random numbers u [N] where bool [B, L] is true, only at noisy positions."""
        plain = temperature == top_p == 1 and self.process.vocab_size > TWO_STAGE_CLASSES
        head = self.denoiser.log_weights if plain else self.denoiser.log_x  # plain draws need no normaliser
        tokens, start = [], 0
        for values in self._chunks_at(where, head):
            values = values if plain else sharpen(values, temperature, top_p)
            tokens.append(pick(values, u[start : start + len(values)]))
            start += len(values)
        torch.clear_autocast_cache()  # weights cast here have no graph, and losses must not use them
        return torch.cat(tokens)

    def _chunks_at(self, where: Tensor, head: Callable[..., Tensor]) -> Iterator[Tensor]:
        """Yield head(hidden, z, t) at the chosen positions in order, [n, V] per chunk."""
        if self.per_position:
            for chunk in self.at(where).split(chunk_size(self.z.numel(), self.elements)):
                yield head(chunk.hidden, chunk.z, chunk.t).squeeze(1)
        else:
            size = chunk_size(len(self.z), self.elements)
            for chunk, chosen in zip(self.split(size), where.split(size), strict=True):
                yield head(chunk.hidden, chunk.z, chunk.t)[chosen]


@checked
def predict(
    denoiser: Denoiser, process: Process, z: Tensor, t: Times, generator: torch.Generator
) -> Prediction:
    """Predict x from z [B, L] and t [B], with fresh input noise where the denoiser takes any."""
    check_noisy(z, t, process.num_symbols)
    noise = denoiser_noise(denoiser, len(z), generator, z.device)
    return Prediction(denoiser, process, denoiser.hidden(z, t, noise), z, t, torch.is_grad_enabled())


def chunk_size(units: int, elements: int) -> int:
    """Return how many of the equal units, which hold `elements` together, make a chunk; at least one."""
    chunks = 1 if elements <= MAX_ELEMENTS else max(MIN_CHUNKS, ceil(elements / MAX_ELEMENTS))
    return max(1, units // chunks)


@checked
def map_chunks(
    function: Callable[..., dict[str, Tensor]],
    predictions: Sequence[Prediction],
    others: Sequence[Tensor],
    where: Tensor,
    weight: Tensor | None = None,
) -> dict[str, Tensor]:
    """Evaluate a function of predictions at every position, chunk by chunk if the predictions are large.

    Large predictions are not evaluated where `where` is false if positions are independent. Then only the
    gradient of the sum of everything returned is kept, and the loss must be a multiple of that sum: the
    backward pass of another loss ends in a RuntimeError, on CUDA at the next synchronisation.

    Args:
    function: (log_x of every prediction ..., *others) to tensors [B, L] by name, each position independently.
    predictions: of equal shape [B, L, V]; one that is given twice is evaluated once.
    others: tensors [B, L] or [B] without gradient.
    where: positions whose values are returned, bool [B, L]; the others get 0.
    weight: factor of the values, [B] without gradient; None: 1.
    """
    weight = torch.ones(len(where), device=where.device) if weight is None else weight
    if predictions[0].elements <= MAX_ELEMENTS:
        values = function(*(prediction.whole for prediction in predictions), *others)
        return {name: weighted(v, where, weight) for name, v in values.items()}
    chunked = _ChunkedFunction(function, predictions, [where, weight, *others])
    values = _SumGradient.apply(chunked.evaluate, *chunked.hidden, *chunked.parameters)
    if chunked.by_position:
        values = [v.new_zeros(where.shape).masked_scatter(where, v) for v in values]
    return dict(zip(chunked.names, values, strict=True))


def weighted(values: Tensor, where: Tensor, weight: Tensor) -> Tensor:
    """Multiply values [B, L] by weight [B] where bool [B, L] is true; 0 elsewhere, even if they are NaN."""
    return torch.where(where, values, 0) * weight.unsqueeze(-1)


class _ChunkedFunction:
    """A function of large predictions whose values and gradients are computed chunk after chunk.

    Gradients are those of the sum of all values, in `hidden` (the hidden vectors of the distinct predictions)
    and in `parameters` (of the heads of the predictions that carry a gradient). None stands for no gradient.
    """

    def __init__(self, function: Callable, predictions: Sequence[Prediction], constants: Sequence[Tensor]):
        """Prepare the chunks. constants: `where`, `weight` and the other arguments of the function."""
        distinct, where = list(dict.fromkeys(predictions)), constants[0]
        self.function, self.names = function, []  # the names of the values are known after the first chunk
        self.order = [distinct.index(prediction) for prediction in predictions]
        self.by_position = all(prediction.per_position for prediction in distinct)
        self.size = chunk_size(where.numel() if self.by_position else len(where), distinct[0].elements)
        if self.by_position:
            distinct = [prediction.at(where) for prediction in distinct]
            constants = [_at(v, where) for v in constants]
        self.predictions, self.constants = distinct, constants
        self.hidden = [prediction.hidden for prediction in distinct]
        self.tracked = [prediction.grad and torch.is_grad_enabled() for prediction in distinct]
        heads = [p.denoiser for p, tracked in zip(distinct, self.tracked, strict=True) if tracked]
        trained = (p for head in heads for p in head.parameters() if p.requires_grad)
        self.parameters = list(dict.fromkeys(trained))

    def evaluate(self) -> tuple[list[Tensor], list[Tensor | None]]:
        """Compute the values of all chunks, and the gradients in `hidden` and `parameters`."""
        count = len(self.predictions)
        values, of_hidden, of_parameters = [], [], [None] * len(self.parameters)
        for chunk in zip(*(v.split(self.size) for v in [*self.predictions, *self.constants]), strict=True):
            found, gradients = self._evaluate_chunk(chunk[:count], *chunk[count:])
            values.append(found)
            of_hidden.append(gradients[:count])
            of_parameters = [_add(a, b) for a, b in zip(of_parameters, gradients[count:], strict=True)]
        of_hidden = [None if v[0] is None else torch.cat(v) for v in zip(*of_hidden, strict=True)]
        return [torch.cat(v) for v in zip(*values, strict=True)], [*of_hidden, *of_parameters]

    def _evaluate_chunk(
        self, predictions: Sequence[Prediction], where: Tensor, weight: Tensor, *others: Tensor
    ) -> tuple[list[Tensor], list[Tensor | None]]:
        """Compute what `evaluate` does for one chunk."""
        leaves = [
            replace(prediction, hidden=prediction.hidden.detach().requires_grad_(tracked), grad=tracked)
            for prediction, tracked in zip(predictions, self.tracked, strict=True)
        ]
        with torch.set_grad_enabled(any(self.tracked)):
            logs = [leaf.log_x() for leaf in leaves]
            found = self.function(*(logs[k] for k in self.order), *others)
            found = {name: weighted(v, where, weight) for name, v in found.items()}
            total = sum(v.sum() for v in found.values())
        self.names = list(found)
        values = [v.detach() for v in found.values()]
        if not any(self.tracked):
            return values, [None] * len(leaves)
        inputs = [*(leaf.hidden for leaf in leaves if leaf.grad), *self.parameters]
        with torch.autocast(total.device.type, enabled=False):
            gradients = iter(torch.autograd.grad(total, inputs, allow_unused=True))
        return values, [*(next(gradients) if tracked else None for tracked in self.tracked), *gradients]


class _SumGradient(torch.autograd.Function):
    """Values that come with the gradient of their sum, as `_ChunkedFunction.evaluate` computes both."""

    @staticmethod
    def forward(ctx, evaluate: Callable, *inputs: Tensor) -> tuple[Tensor, ...]:
        values, ctx.gradients = evaluate()
        return tuple(values)

    @staticmethod
    def backward(ctx, *incoming: Tensor) -> tuple[Tensor | None, ...]:
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is None:
            raise RuntimeError("the gradient of chunks is gone; it can be used once")
        incoming = torch.cat([v.flatten() for v in incoming])
        factor = incoming[:1].sum()  # 0 if there are no values
        torch._assert_async((incoming == factor).all(), "only the sum of all values of chunks has a gradient")
        return None, *(None if v is None else v * factor for v in gradients)


def _add(total: Tensor | None, more: Tensor | None) -> Tensor | None:
    """Add two gradients; None counts as 0."""
    if total is None or more is None:
        return more if total is None else total
    return total + more


def _at(v: Tensor, where: Tensor) -> Tensor:
    """Select N positions of [B, L, ...] as [N, 1, ...], or their sequences' values of [B] as [N]."""
    return v.unsqueeze(-1).expand(where.shape)[where] if v.dim() == 1 else v[where].unsqueeze(1)
