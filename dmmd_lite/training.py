"""The one training loop. It knows players and their losses, never which method it trains.

A run lives in a folder: `log.jsonl` (one line every `log_every` steps) and `checkpoint.safetensors`
(weights, averages, a method's copies, optimisers, random states, best weights; the numbers that are not
tensors as JSON in its header), replaced atomically. Calling `train` again on the folder goes on from the
checkpoint and, on a CPU, ends in the same bits as a run that was never interrupted.

Noise and data have random numbers of their own (`batches`). Under `torchrun` every process draws its own
part of the global batch and gradients are averaged.
"""

import copy
import json
import math
import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from dmmd_lite.batches import Batches
from dmmd_lite.interrupts import Interrupted, collect_signals
from dmmd_lite.networks import compile_layers
from dmmd_lite.objectives import Method
from dmmd_lite.progress import progress_bar
from dmmd_lite.rng import generator_for

CHECKPOINT = "checkpoint.safetensors"
AT_ONCE = ("cpu",)  # devices whose numbers can be looked at after every step without waiting for anything


@dataclass(frozen=True)
class Options:
    """How to train. Dictionaries are keyed by player; `lr` must name every player.

    steps: loop steps. batch_size: sequences a step over all processes and accumulation parts.
    lr: peak rates; warmup steps of linear rise; decay: "linear" or "cosine" to zero, or "constant".
    decay_from: the part of the run, in [0, 1), before rates begin to fall; None: they fall from its start.
    ema: decay of each averaged player (players not named are not averaged).
    compile: whether the layers of players and teacher, those in a `ModuleList`, go through `torch.compile`.
    validate_every: steps between validations (0: never); the best averaged weights are kept.
    """

    steps: int
    batch_size: int
    lr: dict[str, float]
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    warmup: int = 100
    decay: str = "constant"
    decay_from: float | None = None
    clip: float = 1.0
    accumulation: int = 1
    ema: dict[str, float] = field(default_factory=dict)
    compile: bool = False
    log_every: int = 50
    checkpoint_every: int = 500
    validate_every: int = 0

    def __post_init__(self):
        if self.decay not in ("constant", "linear", "cosine"):
            raise ValueError(
                f"decay: {self.decay!r} is not allowed; choose one of ('constant', 'linear', 'cosine')"
            )
        if self.decay_from is not None and not 0 <= self.decay_from < 1:
            raise ValueError(f"decay_from: {self.decay_from!r} is not allowed; it must lie in [0, 1)")
        if self.decay_from is not None and self.decay == "constant":
            raise ValueError(f"decay_from: {self.decay_from!r} is not allowed where decay is 'constant'")
        for name in ("steps", "batch_size", "accumulation", "log_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)!r} is not allowed; it must be at least 1")
        if len(self.betas) != 2:
            raise ValueError(f"betas: {self.betas!r} is not allowed; it must be two numbers")
        numbers = {"clip": self.clip, "weight_decay": self.weight_decay}
        numbers |= {f"{n}.{key}": v for n in ("lr", "ema") for key, v in getattr(self, n).items()}
        for name, value in {**numbers, "betas.0": self.betas[0], "betas.1": self.betas[1]}.items():
            if not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise ValueError(f"{name}: {value!r} is not allowed; it must be a finite number, at least 0")

    def rate(self, step: int) -> float:
        """Factor on every learning rate at a step, in [0, 1]; a pure function of the step."""
        rise = min(1.0, (step + 1) / max(1, self.warmup))
        begin = (self.decay_from or 0) * self.steps
        left = min(1.0, (self.steps - step) / (self.steps - begin))
        fall = {"constant": 1.0, "linear": left, "cosine": 0.5 - 0.5 * math.cos(math.pi * left)}[self.decay]
        return rise * fall


class NonFiniteLoss(RuntimeError):
    """A loss term became NaN or infinite at `step`; the message names term and last good checkpoint, too."""

    def __init__(self, message: str, step: int):
        super().__init__(message)
        self.step = step


@dataclass
class Result:
    """What a run leaves: averaged players (raw where not averaged), the raw ones, and numbers."""

    averaged: dict[str, nn.Module]
    raw: dict[str, nn.Module]
    best_step: int | None
    best_value: float | None
    seconds: float
    steps: int


def rank_and_world() -> tuple[int, int]:
    """This process's number and how many there are, as `torchrun` says: (0, 1) without it."""
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def train(
    method: Method,
    data: Callable[[int, torch.Generator], Tensor],
    options: Options,
    workdir: Path,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    validate: Callable[[dict[str, nn.Module]], float] | None = None,
    identity: str = "",
) -> Result:
    """Train the players of `method` and return them, resuming from `workdir` if it holds a checkpoint.

    data(batch, generator) gives clean tokens [batch, L] on the CPU, from no other random numbers than those
    of its generator, also there; on CUDA a thread calls it. validate(averaged players) gives a number to be
    minimised; with `validate_every` the averaged weights of the best validation are what `Result.averaged`
    holds. identity says what is being trained: a checkpoint of something else is refused.
    Errors: ValueError for a checkpoint that is damaged or of another identity; NonFiniteLoss; Interrupted.
    """
    workdir, device = Path(workdir), torch.device(device)
    rank, world = rank_and_world()
    batch = options.batch_size // (world * options.accumulation)
    if batch * world * options.accumulation != options.batch_size:
        raise ValueError(
            f"batch_size: {options.batch_size} is not allowed; it must divide by processes x accumulation"
        )
    seed = seed * world + rank
    batches = Batches(data, batch, seed, device, ahead=device.type == "cuda")
    run = _Run(method, options, workdir, generator_for(device, seed), batches, device, identity)
    run.restore()
    run.share()
    workdir.mkdir(parents=True, exist_ok=True)
    if options.compile:
        _compile(method)
    autocast = torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" else nullcontext()
    started, log_path = time.monotonic() - run.seconds, workdir / "log.jsonl"
    if rank == 0:
        _cut_log(log_path, run.step)
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
            if logs or saves or validates or device.type in AT_ONCE:
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


class _Run:
    """Everything that changes while training, and how it is saved."""

    def __init__(self, method, options, workdir, generator, batches, device, identity):
        self.options, self.path, self.device = options, workdir / CHECKPOINT, device
        self.generator, self.batches = generator, batches
        self.rank, self.world = rank_and_world()
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

    def result(self) -> Result:
        averaged = {name: copy.deepcopy(player) for name, player in self.averaged().items()}
        if self.best:
            for name, player in averaged.items():
                player.load_state_dict({key: self.best[f"{name}/{key}"] for key in player.state_dict()})
        return Result(averaged, self.players, self.best_step, self.best_value, self.seconds, self.step)

    def _modules(self):
        yield from ((f"player/{name}", player) for name, player in self.players.items())
        yield from ((f"ema/{name}", player) for name, player in self.ema.items())
        yield from ((f"copy/{name}", module) for name, module in self.copies.items())

    def _of_all(self, state: Tensor) -> Tensor:
        """A generator's states in all processes, one a row; every process has to ask."""
        if self.world == 1:
            return state[None]
        states = [torch.empty_like(state, device=self.device) for _ in range(self.world)]
        dist.all_gather(states, state.to(self.device))
        return torch.stack(states)

    def save(self) -> None:
        """Write the checkpoint atomically, from the first process; every process has to call."""
        noise, data = self._of_all(self.generator.get_state()), self._of_all(self.batches.state)
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
        save_file(_apart(tensors), part, {"state": json.dumps(facts)})
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
        self.batches.go_on_from(data)
        torch.set_rng_state(tensors["random/torch"])
        self.step, self.seconds = facts["step"], facts["seconds"]
        self.best_step, self.best_value = facts["best_step"], facts["best_value"]


def _apart(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors on the CPU, none sharing memory with another: tied weights are written twice."""
    plain, seen = {}, set()
    for key, value in tensors.items():
        value = value.detach().cpu().contiguous()
        plain[key] = value.clone() if value.data_ptr() in seen else value
        seen.add(value.data_ptr())
    return plain


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


def _cut_log(path: Path, step: int) -> None:
    """Drop the lines a stopped run wrote after its checkpoint, and one it did not finish."""
    if path.exists():
        lines = [line for line in path.read_text().splitlines() if line.endswith("}")]
        part = path.with_name(f".{path.name}.part")
        part.write_text("".join(line + "\n" for line in lines if json.loads(line)["step"] <= step))
        os.replace(part, path)
