"""The continuous-time bound on the negative log-likelihood, for every process that has one."""

import torch
from torch import Tensor

from dmmd_lite.denoisers.base import Denoiser, to_leave_one_out
from dmmd_lite.denoisers.prediction import map_chunks, predict
from dmmd_lite.objectives.terms import stratified_times
from dmmd_lite.processes.base import Process
from dmmd_lite.utils.checks import Count, checked
from dmmd_lite.utils.tensors import Tokens


def bound_at(
    denoiser: Denoiser, process: Process, x: Tensor, t: Tensor, generator: torch.Generator
) -> Tensor:
    """Compute the bound's integrand at times t [B] for tokens x [B, L], nats per sequence [B].

    Its mean over t ~ U(0, 1) bounds -log p(x). Masked: -alpha'/(1-alpha) times the cross-entropy of masked
    positions (MDLM, MD4). Uniform: the jump-rate divergence, which needs the leave-one-out distribution, so
    the denoiser's posterior is converted. Errors: ValueError for a process without a bound.
    """
    z = process.corrupt(x, t, generator)
    prediction = predict(denoiser, process, z, t, generator)

    def integrand(log_x: Tensor, x: Tensor, z: Tensor, t: Tensor) -> dict[str, Tensor]:
        if process.bound_prediction == "leave_one_out":
            log_x = to_leave_one_out(log_x, z, t, process)
        return {"nats": process.bound_integrand(log_x, x, z, t)}

    return map_chunks(integrand, [prediction], [x, z, t], process.loss_mask(z))["nats"].sum(-1)


@checked
@torch.no_grad()
def likelihood_bound(
    denoiser: Denoiser, process: Process, x: Tokens, generator: torch.Generator, times: Count = 16
) -> Tensor:
    """Estimate the bound on -log p(x) in nats per sequence [B], from `times` random times for every sequence.

    A process with several stages has a bound for each stage given the ones before; this is their sum.
    """
    stages = process.stages(x.shape[1])
    return sum(_stage_bound(denoiser, process, x[:, :length], generator, times) for length in stages)


def _stage_bound(
    denoiser: Denoiser, process: Process, x: Tensor, generator: torch.Generator, times: int
) -> Tensor:
    """Estimate the bound of the last stage of x, [B]."""
    t = stratified_times(times * len(x), generator, x.device).view(times, len(x))
    t = t[:, torch.randperm(len(x), generator=generator, device=generator.device).to(x.device)]
    return torch.stack([bound_at(denoiser, process, x, row, generator) for row in t]).mean(0)
