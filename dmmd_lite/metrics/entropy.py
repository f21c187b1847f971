"""The entropy of a sequence's tokens, and that of a denoiser's predictions."""

from collections.abc import Iterable
from itertools import product

import numpy as np
import torch
from torch import Tensor

from dmmd_lite.denoisers.base import Denoiser, denoiser_noise, sequences_at_once
from dmmd_lite.metrics.intervals import jackknife, mean_interval
from dmmd_lite.processes.base import Process
from dmmd_lite.utils.records import Record


def sample_entropy(tokens: Tensor) -> Record:
    """Compute the entropy in nats of each sequence's token histogram, averaged over samples [n, L].

    It is at most log L, and low for repetitive sequences, which other metrics may not notice.
    """
    x = tokens.cpu().numpy()
    p = np.stack([(x == c).mean(1) for c in np.unique(x)], 1)
    per_sequence = -(p * np.log(p, where=p > 0, out=np.zeros_like(p))).sum(1)
    return Record("sample_entropy", *mean_interval(per_sequence, minimum=0), len(x), "own token histogram")


@torch.no_grad()
def output_entropy(
    denoiser: Denoiser, process: Process, tokens: Tensor, times: Iterable[float], generator: torch.Generator
) -> Record:
    """Compute the entropy in nats per token of x_hat(z_t) for data tokens [n, L] diffused to all `times`.

    Masked noise counts masked positions only, so that noisier times weigh more. The interval is over
    sequences.
    """
    times = [float(t) for t in times]
    total, positions = [], []
    for x in tokens.split(sequences_at_once(8 * tokens.shape[1], process.vocab_size, 1000)):
        entropy, scored = torch.zeros(len(x), dtype=torch.float64), torch.zeros(len(x), dtype=torch.float64)
        for t, length in product(times, process.stages(x.shape[1])):
            t_x = torch.full((len(x),), t, device=x.device)
            z = process.corrupt(x[:, :length], t_x, generator)
            log_x = denoiser(z, t_x, denoiser_noise(denoiser, len(z), generator, z.device)).cpu().double()
            where = process.loss_mask(z).cpu()
            entropy += (torch.special.entr(log_x.exp()).sum(-1) * where).sum(-1)
            scored += where.sum(-1)
        total.append(entropy)
        positions.append(scored)
    total, positions = torch.cat(total).numpy(), torch.cat(positions).numpy()
    value = float(total.sum() / positions.sum())
    low, high = jackknife(value, (total.sum() - total) / (positions.sum() - positions).clip(min=1), minimum=0)
    return Record("output_entropy", value, low, high, len(tokens), "data diffused to times", {"times": times})
