"""The state of a training run: what changes while training, and how it is saved and restored."""

import copy
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dmmd_lite.training.identity import DIGITS, difference, identity_of, settings_of
from dmmd_lite.training.options import TrainingOptions
from dmmd_lite.utils.files import read_tensors, tensors_sha256, write_tensors
from dmmd_lite.utils.weights import half_precision, load_weights

CHECKPOINT = "checkpoint.safetensors"
PROGRESS = ("step", "seconds", "best_step", "best_value", "latest")  # of a run, in its checkpoint's header


@dataclass
class TrainingResult:
    """The result of a run.

    Args:
    averaged: players with averaged weights, raw where not averaged; with validation the best ones. They are
        in evaluation mode.
    raw: players with the weights of the last step, in evaluation mode.
    best_step, best_value: step and value of the best validation, None without one.
    seconds: duration of the training, over all its resumptions.
    steps: loop steps made.
    """

    averaged: dict[str, nn.Module]
    raw: dict[str, nn.Module]
    best_step: int | None
    best_value: float | None
    seconds: float
    steps: int


def rank_and_size() -> tuple[int, int]:
    """Return the number of this process and how many there are, as `torchrun` sets them, else (0, 1)."""
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


class RunState:
    """Players, averages, optimisers, random states and progress of one run, in one process."""

    def __init__(self, method, options, workdir, generator, batches, device):
        self.options, self.path, self.device = options, workdir / CHECKPOINT, device
        self.generator, self.batches = generator, batches
        self.rank, self.size = rank_and_size()
        for name, player in method.players.items():
            if found := half_precision(player):
                raise ValueError(
                    f"players: {name} is not allowed with {found}, where small updates are lost; it must be "
                    "float32, so call .float() before the optimiser's first step"
                )
        self.players = {name: player.to(device) for name, player in method.players.items()}
        options.check_players(self.players)
        self.copies = {name: module.to(device) for name, module in getattr(method, "copies", {}).items()}
        self.ema = {
            name: copy.deepcopy(self.players[name]).requires_grad_(False).eval() for name in options.ema
        }
        adam = {"betas": options.betas, "weight_decay": options.weight_decay, "fused": True}
        self.optimizers = {
            name: torch.optim.AdamW(player.parameters(), lr=options.lr[name], **adam)
            for name, player in self.players.items()
        }
        self.step, self.seconds, self.best, self.best_step, self.best_value = 0, 0.0, {}, None, None
        self.latest, self.identity = {}, {}  # the latest terms by name; what `begin` finds

    def begin(self, method, others: dict) -> None:
        """Find the identity of the training from its first weights and `others`, and load its checkpoint, if
        there is one. All processes get the weights of the first one."""
        if self.size > 1:
            for _, module in self._modules():
                for tensor in module.state_dict().values():
                    dist.broadcast(tensor, 0)
        others = {**others, "device": self.device.type, "processes": self.size}
        self.identity = identity_of(method, self.options, others)
        self.restore()
        first, last = -self.largest(-self.step), self.largest(self.step)
        if first != last:
            raise ValueError(
                f"out: {self.path.parent} is not allowed; processes find checkpoints of steps {first} and "
                f"{last} there, and all hosts have to share the folder"
            )

    def largest(self, number: int) -> int:
        """Return the maximum of a number over all processes. Every process must call this."""
        if self.size == 1:
            return number
        shared = torch.tensor(number, device=self.device)
        dist.all_reduce(shared, dist.ReduceOp.MAX)
        return int(shared)

    def mean(self, values: dict[str, Tensor | float]) -> dict[str, float]:
        """Return the means of values over all processes, each of which has another part of the batch."""
        as_float = {"dtype": torch.float32, "device": self.device}
        stacked = torch.stack([torch.as_tensor(value, **as_float) for value in values.values()])
        if self.size > 1:
            dist.all_reduce(stacked)
        return dict(zip(values, (stacked / self.size).tolist(), strict=True))

    def update(self, player: str, rate: float) -> Tensor:
        """Clip and apply the gradients of a player, update its average, and return the gradient's norm.

        Args:
        rate: factor on the player's learning rate.
        """
        parameters, optimizer = list(self.players[player].parameters()), self.optimizers[player]
        if self.size > 1:
            gradients = [p.grad for p in parameters if p.grad is not None]
            flat = nn.utils.parameters_to_vector(gradients)
            dist.all_reduce(flat)
            nn.utils.vector_to_parameters(flat.div_(self.size), gradients)
        norm = nn.utils.clip_grad_norm_(parameters, self.options.clip, foreach=True)
        for group in optimizer.param_groups:
            group["lr"] = self.options.lr[player] * rate
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if player in self.ema:
            decay = min(self.options.ema[player], (1 + self.step) / (10 + self.step))  # smaller at first
            average = self.ema[player]
            torch._foreach_lerp_(list(average.parameters()), [p.detach() for p in parameters], 1 - decay)
            for copied, buffer in zip(average.buffers(), self.players[player].buffers(), strict=True):
                copied.copy_(buffer)
        return norm.detach()

    def set_training(self, training: bool) -> None:
        """Put all players into training mode or into evaluation mode."""
        for player in self.players.values():
            player.train(training)

    def averaged(self) -> dict[str, nn.Module]:
        """Return the averaged players, raw where no average is kept."""
        return {name: self.ema.get(name, player) for name, player in self.players.items()}

    def keep_if_best(self, value: float) -> None:
        """Copy the averaged weights if `value`, their validation, is the smallest so far."""
        if not math.isnan(value) and (self.best_value is None or value < self.best_value):
            self.best_step, self.best_value = self.step, value
            self.best = {
                f"{name}/{key}": tensor.detach().clone()
                for name, player in self.averaged().items()
                for key, tensor in player.state_dict().items()
            }

    def result(self) -> TrainingResult:
        """Return the result of the run, with the best averaged weights if there were validations."""
        self.set_training(False)
        averaged = {name: copy.deepcopy(player) for name, player in self.averaged().items()}
        if self.best:
            for name, player in averaged.items():
                player.load_state_dict({key: self.best[f"{name}/{key}"] for key in player.state_dict()})
        best = self.best_step, self.best_value
        return TrainingResult(averaged, self.players, *best, self.seconds, self.step)

    def _modules(self) -> Iterator[tuple[str, nn.Module]]:
        """Yield the networks of the checkpoint, each with the prefix of its keys."""
        for kind, modules in {"player": self.players, "ema": self.ema, "copy": self.copies}.items():
            yield from ((f"{kind}/{name}", module) for name, module in modules.items())

    def gather_states(self, state: Tensor) -> Tensor:
        """Return a generator's states in all processes, one per row. Every process must call this."""
        if self.size == 1:
            return state[None]
        states = [torch.empty_like(state, device=self.device) for _ in range(self.size)]
        dist.all_gather(states, state.to(self.device))
        return torch.stack(states)

    def save(self) -> None:
        """Write the checkpoint atomically from the first process. Every process must call this."""
        noise, data = self.gather_states(self.generator.get_state()), self.gather_states(self.batches.state)
        if self.rank != 0:
            return
        tensors = {
            f"{prefix}/{key}": value
            for prefix, module in self._modules()
            for key, value in module.state_dict().items()
        }
        tensors |= {f"best/{key}": value for key, value in self.best.items()}
        for name, optimizer in self.optimizers.items():
            for index, state in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer/{name}/{index}/{key}": value for key, value in state.items()}
        tensors |= {"random/noise": noise, "random/data": data, "random/torch": torch.get_rng_state()}
        identity = {**self.identity, "data": self.batches.first[:DIGITS]}
        facts = {"identity": identity, **{name: getattr(self, name) for name in PROGRESS}}
        state, tensors = json.dumps(facts), clone_shared(tensors)
        write_tensors(self.path, tensors, {"state": state, "sha256": _digest(tensors, state)})

    def restore(self) -> None:
        """Load the checkpoint, if any. ValueError for a damaged one and for one of another training."""
        if not self.path.exists():
            return
        self.batches.find_first(self.rank)
        tensors, facts = read_checkpoint(self.path)
        _refuse(self.path, self._difference(facts["identity"], tensors))
        with _damaged(self.path):
            self._load(facts, tensors)

    def _difference(self, theirs: dict, tensors: dict[str, Tensor]) -> str:
        """Return in words where a checkpoint's identity differs from ours. Weights may be the first ones or
        those of the checkpoint, as in a notebook after a stop."""
        ours = {**self.identity, "data": self.batches.first[:DIGITS]}
        for prefix, _ in self._modules():
            key = prefix.replace("/", ".") + ".weights"
            if ours.get(key) == tensors_sha256(_under(tensors, f"{prefix}/"))[:DIGITS]:
                ours[key] = theirs.get(key)
        return difference(theirs, ours)

    def _load(self, facts: dict, tensors: dict[str, Tensor]) -> None:
        """Take over the header and the tensors of a checkpoint of this training."""
        self.identity = {key: value for key, value in facts["identity"].items() if key != "data"}
        for prefix, module in self._modules():
            load_weights(module, _under(tensors, f"{prefix}/"))
        for name, optimizer in self.optimizers.items():
            states = {}
            for key, value in _under(tensors, f"optimizer/{name}/").items():
                index, item = key.split("/")
                states.setdefault(int(index), {})[item] = value
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": states, "param_groups": groups})
        self.best = _under(tensors, "best/")
        # The rows are cloned because `set_state` misreads a view.
        noise, data = (tensors[f"random/{name}"][self.rank].clone() for name in ("noise", "data"))
        self.generator.set_state(noise)
        self.batches.resume_from(data)
        torch.set_rng_state(tensors["random/torch"])
        for name in PROGRESS:
            setattr(self, name, facts[name])


def check_checkpoint(folder: Path, options: TrainingOptions, others: dict[str, Any]) -> None:
    """Raise ValueError if a folder holds a damaged checkpoint or, as far as `settings_of` tells, that of
    another training. others: as for `settings_of`."""
    path = folder / CHECKPOINT
    if path.exists():
        theirs, ours = read_checkpoint(path)[1]["identity"], settings_of(options, others)
        parts = {key.split(".")[0] for key in ours}
        _refuse(path, difference({k: v for k, v in theirs.items() if k.split(".")[0] in parts}, ours))


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict]:
    """Read the tensors and the header of a checkpoint. ValueError for one that is damaged."""
    with _damaged(path):
        tensors, about = read_tensors(path)
        if "sha256" not in about:
            raise ValueError("it has no digest")
        if _digest(tensors, about["state"]) != about["sha256"]:
            raise ValueError("its sha256 is not the recorded one")
        return tensors, json.loads(about["state"])


@contextmanager
def _damaged(path: Path) -> Iterator[None]:
    """Turn what a damaged checkpoint raises into a ValueError of one line."""
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError, RuntimeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        words = f"is damaged or was written by another version ({reason}); delete it to start again"
        raise ValueError(f"checkpoint: {path} {words}") from None


def _refuse(path: Path, difference: str) -> None:
    """Raise ValueError if a checkpoint's identity differs."""
    if difference:
        words = f"is of another training ({difference}); use another folder"
        if ".weights: " in difference:
            words += "; to resume, make the networks anew with the seed they had, as training changes them"
        raise ValueError(f"checkpoint: {path} {words}")


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose keys begin with a prefix, without it."""
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _digest(tensors: dict[str, Tensor], state: str) -> str:
    """Compute the SHA-256 of a checkpoint: of its tensors with their types and shapes, and of its header."""
    shapes = [[key, str(value.dtype), *value.shape] for key, value in sorted(tensors.items())]
    return tensors_sha256(tensors, state + json.dumps(shapes))


def clone_shared(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors on the CPU of which no two share memory, so that tied weights are written twice."""
    plain, seen = {}, set()
    for key, value in tensors.items():
        value = value.detach().cpu().contiguous()
        plain[key] = value.clone() if value.data_ptr() in seen else value
        seen.add(value.data_ptr())
    return plain
