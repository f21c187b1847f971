"""Distances between sets of samples, on features [n, d] (float64 arrays) or classes, see `features.py`.

Intervals are over the generated samples, with the reference held fixed (`intervals.py`). Distances between
finite samples have a floor above zero: compare with `frechet_floor`. Matrices of all pairs of images are
computed in chunks of rows.
"""

from dataclasses import replace

import numpy as np
from torch import Tensor

from dmmd_lite.metrics.intervals import (
    around,
    jackknife,
    mean_interval,
    mean_share,
    owner_numbers,
    share_interval,
    union_error,
    variation_interval,
)
from dmmd_lite.utils.records import Record

NEIGHBOURS = 5  # k of coverage and density, as in their paper
COPY_QUANTILE = 0.05  # of the distances from held-out images to their nearest training image
FLOOR_IMAGES = 1000  # minimum number of training images behind a floor, if there are that many
SIZES = 10  # numbers of samples from which a Fréchet distance is extrapolated to infinitely many
PART = 1000  # images in a chunk, which is compared with all others at once


def frechet(samples: np.ndarray, reference: np.ndarray) -> Record:
    """Compute the squared Fréchet distance between Gaussians fitted to features [n, d] and [m, d].

    The formula is that of Heusel et al. (arXiv 1706.08500); values on other features than theirs are not
    comparable with published ones. Finite samples bias it upwards: the interval covers its expectation at n
    samples, not its limit for many, which `infinite_n` in the details estimates (`extrapolated`).
    Errors: ValueError for n or m below d, where the covariance is unknown in some directions.
    """
    for x in (samples, reference):
        check_number(len(x), x.shape[1])
    ours, fixed = mean_and_covariance(samples), mean_and_covariance(reference)
    value = frechet_gaussian(*ours, *fixed)
    low, high = around(value, frechet_error(samples, *ours, *fixed), len(samples) - 1, minimum=0)
    details = {"infinite_n": extrapolated(samples, fixed, value)}
    return Record("frechet", value, low, high, len(samples), _held_out(reference), details)


def extrapolated(samples: np.ndarray, fixed: tuple[np.ndarray, np.ndarray], value: float) -> float | None:
    """Estimate the Fréchet distance of infinitely many samples from a Gaussian with moments `fixed`.

    It is the intercept of a line through distances of the first n' of the samples [n, d] against 1 / n', with
    n' from n / 10 (at least 2 d) to n, as in FID-infinity (arXiv 1911.07023); `value` is that of all. None
    for fewer than 4 d samples.
    """
    n, dim = samples.shape
    if n < 4 * dim:
        return None
    sizes = np.linspace(max(2 * dim, n // 10), n, SIZES).astype(int)
    shuffled = samples[np.random.default_rng(0).permutation(n)]  # samples may come in order
    found = [frechet_gaussian(*mean_and_covariance(shuffled[:size]), *fixed) for size in sizes[:-1]]
    return float(np.polyfit(1 / sizes, [*found, value], 1)[1])


def check_number(num: int, dim: int) -> None:
    """Raise ValueError for fewer samples than features, which are too few for a Fréchet distance."""
    if num < dim:
        raise ValueError(
            f"samples: {num} are not allowed; a Fréchet distance on {dim} features needs {dim} or more"
        )


def frechet_floor(training: np.ndarray, reference: np.ndarray) -> Record:
    """Compute `frechet` of real training images [n, d] against the same reference.

    It is the value of the true distribution with n samples, and of copying the training set: samples that
    reach it are as close to the reference as the distance can tell.
    """
    record = frechet(training, reference)
    return replace(record, name="frechet_floor", details={**record.details, "samples": "training images"})


def fid(samples: np.ndarray, training: np.ndarray) -> Record:
    """Compute `frechet` on features of `inception.py`, against the whole training set [m, d]."""
    return replace(frechet(samples, training), name="fid", reference=f"{len(training)} training images")


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


def kernel_distance(samples: np.ndarray, reference: np.ndarray) -> Record:
    """Compute the unbiased squared maximum mean discrepancy with the kernel (x.y / d + 1)^3.

    Negative values are noise. The kernel is that of Bińkowski et al. (arXiv 1801.01401), over all pairs
    instead of averaged subsets.
    """
    n, m = len(samples), len(reference)
    among = (_without_self(_cubic(reference[rows], reference), rows).sum() for rows in _parts(m))
    constant = sum(among) / (m * (m - 1))
    cross = np.concatenate([_cubic(samples[rows], reference).mean(1) for rows in _parts(n)])
    blocks = (_without_self(_cubic(samples[rows], samples), rows) for rows in _parts(n))
    within = np.concatenate([block.sum(1) for block in blocks])  # sum over j != i of k(x_i, x_j)
    value = float(within.sum() / (n * (n - 1)) + constant - 2 * cross.mean())
    pairs = (within.sum() - 2 * within) / max(1, (n - 1) * (n - 2))
    left_out = pairs + constant - 2 * (cross.sum() - cross) / (n - 1)
    return Record("kernel_distance", value, *jackknife(value, left_out), n, _held_out(reference))


def coverage(samples: np.ndarray, reference: np.ndarray) -> Record:
    """Compute the fraction of reference images with a sample within the distance of their k-th nearest other
    reference.

    Source: Naeem et al. (arXiv 2002.09797). It grows with the number of samples: compare at equal n.
    """
    n, radius, own = len(samples), _radii(reference), owner_numbers(len(samples))
    number, signature, alone = [], [], np.zeros(n)
    for part in _parts(len(reference)):
        inside = _squared_distances(samples, reference[part]) <= radius[part]
        number.append(inside.sum(0))
        signature.append(own @ inside)
        alone += inside[:, number[-1] == 1].sum(1)
    number, signature = np.concatenate(number), np.concatenate(signature)
    covered, total = number > 0, len(reference)
    value = float(covered.sum() / total)
    error, df = union_error(signature[covered], number[covered], alone)
    low, high = share_interval(value, min(n, total), error / total, df)
    details = {"neighbours": NEIGHBOURS}
    return Record("coverage", value, low, high, n, _held_out(reference), details)


def density(samples: np.ndarray, reference: np.ndarray) -> Record:
    """Compute the mean number of reference balls (see `coverage`) that contain a sample, divided by k.

    It is about 1 for samples of the true distribution, more where they crowd its densest part
    (arXiv 2002.09797).
    """
    radius = _radii(reference)
    parts = (_squared_distances(samples[rows], reference) <= radius for rows in _parts(len(samples)))
    balls = np.concatenate([inside.sum(1) for inside in parts])
    value, low, high = mean_interval(balls / NEIGHBOURS, minimum=0)
    details = {"neighbours": NEIGHBOURS}
    return Record("density", value, low, high, len(samples), _held_out(reference), details)


def class_histogram(classes: np.ndarray, reference: np.ndarray, number: int) -> Record:
    """Compute the total variation between the shares of classes [n] and of reference classes [m].

    Classes are below `number`. Equal shares give 0, samples of one class alone 1 - its reference share.
    Finite samples bias it upwards. Both shares are in the details.
    """
    ours, theirs = (np.bincount(x, minlength=number) / len(x) for x in (classes, reference))
    value, low, high = variation_interval(classes[:, None], theirs)
    details = {"shares": ours.tolist(), "reference_shares": theirs.tolist()}
    return Record("class_histogram", value, low, high, len(classes), _held_out(reference), details)


def nearest_training(samples: Tensor, training: Tensor, held_out: Tensor) -> Record:
    """Compute the fraction of samples that are near copies of training images; all arguments are tokens
    [., L].

    A near copy is closer (Euclidean distance of levels) to its nearest training image than 95 % of the
    held-out images are to theirs, so a generator that copies nothing scores about 0.05.
    """
    samples, training, held_out = (x.cpu().numpy() for x in (samples, training, held_out))
    heldout_distance = _nearest(held_out, training)
    threshold = float(np.quantile(heldout_distance, COPY_QUANTILE))
    distance = _nearest(samples, training)
    value, low, high = mean_share((distance <= threshold).astype(float))
    details = {
        "threshold": threshold,
        "held_out_rate": float((heldout_distance <= threshold).mean()),
        "exact_copies": float((distance == 0).mean()),
    }
    reference = f"{len(training)} training images"
    return Record("nearest_training", value, low, high, len(samples), reference, details)


def _held_out(reference: np.ndarray) -> str:
    return f"{len(reference)} held-out images"


def mean_and_covariance(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the mean [d] and covariance [d, d] of rows x [n, d]."""
    mean = np.ones(len(x)) @ x / len(x)
    centred = x - mean
    return mean, centred.T @ np.array(centred) / (len(x) - 1)  # a copy, to be rounded as any product


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
