"""Terms that losses share: times, cross-entropies and divergences."""

import math

import torch
from torch import Tensor

from dmmd_lite.denoisers.prediction import Prediction, map_chunks
from dmmd_lite.utils.rng import uniform

EARLIEST = 1e-5  # least time of a loss; leave-one-out laws divide by 1 - alpha, in float32 0 soon below


def stratified_times(batch: int, generator: torch.Generator, device: torch.device | str = "cpu") -> Tensor:
    """`batch` times, one in each of `batch` equal parts of (0, 1], float32 [batch], none below `EARLIEST`."""
    jitter = 1 - uniform((batch,), generator)
    t = (torch.arange(batch, device=generator.device) + jitter) / batch
    return t.float().clamp(min=EARLIEST).to(device)


def cross_entropy(x: Tensor, log_x: Tensor) -> Tensor:
    """-log x_hat of tokens x [B, L], nats per position [B, L]."""
    return -log_x.gather(-1, x.unsqueeze(-1)).squeeze(-1)


def soft_cross_entropy(log_target: Tensor, log_x: Tensor) -> Tensor:
    """-E log x_hat under a target law, both [B, L, V], in nats per position [B, L]."""
    return -(log_target.exp() * log_x).sum(-1)


def token_nats(law: Prediction, x: Tensor, weight: Tensor | None = None) -> Tensor:
    """Cross-entropy of tokens x [B, L] summed over scored positions, times weight [B] (None: 1), in nats per
    sequence [B]."""
    scored = law.process.loss_mask(law.z)
    nats = map_chunks(lambda log_x, x: {"nats": cross_entropy(x, log_x)}, [law], [x], scored, weight)["nats"]
    return nats.sum(-1)


DIVERGENCES = ("reverse_kl", "forward_kl", "mse", "total_variation")


def check_divergence(divergence: str, allowed: tuple[str, ...]) -> None:
    """ValueError unless it is one of `allowed`."""
    if divergence not in allowed:
        raise ValueError(f"divergence: {divergence!r} is not allowed; choose one of {allowed}")


def clamped(log_target: Tensor, clamp: float) -> Tensor:
    """Log-probabilities raised to log(clamp) where they are below, not renormalised."""
    return log_target.clamp(min=math.log(clamp))


def mean_over(scored: Tensor, values: Tensor) -> Tensor:
    """Mean over the positions where bool [B, L] is true of values [B, L] that are 0 elsewhere, whatever
    sequence they are in; 0 where none is."""
    return values.sum() / scored.sum().clamp(min=1)


def divergence_between(divergence: str, log_x: Tensor, log_target: Tensor) -> Tensor:
    """Divergence of the student's log_x from log_target, both [..., V], at every position [...].

    "reverse_kl" KL(x || target) and "forward_kl" KL(target || x), in nats. "mse" and "total_variation" are
    the mean square and the sum of absolute differences of *log*-probabilities, as SDTT's released code has
    them; the second is not the distance of that name.
    """
    check_divergence(divergence, DIVERGENCES)
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
