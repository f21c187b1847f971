"""Distances between sets of samples, on features [n, d] (float64 arrays) or classes, see `features.py`.

Intervals are 95 % bootstrap intervals over the generated samples, with the reference held fixed. Distances
between finite samples have a floor above zero: compare with `frechet_floor`. Matrices of all pairs of images
are computed in chunks of rows.
"""

from dataclasses import replace

import numpy as np
from torch import Tensor

from dmmd_lite.metrics.bootstrap import bootstrap_mean, bootstrap_weights, interval
from dmmd_lite.utils.records import Record

NEIGHBOURS = 5  # k of coverage and density, as in their paper
COPY_QUANTILE = 0.05  # of the distances from held-out images to their nearest training image
FLOOR_IMAGES = 1000  # minimum number of training images behind a floor, if there are that many
BOOTSTRAP_DIM = 256  # maximum number of features for which Fréchet distances are bootstrapped
PART = 1000  # images in a chunk, which is compared with all others at once


def frechet(samples: np.ndarray, reference: np.ndarray, seed: int = 0) -> Record:
    """Compute the squared Fréchet distance between Gaussians fitted to features [n, d] and [m, d].

    The formula is that of Heusel et al. (arXiv 1706.08500); values on other features than theirs are not
    comparable with published ones. Finite samples bias it upwards. For more than 256 features the interval is
    not bootstrapped but computed from the distance's linear part, see `frechet_error`.
    Errors: ValueError for n or m below d, where the covariance is unknown in some directions.
    """
    for x in (samples, reference):
        check_number(len(x), x.shape[1])
    ours, fixed = (mean_and_covariance(x, np.ones(len(x))) for x in (samples, reference))
    value = frechet_gaussian(*ours, *fixed)
    if samples.shape[1] > BOOTSTRAP_DIM:
        error = 1.96 * frechet_error(samples, *ours, *fixed)
        low, high = value - error, value + error
    else:
        weights = bootstrap_weights(len(samples), seed)
        replicates = np.array([frechet_gaussian(*mean_and_covariance(samples, w), *fixed) for w in weights])
        low, high = interval(value, replicates)
    return Record("frechet", value, low, high, len(samples), _held_out(reference))


def check_number(images: int, dim: int) -> None:
    """Raise ValueError for fewer images than features, which are too few for a Fréchet distance."""
    if images < dim:
        raise ValueError(
            f"samples: {images} images are not allowed; a Fréchet distance on {dim} features needs {dim} or"
            " more"
        )


def frechet_floor(training: np.ndarray, reference: np.ndarray, seed: int = 0) -> Record:
    """Compute `frechet` of real training images [n, d] against the same reference.

    It is the value of the true distribution with n samples, and of copying the training set: samples that
    reach it are as close to the reference as the distance can tell.
    """
    record = frechet(training, reference, seed)
    return replace(record, name="frechet_floor", details={"samples": "training images"})


def fid(samples: np.ndarray, training: np.ndarray, seed: int = 0) -> Record:
    """Compute `frechet` on features of `inception.py`, against the whole training set [m, d]."""
    return replace(frechet(samples, training, seed), name="fid", reference=f"{len(training)} training images")


def frechet_error(
    samples: np.ndarray, m1: np.ndarray, c1: np.ndarray, m2: np.ndarray, c2: np.ndarray
) -> float:
    """Compute the standard error of `frechet_gaussian` by the delta method.

    The samples [n, d] have moments m1 and c1.

    The distance's derivative is 2 (m1 - m2) in the mean and I - T in the covariance, T being the matrix that
    transports the first Gaussian to the second, C2^(1/2) (C2^(1/2) C1 C2^(1/2))^(-1/2) C2^(1/2).
    """
    root = _power(c2, 0.5)
    slope = np.eye(len(c1)) - root @ _power(root @ c1 @ root, -0.5) @ root
    centred = samples - m1
    influence = 2 * centred @ (m1 - m2) + (centred @ slope * centred).sum(1)
    return float(influence.std(ddof=1) / np.sqrt(len(samples)))


def frechet_gaussian(m1: np.ndarray, c1: np.ndarray, m2: np.ndarray, c2: np.ndarray) -> float:
    """Compute the squared Fréchet distance of two Gaussians.

    It is |m1 - m2|^2 + tr C1 + tr C2 - 2 tr (C1 C2)^(1/2). The eigenvalues of C1 C2 are those of the
    symmetric C2^(1/2) C1 C2^(1/2), which are stable to compute.
    """
    root = _power(c2, 0.5)
    eigenvalues = np.linalg.eigvalsh(root @ c1 @ root).clip(min=0)
    return float(((m1 - m2) ** 2).sum() + np.trace(c1) + np.trace(c2) - 2 * np.sqrt(eigenvalues).sum())


def kernel_distance(samples: np.ndarray, reference: np.ndarray, seed: int = 0) -> Record:
    """Compute the unbiased squared maximum mean discrepancy with the kernel (x.y / d + 1)^3.

    Negative values are noise. The kernel is that of Bińkowski et al. (arXiv 1801.01401), over all pairs
    instead of averaged subsets.
    """
    n, m = len(samples), len(reference)
    among = (_without_self(_cubic(reference[rows], reference), rows).sum() for rows in _parts(m))
    constant = sum(among) / (m * (m - 1))
    cross = np.concatenate([_cubic(samples[rows], reference).mean(1) for rows in _parts(n)])
    weights = np.vstack([np.ones(n), bootstrap_weights(n, seed)])
    within = np.zeros(len(weights))  # sum over pairs i != j of w_i w_j k(x_i, x_j)
    for rows in _parts(n):
        block = _without_self(_cubic(samples[rows], samples), rows)
        within += ((weights @ block.T) * weights[:, rows]).sum(1)
    pairs = n**2 - (weights**2).sum(1)
    distances = within / pairs + constant - 2 * weights @ cross / n
    value = float(distances[0])
    return Record("kernel_distance", value, *interval(value, distances[1:]), n, _held_out(reference))


def coverage(samples: np.ndarray, reference: np.ndarray, seed: int = 0) -> Record:
    """Compute the fraction of reference images with a sample within the distance of their k-th nearest other
    reference.

    Source: Naeem et al. (arXiv 2002.09797). It grows with the number of samples: compare at equal n.
    """
    weights, radius = bootstrap_weights(len(samples), seed), _radii(reference)
    covered, replicates = 0, np.zeros(len(weights))
    for part in _parts(len(reference)):
        inside = _squared_distances(samples, reference[part]) <= radius[part]
        covered += inside.any(0).sum()
        replicates += (weights @ inside > 0).sum(1)
    value = float(covered / len(reference))
    low, high = interval(value, replicates / len(reference))
    low, high, details = max(low, 0.0), min(high, 1.0), {"neighbours": NEIGHBOURS}
    return Record("coverage", value, low, high, len(samples), _held_out(reference), details)


def density(samples: np.ndarray, reference: np.ndarray, seed: int = 0) -> Record:
    """Compute the mean number of reference balls (see `coverage`) that contain a sample, divided by k.

    It is about 1 for samples of the true distribution, more where they crowd its densest part
    (arXiv 2002.09797).
    """
    radius = _radii(reference)
    parts = (_squared_distances(samples[rows], reference) <= radius for rows in _parts(len(samples)))
    balls = np.concatenate([inside.sum(1) for inside in parts])
    value, low, high = bootstrap_mean(balls / NEIGHBOURS, seed)
    details = {"neighbours": NEIGHBOURS}
    return Record("density", value, low, high, len(samples), _held_out(reference), details)


def class_histogram(classes: np.ndarray, reference: np.ndarray, number: int, seed: int = 0) -> Record:
    """Compute the total variation between the shares of classes [n] and of reference classes [m].

    Classes are below `number`. Equal shares give 0, samples of one class alone 1 - its reference share.
    Finite samples bias it upwards. Both shares are in the details.
    """
    ours, theirs = (np.bincount(x, minlength=number) / len(x) for x in (classes, reference))
    drawn = np.random.default_rng(seed).multinomial(len(classes), ours, 1000) / len(classes)
    value = float(np.abs(ours - theirs).sum() / 2)
    low, high = interval(value, np.abs(drawn - theirs).sum(1) / 2)
    details = {"shares": ours.tolist(), "reference_shares": theirs.tolist()}
    return Record("class_histogram", value, max(low, 0.0), high, len(classes), _held_out(reference), details)


def nearest_training(samples: Tensor, training: Tensor, held_out: Tensor, seed: int = 0) -> Record:
    """Compute the fraction of samples that are near copies of training images; all arguments are tokens
    [., L].

    A near copy is closer (Euclidean distance of levels) to its nearest training image than 95 % of the
    held-out images are to theirs, so a generator that copies nothing scores about 0.05.
    """
    samples, training, held_out = (x.cpu().numpy() for x in (samples, training, held_out))
    heldout_distance = _nearest(held_out, training)
    threshold = float(np.quantile(heldout_distance, COPY_QUANTILE))
    distance = _nearest(samples, training)
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


def mean_and_covariance(x: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the mean [d] and covariance [d, d] of rows x [n, d], row i counted weights[i] times."""
    n = weights.sum()
    mean = weights @ x / n
    centred = x - mean
    return mean, (centred * weights[:, None]).T @ centred / (n - 1)


def _cubic(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Compute the kernel matrix [n, m]."""
    base = x @ y.T / x.shape[1] + 1
    return base * base * base


def _squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Compute squared Euclidean distances [n, m], exact for integers."""
    x, y = x.astype(float, copy=False), y.astype(float, copy=False)
    return ((x**2).sum(1)[:, None] + (y**2).sum(1) - 2 * x @ y.T).clip(min=0)


def _nearest(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Compute the Euclidean distance from every row of x [n, L] to the nearest of y [m, L], [n]."""
    x, nearest = x.astype(float), np.full(len(x), np.inf)
    for part in _parts(len(y)):
        nearest = np.minimum(nearest, _squared_distances(x, y[part]).min(1))
    return np.sqrt(nearest)


def _radii(reference: np.ndarray) -> np.ndarray:
    """Compute the squared radius of the ball of every reference [m]: to its k-th nearest other."""
    parts = (_squared_distances(reference[rows], reference) for rows in _parts(len(reference)))
    return np.concatenate([np.partition(d, NEIGHBOURS, 1)[:, NEIGHBOURS] for d in parts])  # 0 is the image


def _without_self(block: np.ndarray, rows: range) -> np.ndarray:
    """Set a kernel matrix of `rows` with all to zero where a row meets itself."""
    block[np.arange(len(rows)), rows] = 0
    return block


def _power(matrix: np.ndarray, power: float) -> np.ndarray:
    """Compute a power of a covariance; eigenvalues of 0 stay 0 for every power."""
    values, vectors = np.linalg.eigh(matrix)
    kept = values > max(1e-12 * values.max(), 0)
    return vectors[:, kept] * values[kept] ** power @ vectors[:, kept].T


def _parts(n: int) -> list[range]:
    """Divide 0 … n - 1 into runs of at most `PART`."""
    return [range(start, min(start + PART, n)) for start in range(0, n, PART)]
