"""What several tests share: noise processes, their transition matrices, brute-force Bayes, chi-square, small
networks, and processes of their own."""

import multiprocessing
import os
import resource
import sys
import time
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import torch
from scipy.stats import chi2
from torch import Tensor

from dmmd_lite.cli import main
from dmmd_lite.denoisers.base import Denoiser, NetworkDenoiser
from dmmd_lite.models.store import save_model
from dmmd_lite.models.task import task_of
from dmmd_lite.networks.transformer import Transformer
from dmmd_lite.processes import PROCESSES, get_process
from dmmd_lite.processes.base import Process
from dmmd_lite.processes.schedules import SCHEDULES
from dmmd_lite.recipes.catalogue import get_recipe
from dmmd_lite.training.state import TrainingResult
from dmmd_lite.utils.provenance import machine

ROOT = Path(__file__).resolve().parents[1]  # of the checkout
LEAST_P = 1e-6  # a correct sampler fails a chi-square once in a million runs, whatever the seed

PRELOADED = ["dmmd_lite.cli", "dmmd_lite.models.loading", "pytest", "scipy.stats"]
PRELOADED += ["papermill", "jupytext", "dmmd_lite.pages.sweep", "dmmd_lite.report.sweeps"]

every_schedule = pytest.mark.parametrize("schedule", sorted(SCHEDULES))
every_process = pytest.mark.parametrize("process_name", sorted(PROCESSES))


class Counting(Denoiser):
    """Another denoiser, counting its evaluations in `calls`."""

    def __init__(self, denoiser: Denoiser):
        super().__init__()
        self.denoiser, self.calls = denoiser, 0

    def forward(self, z: Tensor, t: Tensor, noise: Tensor | None = None) -> Tensor:
        self.calls += 1
        return self.denoiser(z, t, noise)


def chi_square_p(counts: Tensor, probs: Tensor) -> float:
    """P-value of the hypothesis that each row of counts [R, N] comes from its law probs [R, N].

    Classes expected fewer than 5 times are pooled, row by row, and a pool below 5 is left out. An impossible
    class that was drawn gives 0.
    """
    counts, probs = counts.double(), probs.double().expand(counts.shape)
    if counts[probs == 0].any():
        return 0.0
    expected = probs * counts.sum(-1, keepdim=True)
    rare = expected < 5
    pool = [torch.where(rare, a, 0).sum(-1, keepdim=True) for a in (counts, expected)]
    counts = torch.cat([torch.where(rare, 0, counts), pool[0]], -1)
    expected = torch.cat([torch.where(rare, 0, expected), pool[1]], -1)
    used = expected >= 5
    statistic = ((counts - expected)[used] ** 2 / expected[used]).sum()
    freedom = int(used.sum()) - len(counts)
    return float(chi2.sf(statistic, freedom)) if freedom else 1.0


def count(tokens: Tensor, classes: int) -> Tensor:
    """How often each class appears in each row of tokens [R, N], [R, classes]."""
    return torch.stack([row.bincount(minlength=classes) for row in tokens])


def transition(process: Process, alpha: Tensor | float, pi: Tensor | None = None) -> Tensor:
    """The matrix alpha I + (1 - alpha) 1 pi^T over all values of z, [S, S], rows from, columns to."""
    stay = torch.eye(process.num_symbols, dtype=torch.float64)
    if pi is None:
        pi = stay[-1] if process.absorbing else stay.mean(0)
    return alpha * stay + (1 - alpha) * pi


def sequences(symbols: int, length: int) -> Tensor:
    """All sequences in lexicographic order, [symbols^length, length]."""
    return torch.cartesian_prod(*[torch.arange(symbols)] * length).reshape(-1, length)


def bayes(x: Tensor, p_x: Tensor, z: Tensor, Q: Tensor) -> tuple[Tensor, Tensor]:
    """p(x | z) [Z, N] for the sequences x [N, L] of prior p_x [N] and z [Z, L], and the evidence p(z) [Z]."""
    joint = p_x * Q[x.unsqueeze(0), z.unsqueeze(1)].prod(-1)
    return joint / joint.sum(-1, keepdim=True), joint.sum(-1)


def position_laws(x: Tensor, p: Tensor, vocab_size: int) -> Tensor:
    """Marginal law of every position, [Z, L, V], of sequences x [N, L] with probabilities p [Z, N]."""
    return torch.einsum("zn,nlv->zlv", p, torch.nn.functional.one_hot(x, vocab_size).double())


def make_process(process_name: str, vocab_size: int, schedule: str = "linear") -> tuple[Process, Tensor]:
    """A process and two float64 times s < t, 0.3 and 0.7."""
    return get_process(process_name, vocab_size, schedule), torch.tensor([0.3, 0.7], dtype=torch.float64)


def wake(network: torch.nn.Module, rng: torch.Generator) -> torch.nn.Module:
    """The network with random values where it starts at zero, its noise projection excepted."""
    with torch.no_grad():
        for name, p in network.named_parameters():
            if not p.any() and "noise_projection" not in name:
                p.copy_(torch.randn(p.shape, generator=rng) / 4)
    return network


def tiny_network(process: Process, length: int, rng: torch.Generator, **options) -> Transformer:
    """An awake little transformer for a process, the same for the same draws of the generator."""
    torch.manual_seed(int(torch.randint(2**31, (), generator=rng)))
    sizes = {"width": 16, "depth": 1, "heads": 2, "time_width": 8, **options}
    return wake(Transformer(process.num_symbols, process.vocab_size, length, **sizes), rng)


def frequencies(tokens: Tensor, vocab_size: int) -> Tensor:
    """How often each of the V^L sequences occurs among tokens [N, L], in lexicographic order."""
    length = tokens.shape[1]
    place_values = vocab_size ** torch.arange(length - 1, -1, -1)
    return (tokens @ place_values).bincount(minlength=vocab_size**length)


class Table(Denoiser):
    """A denoiser given by random logits for every z, which drift with time."""

    def __init__(self, process: Process, length: int, rng: torch.Generator):
        super().__init__()
        shape = (process.num_symbols**length, length, process.vocab_size)
        self.process = process
        self.start, self.drift = torch.randn(2, *shape, generator=rng)

    def forward(self, z, t, noise=None):
        index = z @ self.process.num_symbols ** torch.arange(z.shape[1] - 1, -1, -1)
        logits = self.start[index] + 2 * t[:, None, None] * self.drift[index]
        return self.process.carry_over(logits.log_softmax(-1), z)


class Killed(Exception):
    """What stops a run here without a word."""


def kill_after(draws, data):
    """`data` that raises instead of its next draw."""
    left = iter(range(draws))

    def draw_or_die(batch, generator):
        if next(left, None) is None:
            raise Killed
        return data(batch, generator)

    return draw_or_die


def start_process(function, *arguments, output: Path, **environment) -> multiprocessing.Process:
    """`function(*arguments)` in a process of its own, which exits with what it returns.

    It is forked from a server that has imported the package, so it starts at once. Its output goes to a file.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    environment = {**os.environ, **environment}
    process = context.Process(
        target=_run_process, args=(function, arguments, output, environment), daemon=True
    )
    process.start()
    return process


def _run_process(function, arguments, output, environment):
    os.environ.update(environment)
    torch.set_num_threads(1)
    with ExitStack() as stack:
        file = stack.enter_context(output.open("w"))
        stack.enter_context(redirect_stdout(file))
        stack.enter_context(redirect_stderr(file))
        code = function(*arguments)
    sys.exit(code)


def exit_codes(*processes: multiprocessing.Process) -> list[int | None]:
    """Wait for processes to end; None for one that has not after five minutes."""
    for process in processes:
        process.join(300)
    return [process.exitcode for process in processes]


def start_command(arguments: list[str], output: Path, **environment) -> multiprocessing.Process:
    """`dmmd-lite ARGUMENTS` in a process of its own."""
    return start_process(main, arguments, output=output, **environment)


def save_random_model(name: str, path: Path, rng: torch.Generator) -> NetworkDenoiser:
    """A recipe's network with random weights, saved at `path` (without ending) as if it had been trained.

    Its noise input matters, if it has one."""
    task = task_of(get_recipe(name, "smoke"))
    torch.manual_seed(rng.initial_seed())
    denoiser = NetworkDenoiser(wake(task.recipe.make_network(task.world), rng), task.process)
    if denoiser.network.noise:
        torch.nn.init.normal_(denoiser.network.noise_projection.weight)
    player = "denoiser" if task.recipe.role == "teacher" else "generator"
    result = TrainingResult({player: denoiser}, {}, 7, 0.5, 1.0, 20)
    save_model(path, task, result, player, 3, machine("cpu"))
    return denoiser


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every file below a folder with its bytes, every folder with None."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


@contextmanager
def full_disk(left: int = 1000):
    """No file may grow beyond `left` bytes, as on a disk that is full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (left, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def wait_until(condition, seconds=300):
    """Wait for a condition to hold; the test fails after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def gone(pid: int) -> bool:
    """Return whether a process has ended or is a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True
