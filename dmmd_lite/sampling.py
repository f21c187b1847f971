"""The reverse process: one sampler for teachers and students, any number of steps.

Each step draws x ~ Cat(x_hat(z_t)) and moves to z_s ~ q(z_s | z_t, x), from t = 1 to 0 on an even grid.

For masked noise the steps at which positions are revealed do not depend on the denoiser, so they are drawn
first: position l is revealed in the step from t to s with probability alpha_s - alpha_t. Then only sequences
that reveal something are evaluated, and classes are drawn only where something is revealed. The samples
have exactly the law of the plain loop, for any denoiser.

A process with several stages takes all steps in each: the sequence so far stays as it is and new noise is
put behind it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dmmd_lite.denoisers import Denoiser, check_sharpening, sequences_at_once
from dmmd_lite.pieces import law_of
from dmmd_lite.processes import Process
from dmmd_lite.rng import uniform
from dmmd_lite.schedules import time_grid


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
    progress(done, total) is called after every batch step. Errors: ValueError for num or steps below 1,
    a negative temperature, top_p outside (0, 1], a length that the process cannot make.
    """
    if num < 1:
        raise ValueError(f"num: {num!r} is not allowed; it must be a whole number of at least 1")
    check_sharpening(temperature, top_p)
    grid = time_grid(steps)
    stages, noised = process.stages(length), process.noised(length)
    batch_size = batch_size or sequences_at_once(length, process.vocab_size)
    reverse = _reveals_first if process.absorbing else _every_position

    def draw(z: Tensor, t: Tensor, where: Tensor | None = None) -> Tensor:
        """x ~ Cat(x_hat(z, t)) at all positions, or at those where `where` [B, L] is true."""
        law = law_of(denoiser, process, z, t.float().to(z.device).expand(len(z)), generator)
        greedy = greedy_tail and t == grid[-2]
        return law.sample(generator, 0 if greedy else temperature, top_p, where)

    parts, paths, evaluations, done = [], [], 0, 0
    batches = [min(batch_size, num - start) for start in range(0, num, batch_size)]
    for batch in batches:
        z, path = torch.empty(batch, 0, dtype=torch.long, device=device), []
        for _ in stages:
            z = torch.cat([z, process.prior((batch, noised), generator).to(device)], 1)
            states = [z[:, -noised:]]
            for z_s, evaluated in reverse(draw, process, z, grid, generator):
                evaluations += evaluated
                done += 1
                if trajectory:
                    states.append(z_s[:, -noised:])
                if progress is not None:
                    progress(done, len(batches) * len(stages) * steps)
            z = z_s
            path.append(torch.stack(states))
        parts.append(z)
        paths.append(torch.cat(path, 2))
    evaluations /= num * len(stages)
    return Samples(torch.cat(parts), steps, evaluations, torch.cat(paths, 1) if trajectory else None)


@torch.no_grad()
def first_hitting(
    denoiser: Denoiser,
    process: Process,
    num: int,
    length: int,
    *,
    generator: torch.Generator,
    temperature: float = 1.0,
    top_p: float = 1.0,
    device: torch.device | str = "cpu",
) -> Samples:
    """Masked noise in the limit of infinitely many steps, exactly, in `length` evaluations a sequence.

    Positions are revealed one by one, each at the time when alpha passes a uniform number of its own, from
    the denoiser's law at that time (first-hitting sampler, arXiv 2409.02908). `steps` of the samples is the
    number of evaluations. ValueError for another noise, num below 1 and what `sample` refuses.
    """
    if num < 1:
        raise ValueError(f"num: {num!r} is not allowed; it must be a whole number of at least 1")
    if not process.absorbing or len(process.stages(length)) > 1:
        raise ValueError(f"process: {process.name!r} is not allowed; only 'masked', in one stage")
    check_sharpening(temperature, top_p)
    parts, at_once = [], sequences_at_once(length, process.vocab_size)
    for batch in (min(at_once, num - start) for start in range(0, num, at_once)):
        z = process.prior((batch, length), generator).to(device)
        order = process.schedule.time(uniform(z.shape, generator)).sort(1, descending=True)
        for t, place in zip(order.values.unbind(1), order.indices.to(device).unbind(1), strict=True):
            where = torch.zeros_like(z, dtype=torch.bool).scatter_(1, place[:, None], True)
            law = law_of(denoiser, process, z, t.float().to(device), generator)
            z = z.masked_scatter(where, law.sample(generator, temperature, top_p, where))
        parts.append(z)
    return Samples(torch.cat(parts), length, float(length))


@torch.no_grad()
def denoise(
    denoiser: Denoiser, process: Process, z: Tensor, t: Tensor, steps: int, generator: torch.Generator
) -> Tensor:
    """Tokens x [B, L] from z_t [B, L] at times t [B], in `steps` even steps of each sequence's time."""

    def draw(z: Tensor, t: Tensor) -> Tensor:
        return law_of(denoiser, process, z, t.float().to(z.device), generator).sample(generator)

    grid = time_grid(steps)[:, None] * t.cpu().double()
    for z_s, _ in _every_position(draw, process, z, grid, generator):
        z = z_s
    return z


def _every_position(draw, process: Process, z: Tensor, grid: Tensor, generator: torch.Generator):
    """Yield (z_s, sequences evaluated) for every step of the grid, [steps + 1] times or one for each
    sequence, [steps + 1, B]."""
    for t, s in zip(grid[:-1], grid[1:], strict=True):
        t, s = t.to(generator.device), s.to(generator.device)
        x = draw(z, t)
        home = z.device
        z = process.step(z.to(t.device), x.to(t.device), s.expand(len(z)), t.expand(len(z)), generator).to(
            home
        )
        yield z, len(z)


def _reveals_first(draw, process: Process, z: Tensor, grid: Tensor, generator: torch.Generator):
    """As `_every_position`, with the reveals drawn first."""
    alpha = process.schedule.alpha(grid).to(generator.device)
    u = uniform(z.shape, generator)
    revealed_at = torch.searchsorted(alpha[1:].contiguous(), u, right=True).to(
        z.device
    )  # step index of every position
    for k, t in enumerate(grid[:-1]):
        now = (revealed_at == k) & process.scored(z)
        active = now.any(-1)
        if active.any():
            z = z.clone()
            rows, where = z[active], now[active]
            rows[where] = draw(rows, t, where)
            z[active] = rows
        yield z, int(active.sum())
