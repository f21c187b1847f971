"""The diversity of text: distinct n-grams and words, runs that samples share, repetition within a sample.

A model that memorises or repeats itself can look good to any judge. The details contain every metric's value
for real sequences (`reference` [m, L], where given).
"""

from collections.abc import Callable

import numpy as np
from torch import Tensor

from dmmd_lite.metrics.bootstrap import bootstrap_mean, bootstrap_weights, interval
from dmmd_lite.utils.records import Record
from dmmd_lite.worlds.text import show_symbols

GRAM, RUN_TOKENS = 4, 32  # lengths of n-grams and of runs in tokens; powers of two


def distinct_4grams(tokens: Tensor, seed: int = 0, reference: Tensor | None = None) -> Record:
    """Compute the share of distinct 4-grams among all 4-grams of all samples [n, L].

    It falls with n: compare at equal n. It also falls under resampling, so the interval is that of replicates
    centred on the estimate.
    """
    return _pooled("distinct_4grams", _grams_of_samples, tokens, seed, reference)


def distinct_words(tokens: Tensor, seed: int = 0, reference: Tensor | None = None) -> Record:
    """Compute the share of distinct words among all words of all samples [n, L] in the 27 symbols.

    Words that an end of the sample may cut are left out. Comparison and interval: as for `distinct_4grams`.
    """
    return _pooled("distinct_words", _words_of_samples, tokens, seed, reference)


def duplicates(tokens: Tensor, seed: int = 0, reference: Tensor | None = None) -> Record:
    """Compute the share of samples [n, L] with a run of 32 tokens that another sample of the set has too.

    It grows with n: compare at equal n.
    """
    return _averaged("duplicates", _shares_a_run, tokens, seed, reference)


def repetition(tokens: Tensor, seed: int = 0, reference: Tensor | None = None) -> Record:
    """Compute the share of a sample's 4-grams that occurred earlier in it, averaged over samples [n, L]."""
    return _averaged("repetition", _repeated_grams, tokens, seed, reference)


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


def _shares_a_run(tokens: Tensor) -> np.ndarray:
    """Decide whether each sample has a run that another one has, float [n]."""
    index = runs(tokens, RUN_TOKENS)
    owner = np.broadcast_to(np.arange(len(index))[:, None], index.shape)
    first, last = np.full(index.max() + 1, len(index)), np.zeros(index.max() + 1, dtype=int)
    np.minimum.at(first, index, owner)
    np.maximum.at(last, index, owner)
    return (first != last)[index].any(1).astype(float)


def _repeated_grams(tokens: Tensor) -> np.ndarray:
    """Compute the share of 4-grams seen before in the same sample, [n]."""
    grams = np.sort(runs(tokens, GRAM), 1)
    return (grams[:, 1:] == grams[:, :-1]).sum(1) / grams.shape[1]


def _pooled(name: str, items_of: Callable, tokens: Tensor, seed: int, reference: Tensor | None) -> Record:
    items, owners = items_of(tokens)
    counts = np.bincount(owners, minlength=len(tokens))

    def share(weights: np.ndarray) -> float:
        """Compute the share of distinct items among samples, sample i counted weights[i] times."""
        drawn = items[weights[owners] > 0]
        return len(drawn) and np.count_nonzero(np.bincount(drawn)) / (weights @ counts)

    value = float(share(np.ones(len(tokens))))
    low, high = interval(value, np.array([share(w) for w in bootstrap_weights(len(tokens), seed)]))
    details = _real(lambda real: len(set(items_of(real)[0])) / max(1, len(items_of(real)[0])), reference)
    return Record(name, value, max(low, 0.0), min(high, 1.0), len(tokens), _against(reference), details)


def _averaged(name: str, per_sample: Callable, tokens: Tensor, seed: int, reference: Tensor | None) -> Record:
    value, low, high = bootstrap_mean(per_sample(tokens), seed)
    details = _real(lambda real: per_sample(real).mean(), reference)
    return Record(name, value, max(low, 0.0), min(high, 1.0), len(tokens), _against(reference), details)


def _real(metric: Callable, reference: Tensor | None) -> dict:
    if reference is None:
        return {}
    return {"real": float(metric(reference)), "n_real": len(reference)}


def _against(reference: Tensor | None) -> str:
    return "the samples themselves" if reference is None else f"{len(reference)} real sequences"
