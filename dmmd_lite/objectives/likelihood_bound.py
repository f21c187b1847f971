"""The continuous-time bound on the negative log-likelihood, for both noises."""

import torch
from torch import Tensor

from dmmd_lite.denoisers.base import Denoiser, to_leave_one_out
from dmmd_lite.denoisers.prediction import map_chunks, predict
from dmmd_lite.objectives.terms import stratified_times, token_nats
from dmmd_lite.processes.base import Process
from dmmd_lite.processes.uniform import jump_scale, path_divergence, rate_ratio


def bound_at(
    denoiser: Denoiser, process: Process, x: Tensor, t: Tensor, generator: torch.Generator
) -> Tensor:
    """Compute the integrand of the continuous-time bound at times t [B] for tokens x [B, L], in nats per
    sequence [B]. Its mean over t ~ U(0, 1) bounds -log p(x).

    Masked noise: -alpha'/(1-alpha) times the cross-entropy of masked positions (MDLM, MD4). Uniform noise:
    the divergence of jump rates. It is defined for the leave-one-out distribution, so the denoiser's
    posterior is converted.
    """
    z = process.corrupt(x, t, generator)
    law = predict(denoiser, process, z, t, generator)
    if process.absorbing:
        return token_nats(law, x, process.loss_weight(t))

    def divergence(log_x: Tensor, x: Tensor, z: Tensor, t: Tensor) -> dict[str, Tensor]:
        alpha = process.alpha(t).unsqueeze(-1)
        r_model = rate_ratio(to_leave_one_out(log_x, z, t, process).exp(), z, alpha)
        r_target = rate_ratio(torch.nn.functional.one_hot(x, process.vocab_size).to(alpha), z, alpha)
        return {"nats": path_divergence(r_target, r_model, z)}

    scale = jump_scale(process, t, process.vocab_size)
    return map_chunks(divergence, [law], [x, z, t], process.loss_mask(z), scale)["nats"].sum(-1)


@torch.no_grad()
def likelihood_bound(
    denoiser: Denoiser, process: Process, x: Tensor, generator: torch.Generator, times: int = 16
) -> Tensor:
    """Estimate the bound on -log p(x) of tokens x [B, L], in nats per sequence [B].

    A process with several stages has a bound for each stage, given the stages before; this is their sum.

    Args:
    times: Monte-Carlo times drawn for every sequence.
    """
    stages = process.stages(x.shape[1])
    return sum(_stage_bound(denoiser, process, x[:, :length], generator, times) for length in stages)


def _stage_bound(
    denoiser: Denoiser, process: Process, x: Tensor, generator: torch.Generator, times: int
) -> Tensor:
    """Estimate the bound of one stage, whose tokens x [B, L] end with the noised ones, [B]."""
    t = stratified_times(times * len(x), generator, x.device).view(times, len(x))
    t = t[:, torch.randperm(len(x), generator=generator, device=generator.device).to(x.device)]
    return torch.stack([bound_at(denoiser, process, x, row, generator) for row in t]).mean(0)
