"""The reverse process: one sampler for teachers and students and for any number of steps.

Each step draws x ~ Cat(x_hat(z_t)) and moves to z_s ~ q(z_s | z_t, x), from t = 1 to 0 on an even grid.

Under masked noise the steps at which positions are revealed do not depend on the denoiser, so they are drawn
first (`Process.reveals_first`): position l is revealed in the step from t to s with probability alpha_s -
alpha_t. Then a sequence is evaluated only in the steps in which it reveals something, and classes are drawn
only where it does. Sequences do not wait for each other: the first such steps of all are taken together,
each at its sequence's time, then the second. Under other noise most positions keep their token whatever x is;
the random number that decides is drawn first, and x only where it matters: a sequence in which nothing can
change is not evaluated. Both samplers have exactly the distribution of the plain loop, for any denoiser.

A process with several stages takes all steps in each stage: the sequence so far stays as it is, and new noise
is appended.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dmmd_lite.denoisers.base import (
    NOT_FINITE,
    Denoiser,
    NonFinitePrediction,
    denoiser_noise,
    sequences_at_once,
)
from dmmd_lite.denoisers.conditioned import Conditioned
from dmmd_lite.denoisers.prediction import Prediction, predict
from dmmd_lite.processes.base import Process
from dmmd_lite.processes.holding import Holding
from dmmd_lite.processes.schedules import time_grid
from dmmd_lite.utils.checks import Count, PositiveFraction, PositiveOrZero, checked
from dmmd_lite.utils.rng import uniform
from dmmd_lite.utils.tensors import Device, Times, Tokens, check_noisy


@dataclass(frozen=True)
class Samples:
    """What `sample` returns.

    tokens: [N, L]. steps: per stage. evaluations: of the denoiser, on average per sequence and stage.
    trajectory: z at every time of the grid, [steps + 1, N, L], each token in the stage that made it; or None.
    """

    tokens: Tensor
    steps: int
    evaluations: float
    trajectory: Tensor | None = None


@checked
@torch.no_grad()
def sample(
    denoiser: Denoiser,
    process: Process,
    num: Count,
    length: Count,
    steps: Count,
    *,
    generator: torch.Generator,
    temperature: PositiveOrZero = 1.0,
    top_p: PositiveFraction = 1.0,
    greedy_tail: bool = False,
    held: Tensor | None = None,
    tokens: Tensor | None = None,
    batch_size: Count | None = None,
    trajectory: bool = False,
    progress: Callable[[int, int], None] | None = None,
    device: Device = "cpu",
) -> Samples:
    """Draw `num` sequences of `length` tokens in `steps` denoising steps per stage.

    Args:
    temperature, top_p: act on x_hat, never on the posterior; temperature 0 takes the most likely class.
    greedy_tail: the last step of a stage takes the most likely class (Duo, arXiv 2506.10892, does this after
    its last step).
    held, tokens: which positions are held, bool [N, L] or [L] for all, and their tokens, of the same shape;
    tokens elsewhere are not read. A model that was made without held positions is exact under masked noise,
    and approximate under uniform noise (`denoisers.conditioned`).
    batch_size: sequences that are drawn together; None: `denoisers.base.sequences_at_once`.
    trajectory: True to return the states at all times.
    progress: called as progress(done, total) while steps are done, in order, up to the total.
    Errors: ValueError for num or steps below 1, a negative temperature, top_p outside (0, 1], a length that
    the process cannot make, conditions of another shape or out of range; NonFinitePrediction, which names the
    step.
    """
    grid = time_grid(steps)
    stages, size = process.stages(length), process.num_noised(length)
    batch_size = batch_size or sequences_at_once(length, process.vocab_size)
    reverse = _reveals_first if process.reveals_first else _every_position
    marked = None
    if held is not None:
        _condition(held, tokens, num, length, process.vocab_size)
        if not process.holding:
            process = Holding(process)
            denoiser = Conditioned(denoiser, process)
        marked = process.hold(torch.where(held, tokens, 0), held).expand(num, length)

    def draw(z: Tensor, t: Tensor, where: Tensor) -> Tensor:
        """Draw x ~ Cat(x_hat(z, t)) where bool [B, L] is true; t: one time or one per sequence."""
        greedy = greedy_tail and bool((t == grid[-2]).all())
        x = _draw(denoiser, process, z, t, where, generator, 0 if greedy else temperature, top_p)
        if (x < 0).any():
            row = where.nonzero()[x < 0][0, 0]
            step = 1 + round((1 - float(t.expand(len(z))[row])) * steps)
            raise NonFinitePrediction(f"step {step} of {steps}: {NOT_FINITE}")
        return x

    parts, paths, evaluations, done = [], [], 0, 0
    batches = [min(batch_size, num - start) for start in range(0, num, batch_size)]
    total = len(batches) * len(stages) * steps

    def tick(steps_done: int) -> None:
        if progress is not None:
            progress(done + steps_done, total)

    for batch, start in zip(batches, range(0, num, batch_size), strict=True):
        z, path = torch.empty(batch, 0, dtype=torch.long, device=device), []
        for _ in stages:
            fresh = process.prior((batch, size), generator).to(device)
            if marked is not None:
                of_batch = marked[start : start + batch, z.shape[1] : z.shape[1] + size].to(device)
                fresh = process.like(fresh, of_batch)
            z = torch.cat([z, fresh], 1)
            z, evaluated, states = reverse(draw, process, z, grid, generator, trajectory, tick)
            evaluations += evaluated
            done += steps
            path.append(states)
        parts.append(process.classes(z))
        paths.append(path)
    evaluations /= num * len(stages)
    if not trajectory:
        return Samples(torch.cat(parts), steps, evaluations)
    whole = [torch.cat([torch.stack([z[:, -size:] for z in states]) for states in path], 2) for path in paths]
    return Samples(torch.cat(parts), steps, evaluations, process.classes(torch.cat(whole, 1)))


def _condition(held: Tensor, tokens: Tensor | None, num: int, length: int, vocab_size: int) -> None:
    """Raise ValueError unless held and tokens are a condition of `num` sequences."""
    shapes = ((num, length), (length,))
    if not isinstance(held, Tensor) or held.dtype != torch.bool or held.shape not in shapes:
        allowed = f"it must be bool [{num}, {length}] or [{length}]"
        raise ValueError(f"held: {_described(held)} is not allowed; {allowed}")
    if not isinstance(tokens, Tensor) or tokens.is_floating_point() or tokens.shape != held.shape:
        allowed = f"they must be whole numbers {list(held.shape)}"
        raise ValueError(f"tokens: {_described(tokens)} is not allowed; {allowed}")
    wrong = tokens[held & ((tokens < 0) | (tokens >= vocab_size))]
    if len(wrong):
        allowed = f"held ones must lie in 0 … {vocab_size - 1}"
        raise ValueError(f"tokens: {int(wrong[0])} is not allowed; {allowed}")


def _described(value) -> str:
    """Return the type and shape of a value, in words."""
    is_tensor = isinstance(value, Tensor)
    return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}" if is_tensor else repr(value)


@checked
@torch.no_grad()
def denoise(
    denoiser: Denoiser, process: Process, z: Tokens, t: Times, steps: Count, generator: torch.Generator
) -> Tensor:
    """Draw tokens x [B, L] from z_t [B, L] at times t [B], in `steps` even steps of each sequence's time.

    Every sequence is evaluated in every step, so that the cost is known beforehand.
    """

    check_noisy(z, t, process.num_symbols)

    def draw(z: Tensor, t: Tensor, where: Tensor) -> Tensor:
        prediction = predict(denoiser, process, z, t.float().to(z.device), generator)
        return prediction.sample(generator, where=where).clamp(min=0)

    grid = time_grid(steps)[:, None] * t.cpu().double()
    return _every_position(draw, process, z, grid, generator)[0]


def _draw(
    denoiser: Denoiser,
    process: Process,
    z: Tensor,
    t: Tensor,
    where: Tensor,
    generator: torch.Generator,
    temperature: float = 1.0,
    top_p: float = 1.0,
) -> Tensor:
    """Draw x ~ Cat(x_hat(z, t)) where bool [B, L] is true, [N]; t: one time or one per sequence.

    Only sequences with such a position are evaluated. Input noise is drawn for all sequences, so that the
    random numbers that follow do not depend on which are evaluated.
    """
    noise, rows = denoiser_noise(denoiser, len(z), generator, z.device), where.any(-1)
    t = t.float().to(z.device).expand(len(z))
    if not rows.all():
        z, t, where, noise = (v if v is None else v[rows] for v in (z, t, where, noise))
    if not len(z):
        return z.new_empty(0)
    prediction = Prediction(denoiser, process, denoiser.hidden(z, t, noise), z, t, grad=False)
    return prediction.sample(generator, temperature, top_p, where)


def _every_position(
    draw: Callable,
    process: Process,
    z: Tensor,
    grid: Tensor,
    generator: torch.Generator,
    keep: bool = False,
    tick: Callable[[int], None] = lambda steps_done: None,
) -> tuple[Tensor, int, list[Tensor]]:
    """Take all steps of a grid [steps + 1], or [steps + 1, B] with times per sequence, from z at its start.

    Returns z at the last time, the number of evaluated sequences, and the states: those at all times if
    `keep` is true.
    """
    states, size, evaluated = [z], len(z), 0
    for k, (t, s) in enumerate(zip(grid[:-1], grid[1:], strict=True)):
        times = [v.to(generator.device).expand(size) for v in (s, t)]
        u, here = uniform(z.shape, generator), z.to(generator.device)
        x, where = z.clone(), process.may_change(here, u, *times).to(z.device)
        x[where] = draw(z, t, where)
        evaluated += int(where.any(-1).sum())
        z = process.step(here, x.to(here.device), *times, generator, u).to(z.device)
        if keep:
            states.append(z)
        tick(k + 1)
    return z, evaluated, states


def _reveals_first(
    draw: Callable,
    process: Process,
    z: Tensor,
    grid: Tensor,
    generator: torch.Generator,
    keep: bool = False,
    tick: Callable[[int], None] = lambda steps_done: None,
) -> tuple[Tensor, int, list[Tensor]]:
    """Do what `_every_position` does, with one grid [steps + 1] and the reveals drawn first."""
    alpha, steps = process.schedule.alpha(grid).to(generator.device), len(grid) - 1
    u, hidden, start = uniform(z.shape, generator), process.loss_mask(z), z
    revealed_at = torch.searchsorted(alpha[1:].contiguous(), u, right=True).to(z.device)  # in which step
    rounds = _rounds(revealed_at, hidden, steps)
    evaluated, last = 0, int(rounds.max())
    for k in range(last + 1):
        now = rounds == k
        active = now.any(-1)
        rows, where = z[active], now[active]
        step = torch.where(where, revealed_at[active], 0).amax(-1)  # all reveals of a row are in one step
        rows[where] = draw(rows, grid[step.cpu()], where)
        z = z.index_put((active,), rows)
        evaluated += len(rows)
        tick(steps * (k + 1) // (last + 1))
    before = (torch.where(hidden & (revealed_at >= k), start, z) for k in range(steps + 1))
    return z, evaluated, list(before) if keep else []


def _rounds(revealed_at: Tensor, hidden: Tensor, steps: int) -> Tensor:
    """Return the round of evaluations in which every position is revealed, [B, L]; -1 where it is known.

    The rounds of a sequence are its steps that reveal something, in order; but the last step of the grid is
    the last round of all sequences, because a greedy tail treats it differently.
    """
    in_order = revealed_at.masked_fill(~hidden, -1).sort(1)
    new = in_order.values.diff(dim=1, prepend=torch.full_like(in_order.values[:, :1], -1)) > 0
    rounds = torch.empty_like(revealed_at).scatter_(1, in_order.indices, new.cumsum(1) - 1)
    rounds = rounds.masked_fill(~hidden, -1)
    tail = hidden & (revealed_at == steps - 1)
    return torch.where(tail, rounds.masked_fill(tail, -1).max() + 1, rounds)
