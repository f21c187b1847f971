"""The diversity of text: distinct n-grams and words, runs that samples share, repetition within a sample.

A model that memorises or repeats itself can look good to any judge. The details contain every metric's value
for real sequences (`reference` [m, L], where given).
"""

from collections.abc import Callable

import numpy as np
from torch import Tensor

from dmmd_lite.metrics.intervals import mean_share, owner_numbers, share_interval, union_error
from dmmd_lite.utils.records import Record
from dmmd_lite.worlds.text import show_symbols

GRAM, RUN_TOKENS = 4, 32  # lengths of n-grams and of runs in tokens; powers of two
ALONE, SEVERAL = -1, -2  # in the place of a sample's only partner
PAIR_EXCESS = 3.5  # a jackknife counts a pair of duplicates as 8; its variance is 4 if rare, 5.5 if usual


def distinct_4grams(tokens: Tensor, reference: Tensor | None = None) -> Record:
    """Compute the share of distinct 4-grams among all 4-grams of all samples [n, L].

    It falls with n: compare at equal n.
    """
    return _distinct("distinct_4grams", _grams_of_samples, tokens, reference)


def distinct_words(tokens: Tensor, reference: Tensor | None = None) -> Record:
    """Compute the share of distinct words among all words of all samples [n, L] in the 27 symbols.

    Words that an end of the sample may cut are left out. It falls with n: compare at equal n.
    """
    return _distinct("distinct_words", _words_of_samples, tokens, reference)


def duplicates(tokens: Tensor, reference: Tensor | None = None) -> Record:
    """Compute the share of samples [n, L] with a run of 32 tokens that another sample of the set has too.

    It grows with n: compare at equal n.
    """
    partners = _partners(tokens)
    shared = partners != ALONE
    value, n = float(shared.mean()), len(tokens)
    sole = partners >= 0  # without its only partner, a sample would not count
    lost = shared + np.bincount(partners[sole], minlength=n)  # without each sample
    pairs = (partners[partners[sole]] == np.flatnonzero(sole)).sum() / 2
    variance = ((lost - lost.mean()) ** 2).sum()
    error = np.sqrt(max(variance - PAIR_EXCESS * pairs, variance / 2)) / n
    low, high = share_interval(value, n / 2, float(error))
    details = _real(lambda real: (_partners(real) != ALONE).mean(), reference)
    return Record("duplicates", value, low, high, n, _against(reference), details)


def repetition(tokens: Tensor, reference: Tensor | None = None) -> Record:
    """Compute the share of a sample's 4-grams that occurred earlier in it, averaged over samples [n, L]."""
    details = _real(lambda real: _repeated_grams(real).mean(), reference)
    return Record(
        "repetition", *mean_share(_repeated_grams(tokens)), len(tokens), _against(reference), details
    )


def runs(tokens: Tensor, length: int) -> np.ndarray:
    """Number the runs of `length` tokens (a power of two) from every place, [n, L - length + 1].

    Equal runs have equal indices, below n L. ValueError for sequences shorter than a run.
    """
    index = tokens.cpu().numpy().astype(np.int64)
    if index.shape[1] < length:
        raise ValueError(f"length: {index.shape[1]!r} is not allowed; a run has {length} tokens")
    half = 1
    while half < length:  # a run of 2 h tokens is two adjacent runs of h
        pairs = index[:, :-half] * (index.max() + 1) + index[:, half:]
        index = np.unique(pairs, return_inverse=True)[1].reshape(pairs.shape)
        half *= 2
    return index


def _grams_of_samples(tokens: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return all 4-grams and the samples they are in, each [n (L - 3)]."""
    grams = runs(tokens, GRAM)
    return grams.ravel(), np.repeat(np.arange(len(grams)), grams.shape[1])


def _words_of_samples(tokens: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return all whole words and the samples they are in."""
    rows = [
        text.split(" ")[1:-1] for text in show_symbols(tokens)
    ]  # the first and last word may be cut, or empty
    found = [(word, row) for row, words in enumerate(rows) for word in words if word]
    words, owners = zip(*found, strict=True) if found else ((), ())
    return np.unique(words, return_inverse=True)[1], np.array(owners, dtype=int)


def _partners(tokens: Tensor) -> np.ndarray:
    """Return the only other sample that each sample shares runs with, or `ALONE` or `SEVERAL`, [n]."""
    index = runs(tokens, RUN_TOKENS)
    n, sample = len(index), np.arange(len(index))[:, None]
    run, owner = np.divmod(np.unique(index * n + sample), n)
    number, total = (
        np.bincount(run),
        np.bincount(run, weights=owner),
    )  # of owners, and the sum of their places
    other = (total[index] - sample).astype(int)  # the other owner, where there are two
    lowest = np.where(number[index] == 2, other, n).min(1)
    highest = np.where(number[index] == 2, other, -1).max(1)
    partners = np.where(lowest == highest, lowest, np.where(highest < 0, ALONE, SEVERAL))
    return np.where((number[index] > 2).any(1), SEVERAL, partners)


def _repeated_grams(tokens: Tensor) -> np.ndarray:
    """Compute the share of 4-grams seen before in the same sample, [n]."""
    grams = np.sort(runs(tokens, GRAM), 1)
    return (grams[:, 1:] == grams[:, :-1]).sum(1) / grams.shape[1]


def _distinct(name: str, items_of: Callable, tokens: Tensor, reference: Tensor | None) -> Record:
    items, owners = items_of(tokens)
    n, counts = len(tokens), np.bincount(owners, minlength=len(tokens))
    item, owner = np.divmod(np.unique(items * n + owners), n)
    number, signature = np.bincount(item), np.bincount(item, owner_numbers(n)[owner])
    total = max(1, len(items))
    value = len(number) / total
    alone = np.bincount(owner[number[item] == 1], minlength=n)
    error, df = union_error(signature, number, alone - value * counts)
    details = _real(lambda real: len(set(items_of(real)[0])) / max(1, len(items_of(real)[0])), reference)
    low, high = share_interval(value, n, error / total, df)
    return Record(name, value, low, high, n, _against(reference), details)


def _real(metric: Callable, reference: Tensor | None) -> dict:
    if reference is None:
        return {}
    return {"real": float(metric(reference)), "n_real": len(reference)}


def _against(reference: Tensor | None) -> str:
    return "the samples themselves" if reference is None else f"{len(reference)} real sequences"
