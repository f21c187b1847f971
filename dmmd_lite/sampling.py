"""The reverse process: one sampler for teachers and students, any number of steps.

Each step draws x ~ Cat(x_hat(z_t)) and moves to z_s ~ q(z_s | z_t, x), from t = 1 to 0 on an even grid.

For masked noise the steps at which positions are revealed do not depend on the denoiser, so they are drawn
first: position l is revealed in the step from t to s with probability alpha_s - alpha_t. Then a sequence is
evaluated only in the steps in which it reveals something, and classes are drawn only where it does.
Sequences do not wait for each other: the first such step of all of them is taken together, then the second,
each at its own time. Under uniform noise most positions keep their token whatever x is; the random number
that decides is drawn first, and x only where it matters: a sequence in which nothing can change is not
evaluated. Both have exactly the law of the plain loop, for any denoiser.

A process with several stages takes all steps in each: the sequence so far stays as it is and new noise is
put behind it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dmmd_lite.denoisers.base import Denoiser, denoiser_noise, sequences_at_once
from dmmd_lite.denoisers.prediction import Prediction, predict
from dmmd_lite.denoisers.sharpening import check_sharpening
from dmmd_lite.processes.base import Process
from dmmd_lite.processes.schedules import time_grid
from dmmd_lite.utils.rng import uniform


@dataclass(frozen=True)
class Samples:
    """tokens [N, L]; steps asked for; evaluations of the denoiser made, per sequence and stage; and, if asked
    for, trajectory [steps + 1, N, L]: z at every time of the grid, each token's in its own stage."""

    tokens: Tensor
    steps: int
    evaluations: float
    trajectory: Tensor | None = None


@torch.no_grad()
def sample(
    denoiser: Denoiser,
    process: Process,
    num: int,
    length: int,
    steps: int,
    *,
    generator: torch.Generator,
    temperature: float = 1.0,
    top_p: float = 1.0,
    greedy_tail: bool = False,
    batch_size: int | None = None,
    trajectory: bool = False,
    progress: Callable[[int, int], None] | None = None,
    device: torch.device | str = "cpu",
) -> Samples:
    """Draw `num` sequences of `length` tokens in `steps` denoising steps a stage.

    temperature (0: most likely class) and top_p act on x_hat, never on the posterior. greedy_tail: the last
    step of a stage takes the most likely class (Duo, arXiv 2506.10892, does so after its last step).
    batch_size: sequences at once; by default `denoisers.sequences_at_once`.
    progress(done, total) is called as steps are done, in order, up to the total.
    Errors: ValueError for num or steps below 1, a negative temperature, top_p outside (0, 1], a length that
    the process cannot make.
    """
    if num < 1:
        raise ValueError(f"num: {num!r} is not allowed; it must be a whole number of at least 1")
    check_sharpening(temperature, top_p)
    grid = time_grid(steps)
    stages, noised = process.stages(length), process.num_noised(length)
    batch_size = batch_size or sequences_at_once(length, process.vocab_size)
    reverse = _reveals_first if process.absorbing else _every_position

    def draw(z: Tensor, t: Tensor, where: Tensor) -> Tensor:
        """x ~ Cat(x_hat(z, t)) at the positions where bool [B, L] is true, at one time or one each."""
        greedy = greedy_tail and bool((t == grid[-2]).all())
        return _draw(denoiser, process, z, t, where, generator, 0 if greedy else temperature, top_p)

    parts, paths, evaluations, done = [], [], 0, 0
    batches = [min(batch_size, num - start) for start in range(0, num, batch_size)]
    total = len(batches) * len(stages) * steps

    def tick(steps_done: int) -> None:
        if progress is not None:
            progress(done + steps_done, total)

    for batch in batches:
        z, path = torch.empty(batch, 0, dtype=torch.long, device=device), []
        for _ in stages:
            z = torch.cat([z, process.prior((batch, noised), generator).to(device)], 1)
            z, evaluated, states = reverse(draw, process, z, grid, generator, trajectory, tick)
            evaluations += evaluated
            done += steps
            path.append(states)
        parts.append(z)
        paths.append(path)
    evaluations /= num * len(stages)
    if not trajectory:
        return Samples(torch.cat(parts), steps, evaluations)
    whole = [
        torch.cat([torch.stack([z[:, -noised:] for z in states]) for states in path], 2) for path in paths
    ]
    return Samples(torch.cat(parts), steps, evaluations, torch.cat(whole, 1))


@torch.no_grad()
def denoise(
    denoiser: Denoiser, process: Process, z: Tensor, t: Tensor, steps: int, generator: torch.Generator
) -> Tensor:
    """Tokens x [B, L] from z_t [B, L] at times t [B], in `steps` even steps of each sequence's time. Every
    sequence is evaluated in every step, so that what this costs is known beforehand."""

    def draw(z: Tensor, t: Tensor, where: Tensor) -> Tensor:
        law = predict(denoiser, process, z, t.float().to(z.device), generator)
        return law.sample(generator, where=where)

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
    """x ~ Cat(x_hat(z, t)) at the N positions where bool [B, L] is true, [N]; t: one time or one each.

    Only sequences with such a position are evaluated. Input noise is drawn for all of them, so that random
    numbers do not depend on it.
    """
    noise, rows = denoiser_noise(denoiser, len(z), generator, z.device), where.any(-1)
    t = t.float().to(z.device).expand(len(z))
    if not rows.all():
        z, t, where, noise = (v if v is None else v[rows] for v in (z, t, where, noise))
    if not len(z):
        return z.new_empty(0)
    law = Prediction(denoiser, process, denoiser.hidden(z, t, noise), z, t, grad=False)
    return law.sample(generator, temperature, top_p, where)


def _every_position(
    draw: Callable,
    process: Process,
    z: Tensor,
    grid: Tensor,
    generator: torch.Generator,
    keep: bool = False,
    tick: Callable[[int], None] = lambda steps_done: None,
) -> tuple[Tensor, int, list[Tensor]]:
    """All steps of a grid, [steps + 1] times or one for each sequence, [steps + 1, B], from z at its first.

    Returns z at its last time, how many sequences were evaluated, and if asked to `keep` them the states at
    all times.
    """
    states, size, evaluated = [z], len(z), 0
    for k, (t, s) in enumerate(zip(grid[:-1], grid[1:], strict=True)):
        times = [v.to(generator.device).expand(size) for v in (s, t)]
        u, home = uniform(z.shape, generator), z.to(generator.device)
        x, where = z.clone(), process.may_change(home, u, *times).to(z.device)
        x[where] = draw(z, t, where)
        evaluated += int(where.any(-1).sum())
        z = process.step(home, x.to(home.device), *times, generator, u).to(z.device)
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
    """As `_every_position`, for masked noise and one grid [steps + 1], with the reveals drawn first."""
    alpha, steps = process.schedule.alpha(grid).to(generator.device), len(grid) - 1
    u, hidden, start = uniform(z.shape, generator), process.loss_mask(z), z
    revealed_at = torch.searchsorted(alpha[1:].contiguous(), u, right=True).to(z.device)  # step of a position
    rounds = _rounds(revealed_at, hidden, steps)
    evaluated, last = 0, int(rounds.max())
    for k in range(last + 1):
        now = rounds == k
        active = now.any(-1)
        rows, where = z[active], now[active]
        step = torch.where(where, revealed_at[active], 0).amax(-1)  # one for all that a row reveals now
        rows[where] = draw(rows, grid[step.cpu()], where)
        z = z.index_put((active,), rows)
        evaluated += len(rows)
        tick(steps * (k + 1) // (last + 1))
    before = (torch.where(hidden & (revealed_at >= k), start, z) for k in range(steps + 1))
    return z, evaluated, list(before) if keep else []


def _rounds(revealed_at: Tensor, hidden: Tensor, steps: int) -> Tensor:
    """In which round of evaluations every position is revealed, [B, L]; -1 where it is known.

    A sequence's rounds are its steps that reveal something, in order, but the last step of all is the last
    round of all sequences, because a greedy tail treats it in its own way.
    """
    in_order = revealed_at.masked_fill(~hidden, -1).sort(1)
    new = in_order.values.diff(dim=1, prepend=torch.full_like(in_order.values[:, :1], -1)) > 0
    rounds = torch.empty_like(revealed_at).scatter_(1, in_order.indices, new.cumsum(1) - 1)
    rounds = rounds.masked_fill(~hidden, -1)
    tail = hidden & (revealed_at == steps - 1)
    return torch.where(tail, rounds.masked_fill(tail, -1).max() + 1, rounds)
