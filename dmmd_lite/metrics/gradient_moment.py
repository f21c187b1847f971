"""The gradient moment and perplexity of text under a judge (paper, equations 13 and 14).

GM = || E_g[grad_theta log p(x)] - E_q[grad_theta log p(x)] ||^2 for samples g, real text q and a judge
p_theta, log p being the mean over tokens: squared nats per token and unit of the judge's parameters. It
depends on the judge and on this normalisation, so values of different judges are not comparable.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from dmmd_lite.denoisers.base import sequences_at_once
from dmmd_lite.metrics.entropy import sample_entropy
from dmmd_lite.metrics.intervals import jackknife, mean_interval
from dmmd_lite.metrics.judges import Judge, check_symbols
from dmmd_lite.utils.checks import check_choice
from dmmd_lite.utils.records import Record
from dmmd_lite.utils.rng import float64_device, generator_for, uniform
from dmmd_lite.worlds.base import World
from dmmd_lite.worlds.text import TextWorld

BLOCKS, FEWEST_BLOCKS = 32, 4
ESTIMATORS = ("all", "pairs")
COLUMNS = 1 << 18  # columns of the gradients that are converted to float64 at a time
BUDGET = 1 << 32  # maximum bytes of the gradients of one set of sequences, unless blocks are chosen


@dataclass(frozen=True, eq=False)
class Scores:
    """A judge's scores of a set of sequences.

    Args:
    nll: mean negative log-likelihood of every sequence, in nats per token, float64 [n].
    context: leading tokens that are read but not scored.
    """

    judge: Judge
    nll: np.ndarray
    context: int

    def described(self) -> dict:
        """Return what records say of the judge."""
        return {"judge": self.judge.name, "judge_sha256": self.judge.sha256, "context": self.context}


@dataclass(frozen=True, eq=False)
class BlockGradients(Scores):
    """Scores with gradients of the mean `nll` of M equal blocks of the sequences, by all P parameters.

    Args:
    gradients: [M, P] in the judge's precision.
    size: sequences in a block; the remainder is only scored.
    """

    gradients: Tensor
    size: int

    @property
    def blocks(self) -> int:
        """The number of blocks, M."""
        return len(self.gradients)


def default_blocks(judge: Judge, num: int) -> int:
    """Choose 32 blocks, or fewer for fewer sequences or where 32 gradients would take more than 4 GiB."""
    gradient = sum(p.numel() * p.element_size() for p in judge.module.parameters())
    return min(BLOCKS, num, max(FEWEST_BLOCKS, BUDGET // gradient))


@torch.no_grad()
def score(judge: Judge, tokens: Tensor, context: int = 0, batch_size: int | None = None) -> Scores:
    """Score tokens [n, L], without gradients. ValueError for a context outside [0, L)."""
    _check_context(context, tokens)
    batches = tokens.split(batch_size or _batch_size(judge, tokens))
    parts = [judge.module.nll(x.to(judge.device))[:, context:].mean(1) for x in batches]
    return Scores(judge, torch.cat(parts).double().cpu().numpy(), context)


def block_gradients(
    judge: Judge, tokens: Tensor, blocks: int = BLOCKS, context: int = 0, batch_size: int | None = None
) -> BlockGradients:
    """Compute gradients of tokens [n, L] in `blocks` runs of n // blocks rows; the remainder has no gradient.

    context > 0 scores only log p(x | the first `context` tokens), for conditional generation. Memory beyond
    the tokens does not grow with n: it holds `blocks` gradients in the judge's precision and a micro-batch of
    `batch_size` sequences (at most 32, fewer of long ones). Huge judges need fewer blocks.
    Errors: ValueError for fewer than 4 blocks, fewer sequences than blocks, or a context outside [0, L).
    """
    if not FEWEST_BLOCKS <= blocks <= len(tokens):
        raise ValueError(
            f"blocks: {blocks!r} is not allowed; "
            f"it must be from {FEWEST_BLOCKS} to the number of sequences, {len(tokens)}"
        )
    _check_context(context, tokens)
    parameters, size = list(judge.module.parameters()), len(tokens) // blocks
    gradients = torch.zeros(
        blocks, sum(p.numel() for p in parameters), dtype=parameters[0].dtype, device=judge.device
    )
    scores = []
    for gradient, block in zip(gradients, tokens[: blocks * size].split(size), strict=True):
        for batch in block.split(batch_size or _batch_size(judge, tokens)):
            nll = judge.module.nll(batch.to(judge.device))[:, context:].mean(1)
            parts = torch.autograd.grad(nll.sum() / size, parameters, materialize_grads=True)
            at = 0
            for part in parts:
                gradient[at : at + part.numel()] += part.flatten()
                at += part.numel()
            scores.append(nll.detach().double().cpu().numpy())
    if len(tokens) > blocks * size:
        scores.append(score(judge, tokens[blocks * size :], context, batch_size).nll)
    return BlockGradients(judge, np.concatenate(scores), context, gradients, size)


def gradient_moment(
    samples: BlockGradients, reference: BlockGradients | None, estimator: str = "all"
) -> Record:
    """Compute the GM of samples against a reference (equation 13), or without one || E_g[grad] ||^2
    ("uncentred").

    d_i is the difference of block i of the samples and block i of the reference, and E[d_i . d_j] = GM for
    i != j, so both estimators are unbiased and may be negative: "all" averages over all pairs of blocks,
    "pairs" over the disjoint pairs of equation 14. The interval is a jackknife over blocks, or Student's over
    pairs; near GM = 0 that of "all" is up to sqrt(2) times too wide.
    Errors: ValueError for sides of different judges, blocks or contexts, or an unknown estimator.
    """
    check_choice("estimator", estimator, ESTIMATORS)
    if reference is not None:
        for name in ("judge", "blocks", "context"):
            mine, other = getattr(samples, name), getattr(reference, name)
            if mine != other:
                raise ValueError(
                    f"reference: {name} {other!r} is not allowed; the samples were scored with {mine!r}"
                )
    gram = _gram(samples.gradients, None if reference is None else reference.gradients)
    value, low, high = _over_all(gram) if estimator == "all" else mean_interval(gram.diagonal(1)[::2])
    details = {
        **samples.described(),
        "form": "uncentred" if reference is None else "centred",
        "estimator": estimator,
        "blocks": samples.blocks,
        "n_reference": 0 if reference is None else reference.blocks * reference.size,
    }
    against = "nothing" if reference is None else f"{details['n_reference']} sequences"
    used = samples.blocks * samples.size
    return Record("gradient_moment", value, low, high, used, against, details)


def _gram(gradients: Tensor, subtracted: Tensor | None) -> np.ndarray:
    """Compute inner products of the rows of gradients - subtracted, [M, M] in float64."""
    exact, gram = float64_device(gradients.device), 0
    for at in range(0, gradients.shape[1], COLUMNS):
        part = gradients[:, at : at + COLUMNS].to(exact).double()
        if subtracted is not None:
            part = part - subtracted[:, at : at + COLUMNS].to(exact).double()
        gram = gram + part @ part.T
    return gram.cpu().numpy()


def _over_all(gram: np.ndarray) -> tuple[float, float, float]:
    """Compute (||sum d||^2 - sum ||d_i||^2) / (M (M - 1)) and its interval."""
    blocks, rows = len(gram), gram.sum(1) - gram.diagonal()
    value = float(rows.sum() / (blocks * (blocks - 1)))
    return value, *jackknife(value, (rows.sum() - 2 * rows) / ((blocks - 1) * (blocks - 2)))


def perplexity(samples: Scores, reference: Scores | None = None) -> Record:
    """Compute the generative perplexity, exp of the mean token negative log-likelihood.

    The interval is over sequences; the reference's perplexity is in the details. A lower one is not better:
    repetitive text has the lowest.
    """
    nll, n = samples.nll, len(samples.nll)
    value, low, high = (float(np.exp(nats)) for nats in mean_interval(nll))
    details = samples.described()
    if reference is not None:
        details |= {"reference": float(np.exp(reference.nll.mean())), "n_reference": len(reference.nll)}
    return Record("perplexity", value, low, high, n, f"judge {samples.judge.name}", details)


@lru_cache(maxsize=2)
def reference_gradients(
    judge: Judge, world: World, split: str, num: int, blocks: int = BLOCKS, context: int = 0
) -> BlockGradients:
    """Compute `block_gradients` of `World.reference`. The last two are kept for sweeps."""
    return block_gradients(judge, world.reference(split, num), blocks, context)


def origin(world: World, split: str) -> dict:
    """Return what records say of real sequences: their split, and the corpus where that can vary."""
    return {"split": split} | {k: v for k, v in world.provenance.items() if k == "corpus_sha256"}


def calibration(
    world: TextWorld, judge: Judge, num: int, seed: int = 0, weak: Tensor | None = None
) -> list[Record]:
    """Measure text whose quality is known by a judge, against `num` real windows of the test split.

    The sources, in `Record.model`, are "real" (`num` other windows), "repeated" (one of those, again and
    again), "shuffled" (those, the tokens of each in random order) and, if samples [n, L] of some model are
    given, "weak". Each gets three records: gradient_moment, perplexity, sample_entropy. `seed` determines the
    choice of windows and the order of tokens.
    Errors: ValueError for a judge of other symbols, more windows than half the split, or fewer than 4.
    """
    check_symbols(judge.name, judge.vocab_size, world)
    windows, generator = world.split("test"), generator_for("cpu", seed)
    if not FEWEST_BLOCKS <= num <= len(windows) // 2:
        raise ValueError(
            f"num: {num!r} is not allowed; it must be from {FEWEST_BLOCKS} to {len(windows) // 2}"
        )
    real, other = windows[torch.randperm(len(windows), generator=generator)[: 2 * num]].split(num)
    order = uniform(other.shape, generator).argsort(1)
    sources = {"real": other, "repeated": other[:1].expand(num, -1), "shuffled": other.gather(1, order)}
    if weak is not None:
        sources["weak"] = weak.cpu()
    blocks = default_blocks(judge, min(map(len, sources.values())))
    reference, records = block_gradients(judge, real, blocks), []
    for source, tokens in sources.items():
        seen = block_gradients(judge, tokens, blocks)
        measured = [gradient_moment(seen, reference), perplexity(seen, reference)]
        for record in [*measured, sample_entropy(tokens)]:
            details = {**record.details, **origin(world, "test")}
            records.append(replace(record, details=details, model=source, world=world.name, seed=seed))
    return records


def _batch_size(judge: Judge, tokens: Tensor) -> int:
    return min(32, sequences_at_once(tokens.shape[1], judge.vocab_size))


def _check_context(context: int, tokens: Tensor) -> None:
    if not 0 <= context < tokens.shape[1]:
        raise ValueError(
            f"context: {context!r} is not allowed; it must be at least 0 and below {tokens.shape[1]}"
        )
