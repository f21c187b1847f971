"""What several tests share: noise processes, their transition matrices, brute-force Bayes, chi-square."""

import pytest
import torch
from scipy.stats import chi2
from torch import Tensor

from dmmd_lite.processes import PROCESSES, Masked, Process, get_process
from dmmd_lite.schedules import SCHEDULES

LEAST_P = 1e-6  # a correct sampler fails a chi-square once in a million runs, whatever the seed

every_schedule = pytest.mark.parametrize("schedule", sorted(SCHEDULES))
every_process = pytest.mark.parametrize("process_name", sorted(PROCESSES))


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


def transition(process: Process, alpha: Tensor | float) -> Tensor:
    """The matrix alpha I + (1 - alpha) 1 pi^T over all values of z, [S, S], rows from, columns to."""
    stay = torch.eye(process.num_symbols, dtype=torch.float64)
    pi = stay[-1] if isinstance(process, Masked) else stay.mean(0)
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
