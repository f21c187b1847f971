"""Metrics of token sequences: likelihood and n-grams under an exact chain, and entropies."""

from collections.abc import Iterable
from itertools import product

import numpy as np
import torch
from torch import Tensor

from dmmd_lite.denoisers import Denoiser, denoiser_noise, sequences_at_once
from dmmd_lite.metrics.bootstrap import bootstrap_weights
from dmmd_lite.processes import Process
from dmmd_lite.records import Record, bootstrap_mean, interval
from dmmd_lite.rng import generator_for
from dmmd_lite.worlds.markov import Markov


def log_likelihood(tokens: Tensor, world: Markov, seed: int = 0) -> Record:
    """Log-likelihood of samples [n, L] under the exact chain, in nats per character, averaged over samples.

    The chain's own value is in the details. More than that is not better: it is text of too little entropy.
    """
    length = tokens.shape[1]
    per_sequence = world.log_prob(tokens).cpu().numpy() / length
    details = {"chain": -world.entropy(length) / length}
    return Record("log_likelihood", *bootstrap_mean(per_sequence, seed), len(tokens), "exact chain", details)


def ngram_divergence(tokens: Tensor, world: Markov, seed: int = 0) -> Record:
    """Total variation between the pooled trigrams of samples [n, L] and the chain's exact trigram law.

    Biased upwards by finite samples: compare with `ngram_divergence_floor`. Interval over sequences.
    """
    trigrams, law = _trigrams(tokens, world), world.trigram_law().flatten().numpy()
    value = _divergence(trigrams, np.ones(len(tokens)), law)
    weights = bootstrap_weights(len(tokens), seed)
    replicates = np.array([_divergence(trigrams, w, law) for w in weights])
    return Record("ngram_divergence", value, *interval(value, replicates), len(tokens), "exact trigram law")


def ngram_divergence_floor(num: int, length: int, world: Markov, repeats: int = 5, seed: int = 0) -> float:
    """What the chain itself scores: mean `ngram_divergence` of `repeats` sets of `num` exact samples."""
    generator, law = generator_for("cpu", seed), world.trigram_law().flatten().numpy()
    sets = (_trigrams(world.sample(num, generator, length=length), world) for _ in range(repeats))
    return float(np.mean([_divergence(trigrams, np.ones(num), law) for trigrams in sets]))


def _trigrams(tokens: Tensor, world: Markov) -> np.ndarray:
    """Index of every three symbols in a row, [n, L - 2]."""
    x, v = tokens.cpu().numpy(), world.vocab_size
    return (x[:, :-2] * v + x[:, 1:-1]) * v + x[:, 2:]


def _divergence(trigrams: np.ndarray, weights: np.ndarray, law: np.ndarray) -> float:
    """Total variation of trigrams [n, L - 2], sequence i counted weights[i] times, from their law."""
    counts = np.bincount(trigrams.ravel(), np.repeat(weights, trigrams.shape[1]), minlength=len(law))
    return float(np.abs(counts / counts.sum() - law).sum() / 2)


def sample_entropy(tokens: Tensor, seed: int = 0) -> Record:
    """Entropy in nats of each sequence's own token histogram, averaged over samples [n, L].

    At most log L. Falls for repetitive sequences, whatever the other metrics say.
    """
    x = tokens.cpu().numpy()
    p = np.stack([(x == c).mean(1) for c in np.unique(x)], 1)
    per_sequence = -(p * np.log(p, where=p > 0, out=np.zeros_like(p))).sum(1)
    return Record("sample_entropy", *bootstrap_mean(per_sequence, seed), len(x), "own token histogram")


@torch.no_grad()
def output_entropy(
    denoiser: Denoiser, process: Process, tokens: Tensor, times: Iterable[float], generator: torch.Generator
) -> Record:
    """Entropy in nats per token of x_hat(z_t), at all `times`, for data tokens [n, L] diffused to them.

    Masked noise: over masked positions only, so that the noisier times weigh more. Interval over sequences.
    """
    times = [float(t) for t in times]
    total, positions = [], []
    for x in tokens.split(sequences_at_once(8 * tokens.shape[1], process.vocab_size, 1000)):
        entropy, scored = torch.zeros(len(x), dtype=torch.float64), torch.zeros(len(x), dtype=torch.float64)
        for t, length in product(times, process.stages(x.shape[1])):
            t_x = torch.full((len(x),), t, device=x.device)
            z = process.corrupt(x[:, :length], t_x, generator)
            log_x = denoiser(z, t_x, denoiser_noise(denoiser, len(z), generator, z.device)).cpu().double()
            where = process.scored(z).cpu()
            entropy += (torch.special.entr(log_x.exp()).sum(-1) * where).sum(-1)
            scored += where.sum(-1)
        total.append(entropy)
        positions.append(scored)
    total, positions = torch.cat(total).numpy(), torch.cat(positions).numpy()
    value = float(total.sum() / positions.sum())
    weights = bootstrap_weights(len(tokens), 0, replicates=1000)
    low, high = interval(value, weights @ total / (weights @ positions))
    return Record("output_entropy", value, low, high, len(tokens), "data diffused to times", {"times": times})
