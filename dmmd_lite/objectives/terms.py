"""Terms that losses share: times, cross-entropies and divergences."""

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from dmmd_lite.denoisers.prediction import Prediction, map_chunks
from dmmd_lite.utils.checks import checked
from dmmd_lite.utils.rng import uniform

Divergence = Literal["reverse_kl", "forward_kl", "mse", "total_variation"]
DIVERGENCES = get_args(Divergence)
EARLIEST = (
    1e-5  # minimum time of a loss: leave-one-out divides by 1 - alpha, which is 0 in float32 soon below
)


def stratified_times(batch: int, generator: torch.Generator, device: torch.device | str = "cpu") -> Tensor:
    """Draw one time in each of `batch` equal parts of (0, 1], none below `EARLIEST`, float32 [batch]."""
    jitter = 1 - uniform((batch,), generator)
    t = (torch.arange(batch, device=generator.device) + jitter) / batch
    return t.float().clamp(min=EARLIEST).to(device)


def cross_entropy(x: Tensor, log_x: Tensor) -> Tensor:
    """Compute -log x_hat of tokens x [B, L] from log_x [B, L, V], in nats per position [B, L]."""
    return -log_x.gather(-1, x.unsqueeze(-1)).squeeze(-1)


def soft_cross_entropy(log_target: Tensor, log_x: Tensor) -> Tensor:
    """Compute -E log x_hat under a target distribution, both [B, L, V], in nats per position [B, L]."""
    return -(log_target.exp() * log_x).sum(-1)


def token_nats(prediction: Prediction, x: Tensor, weight: Tensor | None = None) -> Tensor:
    """Compute the cross-entropy of tokens x [B, L], summed over the scored positions, in nats per sequence
    [B].

    Args:
    weight: factor of each sequence, [B]; None: 1.
    """
    scored, x = prediction.process.loss_mask(prediction.z), prediction.process.classes(x)
    found = map_chunks(lambda log_x, x: {"nats": cross_entropy(x, log_x)}, [prediction], [x], scored, weight)
    return found["nats"].sum(-1)


def clamped(log_target: Tensor, clamp: float) -> Tensor:
    """Raise log-probabilities below log(clamp) to it, without renormalising."""
    return log_target.clamp(min=math.log(clamp))


def mean_over(scored: Tensor, values: Tensor) -> Tensor:
    """Average values [B, L] over the positions where bool [B, L] is true; they must be 0 elsewhere.

    All positions of the batch have equal weight. The result is 0 where no position is scored.
    """
    return values.sum() / scored.sum().clamp(min=1)


@checked
def divergence_between(divergence: Divergence, log_x: Tensor, log_target: Tensor) -> Tensor:
    """Compute the divergence of the student's log_x from log_target, both [..., V], at every position [...].

    "reverse_kl" is KL(x || target) and "forward_kl" is KL(target || x), in nats. "mse" and "total_variation"
    are the mean square and the sum of absolute differences of *log*-probabilities, as in SDTT's released
    code; the second is not the distance of that name.
    """
    difference = log_x - log_target
    match divergence:
        case "reverse_kl":
            return (log_x.exp() * difference).sum(-1)
        case "forward_kl":
            return -(log_target.exp() * difference).sum(-1)
        case "mse":
            return (difference**2).mean(-1)
        case "total_variation":
            return difference.abs().sum(-1)
