"""The one training loop. It knows players and their losses, never which method it trains.

A run lives in a folder: `log.jsonl` (one line every `log_every` steps) and `checkpoint.safetensors`
(weights, averages, a method's copies, optimisers, random states, best weights; the numbers that are not
tensors as JSON in its header), replaced atomically. Calling `train` again on the folder goes on from the
checkpoint and, on a CPU, ends in the same bits as a run that was never interrupted.

Noise and data have random numbers of their own (`batches`). Under `torchrun` every process draws its own
part of the global batch and gradients are averaged.
"""

import json
import math
import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn

from dmmd_lite.training.batches import DataStream
from dmmd_lite.training.method import Method
from dmmd_lite.training.options import TrainingOptions
from dmmd_lite.training.state import CHECKPOINT, RunState, TrainingResult, rank_and_size
from dmmd_lite.utils.compiling import compile_layers
from dmmd_lite.utils.errors import Failure
from dmmd_lite.utils.progress import progress_bar
from dmmd_lite.utils.rng import generator_for
from dmmd_lite.utils.signals import Interrupted, collect_signals

SYNCHRONOUS_DEVICES = (
    "cpu",
)  # devices whose numbers can be looked at after every step without waiting for anything


class NonFiniteLoss(Failure):
    """A loss term became NaN or infinite at `step`; the message names term and last good checkpoint, too."""

    def __init__(self, message: str, step: int):
        super().__init__(message)
        self.step = step


def train(
    method: Method,
    data: Callable[[int, torch.Generator], Tensor],
    options: TrainingOptions,
    workdir: Path,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    validate: Callable[[dict[str, nn.Module]], float] | None = None,
    identity: str = "",
) -> TrainingResult:
    """Train the players of `method` and return them, resuming from `workdir` if it holds a checkpoint.

    data(batch, generator) gives clean tokens [batch, L] on the CPU, from no other random numbers than those
    of its generator, also there; on CUDA a thread calls it. validate(averaged players) gives a number to be
    minimised; with `validate_every` the averaged weights of the best validation are what `Result.averaged`
    holds. identity says what is being trained: a checkpoint of something else is refused.
    Errors: ValueError for a checkpoint that is damaged or of another identity; NonFiniteLoss; Interrupted.
    """
    workdir, device = Path(workdir), torch.device(device)
    rank, world = rank_and_size()
    batch = options.batch_size // (world * options.accumulation)
    if batch * world * options.accumulation != options.batch_size:
        raise ValueError(
            f"batch_size: {options.batch_size} is not allowed; it must divide by processes x accumulation"
        )
    seed = seed * world + rank
    batches = DataStream(data, batch, seed, device, prefetch=device.type == "cuda")
    run = RunState(method, options, workdir, generator_for(device, seed), batches, device, identity)
    run.restore()
    run.share()
    workdir.mkdir(parents=True, exist_ok=True)
    if options.compile:
        _compile(method)
    autocast = torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" else nullcontext()
    started, log_path = time.monotonic() - run.seconds, workdir / "log.jsonl"
    if rank == 0:
        truncate_log(log_path, run.step)
    validate_every = options.validate_every if validate is not None else 0
    latest, unseen = {}, []  # terms, because players take turns; those of steps not looked at yet

    progress = progress_bar(options.steps, run.step, workdir.name, rank == 0)
    with batches, collect_signals() as asked, progress as bar:
        while run.step < options.steps:
            step, logged = run.step, {}
            for _ in range(options.accumulation):
                x = batches.next()
                with autocast:
                    terms = method.losses(step, x, run.generator)
                total = sum(value for parts in terms.values() for value in parts.values())
                (total / options.accumulation).backward()  # once: pieces keep the gradient of the sum
                for player, parts in terms.items():
                    for name, value in parts.items():
                        key = f"{player}/{name}"
                        logged[key] = logged.get(key, 0) + value.detach() / options.accumulation
            for player in terms:
                logged[f"{player}/gradient_norm"] = run.update(player, options.rate(step))
            latest |= logged
            run.step += 1
            stop = run.agreed(asked[0] if asked else 0)
            unseen.append((step, logged))
            last = run.step == options.steps
            logs = last or stop or run.step % options.log_every == 0
            saves = last or stop or run.step % options.checkpoint_every == 0
            validates = validate_every and (last or run.step % validate_every == 0)
            if logs or saves or validates or device.type in SYNCHRONOUS_DEVICES:
                _check_finite_tensors(unseen, workdir)
                unseen.clear()
            if logs:
                values = run.mean(latest)
                _check_finite(values, step, workdir)
                if rank == 0:
                    _append(
                        log_path,
                        {
                            "step": run.step,
                            **values,
                            "lr": options.rate(step),
                            "seconds": round(time.monotonic() - started, 3),
                        },
                    )
                bar.set(run.step, values)
            if validates:
                value = validate(run.averaged())
                run.keep_if_best(value)
                if rank == 0:
                    _append(log_path, {"step": run.step, "validation": value})
            if saves:
                run.seconds = time.monotonic() - started
                run.save()
            if stop and run.step < options.steps:
                raise Interrupted(
                    f"stopped at step {run.step} of {options.steps}; go on with the same command", stop
                )
    return run.result()


def _compile(method: Method) -> None:
    """The layers of players and teacher; the turns of a method stay plain Python."""
    frozen = (value for value in vars(method).values() if isinstance(value, nn.Module))
    for module in [*method.players.values(), *frozen]:
        compile_layers(module)


def _check_finite(values: dict[str, float], step: int, workdir: Path) -> None:
    for term, value in values.items():
        if not math.isfinite(value):
            checkpoint = workdir / CHECKPOINT
            last = (
                f"last good checkpoint: {checkpoint}"
                if checkpoint.exists()
                else "no checkpoint was written yet"
            )
            raise NonFiniteLoss(f"loss term {term} is {value} at step {step}; {last}", step)


def _check_finite_tensors(unseen: list[tuple[int, dict[str, Tensor]]], workdir: Path) -> None:
    """The same check of several steps, which waits for the device once."""
    sums = torch.stack([torch.stack(list(logged.values())).sum() for _, logged in unseen])
    if not sums.isfinite().all():
        for step, logged in unseen:
            _check_finite({key: float(value) for key, value in logged.items()}, step, workdir)


def _append(path: Path, line: dict) -> None:
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")


def truncate_log(path: Path, step: int) -> None:
    """Drop the lines a stopped run wrote after its checkpoint, and one it did not finish."""
    if path.exists():
        lines = [line for line in path.read_text().splitlines() if line.endswith("}")]
        part = path.with_name(f".{path.name}.part")
        part.write_text("".join(line + "\n" for line in lines if json.loads(line)["step"] <= step))
        os.replace(part, path)
