"""The training loop. It knows players and their losses, but not which method it trains.

The folder of a run holds `log.jsonl` (one line every `log_every` steps) and `checkpoint.safetensors`
(weights, averages, a method's copies, optimisers, random states, best weights; numbers that are not tensors
are JSON in its header), which is replaced atomically. Calling `train` again on the folder resumes from the
checkpoint and, on a CPU, ends in the same bits as a run that was never interrupted. A checkpoint of another
training (`identity`) is refused, and so is a folder in which another process trains.

Players train in training mode. Teachers, targets, averages and whatever is validated or returned are in
evaluation mode, so that dropout is off there.

Noise and data have separate random generators (`batches`). Under `torchrun` every process draws a different
part of the global batch, and gradients are averaged.
"""

import json
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dmmd_lite.training.batches import DataStream
from dmmd_lite.training.identity import parts
from dmmd_lite.training.method import Data, Method
from dmmd_lite.training.options import TrainingOptions
from dmmd_lite.training.state import CHECKPOINT, RunState, TrainingResult, rank_and_size
from dmmd_lite.utils.checks import Seed, checked
from dmmd_lite.utils.compiling import compile_layers
from dmmd_lite.utils.errors import Failure
from dmmd_lite.utils.files import append_line, folder_lock, write_text
from dmmd_lite.utils.progress import progress_bar
from dmmd_lite.utils.rng import generator_for
from dmmd_lite.utils.signals import Interrupted, collect_signals
from dmmd_lite.utils.tensors import Device

SYNCHRONOUS_DEVICES = ("cpu",)  # devices whose values can be read after every step without waiting


class NonFiniteLoss(Failure):
    """The error of a loss term that is NaN or infinite at `step`. The message names the term and the last
    good checkpoint."""

    def __init__(self, message: str, step: int):
        super().__init__(message)
        self.step = step


@checked
def train(
    method: Method,
    data: Data,
    options: TrainingOptions,
    workdir: str | Path,
    *,
    seed: Seed = 0,
    device: Device = "cpu",
    validate: Callable[[dict[str, nn.Module]], float] | None = None,
    identity: dict[str, Any] | str = "",
) -> TrainingResult:
    """Train the players of `method` and return them, resuming from `workdir` if it holds a checkpoint.

    Args:
    data: function (batch, generator) -> clean tokens [batch, L] on the CPU. It uses no other random numbers
        than those of its generator, which is also on the CPU; on CUDA a thread calls it.
    workdir: folder of the log and the checkpoint.
    validate: function (averaged players) -> a number to be minimised. With `validate_every`,
        `TrainingResult.averaged` has the averaged weights of the best validation.
    identity: what else decides the result, as JSON values by name or as a text. Options, the settings of the
        method, first weights and data count without it (`training.identity`).
    Errors: ValueError for players of half precision, for a checkpoint that is damaged or of another training,
    for a folder that another process trains in, and for data of another shape or that the method refuses;
    NonFiniteLoss; Interrupted.
    """
    device = torch.device(device)
    rank, size = rank_and_size()
    batch, rest = divmod(options.batch_size, size * options.accumulation)
    if rest:
        raise ValueError(
            f"batch_size: {options.batch_size} is not allowed; it must divide by processes x accumulation"
        )
    process_seed = seed * size + rank
    batches = DataStream(data, batch, process_seed, device, prefetch=device.type == "cuda")
    run = RunState(method, options, workdir, generator_for(device, process_seed), batches, device)
    with folder_lock(workdir) if rank == 0 else nullcontext():
        others = {"identity": identity} if isinstance(identity, str) else identity
        run.begin(method, {**others, "seed": seed, "validated": validate is not None})
        _train(method, options, run, batches, validate)
    return run.result()


def _train(
    method: Method,
    options: TrainingOptions,
    run: RunState,
    batches: DataStream,
    validate: Callable[[dict[str, nn.Module]], float] | None,
) -> None:
    """Train from the step of a run to the last one."""
    workdir, device, rank = run.path.parent, run.device, run.rank
    for module in [*run.copies.values(), *_frozen(method)]:
        module.eval()
    run.set_training(True)
    if options.compile:
        for module in [*run.players.values(), *_frozen(method)]:
            compile_layers(module)
    autocast = torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" else nullcontext()
    started, log_path = time.monotonic() - run.seconds, workdir / "log.jsonl"
    if rank == 0:
        truncate_log(log_path, run.step)

    def write(line: dict) -> None:
        """Append a line to the log, in the first process."""
        if rank == 0:
            append_line(log_path, json.dumps(line))

    validate_every = options.validate_every if validate is not None else 0
    unchecked = []  # (step, terms) that were not read yet

    progress = progress_bar(options.steps, run.step, workdir.name, rank == 0)
    with batches, collect_signals() as asked, progress as bar:
        while run.step < options.steps:
            step, logged = run.step, {}
            for _ in range(options.accumulation):
                x = batches.next()
                if step == 0 and hasattr(method, "check_data"):
                    method.check_data(x)
                with autocast:
                    terms = method.losses(step, x, run.generator)
                total = sum(value for parts in terms.values() for value in parts.values())
                # The backward pass runs once: chunked terms have the gradient of their sum only.
                (total / options.accumulation).backward()
                for player, parts in terms.items():
                    for name, value in parts.items():
                        key = f"{player}/{name}"
                        logged[key] = logged.get(key, 0) + value.detach() / options.accumulation
            for player in terms:
                logged[f"{player}/gradient_norm"] = run.update(player, options.rate(step))
            run.latest |= logged
            run.step += 1
            stop = run.largest(asked[0] if asked else 0)  # a signal to one process stops all
            unchecked.append((step, logged))
            last = run.step == options.steps
            logs = last or stop or run.step % options.log_every == 0
            saves = last or stop or run.step % options.checkpoint_every == 0
            validates = validate_every and (last or run.step % validate_every == 0)
            if logs or saves or validates or device.type in SYNCHRONOUS_DEVICES:
                _check_finite_tensors(unchecked, workdir)
                unchecked.clear()
            if logs or saves:
                run.latest = run.mean(run.latest)
            if logs:
                values = run.latest
                _check_finite(values, step, workdir)
                seconds = round(time.monotonic() - started, 3)
                write({"step": run.step, **values, "lr": options.rate(step), "seconds": seconds})
                bar.set(run.step, values)
            if validates:
                run.set_training(False)
                value = float(validate(run.averaged()))
                run.set_training(True)
                run.keep_if_best(value)
                write({"step": run.step, "validation": value})
            if saves:
                run.seconds = time.monotonic() - started
                run.save()
            if stop and run.step < options.steps:
                words = f"stopped at step {run.step} of {options.steps}; resume with the same command"
                raise Interrupted(words, stop)


def _frozen(method: Method) -> list[nn.Module]:
    """Return the networks of a method that nothing changes, such as a teacher."""
    return [value for value in parts(method).values() if isinstance(value, nn.Module)]


def _check_finite(values: dict[str, float], step: int, workdir: Path) -> None:
    """Raise NonFiniteLoss unless all values of a step are finite."""
    for term, value in values.items():
        if not math.isfinite(value):
            saved = workdir / CHECKPOINT
            last = f"last good checkpoint: {saved}" if saved.exists() else "no checkpoint was written yet"
            raise NonFiniteLoss(f"loss term {term} is {value} at step {step}; {last}", step)


def _check_finite_tensors(unchecked: list[tuple[int, dict[str, Tensor]]], workdir: Path) -> None:
    """Raise NonFiniteLoss unless the terms of several steps are finite, waiting for the device only once."""
    sums = torch.stack([torch.stack(list(logged.values())).sum() for _, logged in unchecked])
    if not sums.isfinite().all():
        for step, logged in unchecked:
            _check_finite({key: float(value) for key, value in logged.items()}, step, workdir)


def truncate_log(path: Path, step: int) -> None:
    """Drop the lines that a stopped run wrote after its checkpoint of a step, and an unfinished line.

    Errors: ValueError for a file that is no log.
    """
    if not path.exists():
        return
    try:
        *lines, _ = path.read_text(encoding="utf-8").split("\n")
        kept = [line for line in lines if json.loads(line)["step"] <= step]
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        words = f"is not the log of a training ({type(error).__name__}); move it elsewhere"
        raise ValueError(f"log: {path} {words}") from None
    write_text(path, "".join(line + "\n" for line in kept))
