"""Distances between sets of images, on features [n, d] (float64 arrays) or classes, see `features.py`.

Intervals are 95 % bootstrap intervals over the generated samples, with the reference held fixed. Distances
between finite samples have a floor above zero: compare with `frechet_floor`.
"""

from dataclasses import replace

import numpy as np
from torch import Tensor

from dmmd_lite.metrics.bootstrap import bootstrap_weights
from dmmd_lite.records import Record, bootstrap_mean, interval

NEIGHBOURS = 5  # k of coverage and density, as in their paper
COPY_QUANTILE = 0.05  # of the distances from held-out images to their nearest training image


def frechet(samples: np.ndarray, reference: np.ndarray, seed: int = 0) -> Record:
    """Squared Fréchet distance between Gaussians fitted to features [n, d] and [m, d].

    The formula of Heusel et al. (arXiv 1706.08500) on this package's own features, so values are not
    comparable with published ones. Biased upwards by finite samples.
    """
    fixed = _moments(reference, np.ones(len(reference)))
    value = frechet_gaussian(*_moments(samples, np.ones(len(samples))), *fixed)
    weights = bootstrap_weights(len(samples), seed)
    replicates = np.array([frechet_gaussian(*_moments(samples, w), *fixed) for w in weights])
    return Record("frechet", value, *interval(value, replicates), len(samples), _held_out(reference))


def frechet_floor(training: np.ndarray, reference: np.ndarray, seed: int = 0) -> Record:
    """`frechet` of the real training images [n, d] against the same reference.

    What the true law scores with n samples, and what repeating the training set scores: samples that reach
    it are as close to the reference as the distance can tell.
    """
    record = frechet(training, reference, seed)
    return replace(record, name="frechet_floor", details={"samples": "training images"})


def frechet_gaussian(m1: np.ndarray, c1: np.ndarray, m2: np.ndarray, c2: np.ndarray) -> float:
    """Squared Fréchet distance of two Gaussians: |m1 - m2|^2 + tr C1 + tr C2 - 2 tr (C1 C2)^(1/2).

    The eigenvalues of C1 C2 are those of the symmetric C2^(1/2) C1 C2^(1/2), which are stable to compute.
    """
    values, vectors = np.linalg.eigh(c2)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    eigenvalues = np.linalg.eigvalsh(root @ c1 @ root).clip(min=0)
    return float(((m1 - m2) ** 2).sum() + np.trace(c1) + np.trace(c2) - 2 * np.sqrt(eigenvalues).sum())


def kernel_distance(samples: np.ndarray, reference: np.ndarray, seed: int = 0) -> Record:
    """Unbiased squared maximum mean discrepancy with the kernel (x.y / d + 1)^3; negative values are noise.

    The kernel of Bińkowski et al. (arXiv 1801.01401), over all pairs instead of averaged subsets.
    """
    n, m = len(samples), len(reference)
    among = _cubic(reference, reference)
    np.fill_diagonal(among, 0)
    constant = among.sum() / (m * (m - 1))
    cross = _cubic(samples, reference).mean(1)
    weights = np.vstack([np.ones(n), bootstrap_weights(n, seed)])
    within = np.zeros(len(weights))  # sum over pairs i != j of w_i w_j k(x_i, x_j)
    for rows in np.array_split(np.arange(n), -(-n // 1000)):
        block = _cubic(samples[rows], samples)
        block[np.arange(len(rows)), rows] = 0
        within += ((weights @ block.T) * weights[:, rows]).sum(1)
    pairs = n**2 - (weights**2).sum(1)
    distances = within / pairs + constant - 2 * weights @ cross / n
    value = float(distances[0])
    return Record("kernel_distance", value, *interval(value, distances[1:]), n, _held_out(reference))


def coverage(samples: np.ndarray, reference: np.ndarray, seed: int = 0) -> Record:
    """Fraction of reference images with a sample within the distance of their k-th nearest other reference.

    Naeem et al. (arXiv 2002.09797). Grows with the number of samples: compare at equal n.
    """
    inside = _in_balls(samples, reference)
    value = float(inside.any(0).mean())
    low, high = interval(value, (bootstrap_weights(len(samples), seed) @ inside > 0).mean(1))
    low, high, details = max(low, 0.0), min(high, 1.0), {"neighbours": NEIGHBOURS}
    return Record("coverage", value, low, high, len(samples), _held_out(reference), details)


def density(samples: np.ndarray, reference: np.ndarray, seed: int = 0) -> Record:
    """Mean number of reference balls (see `coverage`) a sample lies in, divided by k: about 1 for samples of
    the true law, more where they crowd the densest part (arXiv 2002.09797)."""
    value, low, high = bootstrap_mean(_in_balls(samples, reference).sum(1) / NEIGHBOURS, seed)
    details = {"neighbours": NEIGHBOURS}
    return Record("density", value, low, high, len(samples), _held_out(reference), details)


def class_histogram(classes: np.ndarray, reference: np.ndarray, number: int, seed: int = 0) -> Record:
    """Total variation between the shares of classes [n] and of reference classes [m], each below `number`.

    0 is the reference's mixture, 1 - share where every sample is of one class. Biased upwards by finite
    samples. Both shares are in the details.
    """
    ours, theirs = (np.bincount(x, minlength=number) / len(x) for x in (classes, reference))
    drawn = np.random.default_rng(seed).multinomial(len(classes), ours, 1000) / len(classes)
    value = float(np.abs(ours - theirs).sum() / 2)
    low, high = interval(value, np.abs(drawn - theirs).sum(1) / 2)
    details = {"shares": ours.tolist(), "reference_shares": theirs.tolist()}
    return Record("class_histogram", value, max(low, 0.0), high, len(classes), _held_out(reference), details)


def nearest_training(samples: Tensor, training: Tensor, held_out: Tensor, seed: int = 0) -> Record:
    """Fraction of samples that are near copies of training images; all arguments are tokens [., L].

    A near copy is closer (Euclidean distance of levels) to its nearest training image than 95 % of the
    held-out images are to theirs, so about 0.05 is what a generator that copies nothing scores.
    """
    samples, training, held_out = (x.cpu().numpy() for x in (samples, training, held_out))
    heldout_distance = np.sqrt(_squared_distances(held_out, training).min(1))
    threshold = float(np.quantile(heldout_distance, COPY_QUANTILE))
    distance = np.sqrt(_squared_distances(samples, training).min(1))
    value, low, high = bootstrap_mean((distance <= threshold).astype(float), seed)
    details = {
        "threshold": threshold,
        "held_out_rate": float((heldout_distance <= threshold).mean()),
        "exact_copies": float((distance == 0).mean()),
    }
    reference = f"{len(training)} training images"
    return Record("nearest_training", value, low, high, len(samples), reference, details)


def _held_out(reference: np.ndarray) -> str:
    return f"{len(reference)} held-out images"


def _moments(x: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean [d] and covariance [d, d] of rows x [n, d], row i counted weights[i] times."""
    n = weights.sum()
    mean = weights @ x / n
    centred = x - mean
    return mean, (centred * weights[:, None]).T @ centred / (n - 1)


def _cubic(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Kernel matrix [n, m]."""
    base = x @ y.T / x.shape[1] + 1
    return base * base * base


def _squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances [n, m], exact for integers."""
    x, y = x.astype(float), y.astype(float)
    return ((x**2).sum(1)[:, None] + (y**2).sum(1) - 2 * x @ y.T).clip(min=0)


def _in_balls(samples: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Whether sample i lies in the ball of reference j, [n, m]; a ball reaches to the k-th nearest other."""
    among = np.sort(_squared_distances(reference, reference), 1)  # column 0 is the image itself
    radius = among[:, NEIGHBOURS]
    return _squared_distances(samples, reference) <= radius
