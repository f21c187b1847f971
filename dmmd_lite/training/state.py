"""Everything that changes while training, and how it is saved and restored."""

import copy
import json
import math
import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

CHECKPOINT = "checkpoint.safetensors"


@dataclass
class TrainingResult:
    """What a run leaves: averaged players (raw where not averaged), the raw ones, and numbers."""

    averaged: dict[str, nn.Module]
    raw: dict[str, nn.Module]
    best_step: int | None
    best_value: float | None
    seconds: float
    steps: int


def rank_and_size() -> tuple[int, int]:
    """This process's number and how many there are, as `torchrun` says: (0, 1) without it."""
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


class RunState:
    """Everything that changes while training, and how it is saved."""

    def __init__(self, method, options, workdir, generator, batches, device, identity):
        self.options, self.path, self.device = options, workdir / CHECKPOINT, device
        self.generator, self.batches = generator, batches
        self.rank, self.world = rank_and_size()
        self.identity = identity if self.world == 1 else f"{identity} on {self.world} processes"
        self.players = {name: player.to(device) for name, player in method.players.items()}
        if set(options.lr) != set(self.players):
            raise ValueError(
                f"lr: {options.lr} is not allowed; it must name exactly the players {sorted(self.players)}"
            )
        if not set(options.ema) <= set(self.players):
            raise ValueError(f"ema: {options.ema} is not allowed; the players are {sorted(self.players)}")
        self.copies = {name: module.to(device) for name, module in getattr(method, "copies", {}).items()}
        self.ema = {name: copy.deepcopy(self.players[name]).requires_grad_(False) for name in options.ema}
        self.optimizers = {
            name: torch.optim.AdamW(
                player.parameters(),
                lr=options.lr[name],
                betas=options.betas,
                weight_decay=options.weight_decay,
                fused=True,
            )
            for name, player in self.players.items()
        }
        self.step, self.seconds, self.best, self.best_step, self.best_value = 0, 0.0, {}, None, None

    def share(self) -> None:
        """Begin alike: every process takes the first one's weights. ValueError where they would go on from
        different steps."""
        if self.world == 1:
            return
        first, last = -self.agreed(-self.step), self.agreed(self.step)
        if first != last:
            raise ValueError(
                f"out: {self.path.parent} is not allowed; processes find checkpoints of steps {first} and "
                f"{last} there, and all hosts have to share the folder"
            )
        for _, module in self._modules():
            for tensor in module.state_dict().values():
                dist.broadcast(tensor, 0)

    def agreed(self, number: int) -> int:
        """The largest number any process brings, so that all of them stop at the same step."""
        if self.world == 1:
            return number
        shared = torch.tensor(number, device=self.device)
        dist.all_reduce(shared, dist.ReduceOp.MAX)
        return int(shared)

    def mean(self, values: dict[str, Tensor]) -> dict[str, float]:
        """Means over all processes, each of which has its own part of the batch."""
        found = torch.stack([value.float() for value in values.values()])
        if self.world > 1:
            dist.all_reduce(found)
        return dict(zip(values, (found / self.world).tolist(), strict=True))

    def update(self, player: str, rate: float) -> Tensor:
        """Clip and apply the gradients a player holds, then move its average. Returns the gradient's norm."""
        parameters, optimizer = list(self.players[player].parameters()), self.optimizers[player]
        if self.world > 1:
            gradients = [p.grad for p in parameters if p.grad is not None]
            flat = nn.utils.parameters_to_vector(gradients)
            dist.all_reduce(flat)
            nn.utils.vector_to_parameters(flat.div_(self.world), gradients)
        norm = nn.utils.clip_grad_norm_(parameters, self.options.clip, foreach=True)
        for group in optimizer.param_groups:
            group["lr"] = self.options.lr[player] * rate
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if player in self.ema:
            decay = min(self.options.ema[player], (1 + self.step) / (10 + self.step))  # short memory at first
            averages = list(self.ema[player].parameters())
            torch._foreach_lerp_(averages, [p.detach() for p in parameters], 1 - decay)
        return norm.detach()

    def averaged(self) -> dict[str, nn.Module]:
        """Averaged players; the raw one where no average is kept."""
        return {name: self.ema.get(name, player) for name, player in self.players.items()}

    def keep_if_best(self, value: float) -> None:
        if not math.isnan(value) and (self.best_value is None or value < self.best_value):
            self.best_step, self.best_value = self.step, value
            self.best = {
                f"{name}/{key}": tensor.detach().clone()
                for name, player in self.averaged().items()
                for key, tensor in player.state_dict().items()
            }

    def result(self) -> TrainingResult:
        averaged = {name: copy.deepcopy(player) for name, player in self.averaged().items()}
        if self.best:
            for name, player in averaged.items():
                player.load_state_dict({key: self.best[f"{name}/{key}"] for key in player.state_dict()})
        return TrainingResult(
            averaged, self.players, self.best_step, self.best_value, self.seconds, self.step
        )

    def _modules(self):
        yield from ((f"player/{name}", player) for name, player in self.players.items())
        yield from ((f"ema/{name}", player) for name, player in self.ema.items())
        yield from ((f"copy/{name}", module) for name, module in self.copies.items())

    def gather_states(self, state: Tensor) -> Tensor:
        """A generator's states in all processes, one a row; every process has to ask."""
        if self.world == 1:
            return state[None]
        states = [torch.empty_like(state, device=self.device) for _ in range(self.world)]
        dist.all_gather(states, state.to(self.device))
        return torch.stack(states)

    def save(self) -> None:
        """Write the checkpoint atomically, from the first process; every process has to call."""
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
        facts = {
            "identity": self.identity,
            "step": self.step,
            "seconds": self.seconds,
            "best_step": self.best_step,
            "best_value": self.best_value,
        }
        part = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        save_file(clone_shared(tensors), part, {"state": json.dumps(facts)})
        os.replace(part, self.path)

    def restore(self) -> None:
        """Load the checkpoint if there is one."""
        if not self.path.exists():
            return
        try:
            with safe_open(self.path, "pt") as file:
                facts = json.loads((file.metadata() or {})["state"])
                self._load(facts, {key: file.get_tensor(key) for key in file.keys()})
        except (SafetensorError, KeyError, TypeError, RuntimeError, json.JSONDecodeError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"checkpoint: {self.path} is damaged or of another version ({reason}); "
                "delete it to start again"
            ) from None

    def _load(self, facts: dict, tensors: dict[str, Tensor]) -> None:
        if facts["identity"] != self.identity:
            raise ValueError(
                f"checkpoint: {self.path} belongs to another recipe or other settings; use another folder"
            )

        def under(prefix):
            return {
                key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)
            }

        for prefix, module in self._modules():
            module.load_state_dict(under(f"{prefix}/"))
        for name, optimizer in self.optimizers.items():
            states = {}
            for key, value in under(f"optimizer/{name}/").items():
                index, item = key.split("/")
                states.setdefault(int(index), {})[item] = value
            optimizer.load_state_dict(
                {"state": states, "param_groups": optimizer.state_dict()["param_groups"]}
            )
        self.best = under("best/")
        noise, data = (tensors[f"random/{name}"][self.rank].clone() for name in ("noise", "data"))
        self.generator.set_state(noise)  # a view is misread
        self.batches.resume_from(data)
        torch.set_rng_state(tensors["random/torch"])
        self.step, self.seconds = facts["step"], facts["seconds"]
        self.best_step, self.best_value = facts["best_step"], facts["best_value"]


def clone_shared(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors on the CPU, none sharing memory with another: tied weights are written twice."""
    plain, seen = {}, set()
    for key, value in tensors.items():
        value = value.detach().cpu().contiguous()
        plain[key] = value.clone() if value.data_ptr() in seen else value
        seen.add(value.data_ptr())
    return plain
