"""Teachers: cross-entropy (equation 5) and the continuous-time bound on the negative log-likelihood."""

import torch
from torch import Tensor

from dmmd_lite.denoisers import Denoiser, to_leave_one_out
from dmmd_lite.pieces import Law, by_pieces, law_of
from dmmd_lite.processes import Process
from dmmd_lite.rng import uniform

LOSSES = ("cross_entropy", "bound")
EARLIEST = 1e-5  # least time of a loss; leave-one-out laws divide by 1 - alpha, in float32 0 soon below


def stratified_times(batch: int, generator: torch.Generator, device: torch.device | str = "cpu") -> Tensor:
    """`batch` times, one in each of `batch` equal parts of (0, 1], float32 [batch], none below `EARLIEST`."""
    jitter = 1 - uniform((batch,), generator)
    t = (torch.arange(batch, device=generator.device) + jitter) / batch
    return t.float().clamp(min=EARLIEST).to(device)


def cross_entropy(x: Tensor, log_x: Tensor) -> Tensor:
    """-log x_hat of tokens x [B, L], nats per position [B, L]."""
    return -log_x.gather(-1, x.unsqueeze(-1)).squeeze(-1)


def rate_ratio(v: Tensor, z: Tensor, alpha: Tensor) -> Tensor:
    """r_v(c) = m(v)_c / m(v)_z with m(v) = alpha v + (1 - alpha)/V, for v [B, L, V] on the simplex.

    The reverse process of uniform noise jumps from z to c at rate -(alpha'/alpha) r_v(c) / V when v is the
    leave-one-out law (UDLM, arXiv 2412.10193; Duo, arXiv 2506.10892).
    """
    m = alpha * v + (1 - alpha) / v.shape[-1]
    return m / m.gather(-1, z.unsqueeze(-1))


def others(per_class: Tensor, z: Tensor) -> Tensor:
    """Sum of [B, L, V] over the classes c other than z, [B, L]."""
    return per_class.sum(-1) - per_class.gather(-1, z.unsqueeze(-1)).squeeze(-1)


def path_divergence(r_target: Tensor, r_model: Tensor, z: Tensor) -> Tensor:
    """Generalised KL between jump rates, sum over c != z of r_t log(r_t/r_m) - r_t + r_m, [B, L]."""
    return others(r_target * (r_target / r_model).log() - r_target + r_model, z)


def jump_scale(process: Process, t: Tensor, vocab_size: int) -> Tensor:
    """-(alpha'/alpha)/V, the factor of all jump rates of uniform noise, [B]."""
    return -process.schedule.alpha_prime(t) / process.schedule.alpha(t).clamp(min=1e-12) / vocab_size


def bound_at(
    denoiser: Denoiser, process: Process, x: Tensor, t: Tensor, generator: torch.Generator
) -> Tensor:
    """The continuous-time bound's integrand at times t [B] for tokens x [B, L], nats per sequence [B].

    Its mean over t ~ U(0, 1) bounds -log p(x). Masked: -alpha'/(1-alpha) times the cross-entropy of masked
    positions (MDLM, MD4). Uniform: the jump-rate divergence, which wants the leave-one-out law, so the
    denoiser's posterior is converted.
    """
    z = process.corrupt(x, t, generator)
    law = law_of(denoiser, process, z, t, generator)
    if process.absorbing:
        return token_nats(law, x, process.loss_weight(t))

    def divergence(log_x: Tensor, x: Tensor, z: Tensor, t: Tensor) -> dict[str, Tensor]:
        alpha = process.alpha(t).unsqueeze(-1)
        r_model = rate_ratio(to_leave_one_out(log_x, z, t, process).exp(), z, alpha)
        r_target = rate_ratio(torch.nn.functional.one_hot(x, process.vocab_size).to(alpha), z, alpha)
        return {"nats": path_divergence(r_target, r_model, z)}

    scale = jump_scale(process, t, process.vocab_size)
    return by_pieces(divergence, [law], [x, z, t], process.scored(z), scale)["nats"].sum(-1)


def soft_cross_entropy(log_target: Tensor, log_x: Tensor) -> Tensor:
    """-E log x_hat under a target law, both [B, L, V], in nats per position [B, L]."""
    return -(log_target.exp() * log_x).sum(-1)


def token_nats(law: Law, x: Tensor, weight: Tensor | None = None) -> Tensor:
    """Cross-entropy of tokens x [B, L] summed over scored positions, times weight [B] (None: 1), in nats per
    sequence [B]."""
    scored = law.process.scored(law.z)
    nats = by_pieces(lambda log_x, x: {"nats": cross_entropy(x, log_x)}, [law], [x], scored, weight)["nats"]
    return nats.sum(-1)


@torch.no_grad()
def bound(
    denoiser: Denoiser, process: Process, x: Tensor, generator: torch.Generator, times: int = 16
) -> Tensor:
    """Monte-Carlo bound on -log p(x) in nats per sequence [B], from `times` times for every sequence.

    A process with several stages has a bound for each, given the ones before; this is their sum.
    """
    stages = process.stages(x.shape[1])
    return sum(_stage_bound(denoiser, process, x[:, :length], generator, times) for length in stages)


def _stage_bound(
    denoiser: Denoiser, process: Process, x: Tensor, generator: torch.Generator, times: int
) -> Tensor:
    t = stratified_times(times * len(x), generator, x.device).view(times, len(x))
    t = t[:, torch.randperm(len(x), generator=generator, device=generator.device).to(x.device)]
    return torch.stack([bound_at(denoiser, process, x, row, generator) for row in t]).mean(0)


class TeacherTraining:
    """Train one denoiser on data.

    loss: "cross_entropy" (equation 5 with w = 1, the paper's teachers) or "bound" (masked: weight
    -alpha'/(1-alpha); uniform: the traditional bound). exact: if given, cross-entropy targets are this
    denoiser's probabilities instead of the data's tokens, which fits a network to exact posteriors.
    """

    def __init__(
        self, denoiser: Denoiser, process: Process, loss: str = "cross_entropy", exact: Denoiser | None = None
    ):
        if loss not in LOSSES:
            raise ValueError(f"loss: {loss!r} is not allowed; choose one of {LOSSES}")
        self.players = {"denoiser": denoiser}
        self.process, self.loss, self.exact = process, loss, exact

    def losses(self, step: int, x: Tensor, generator: torch.Generator) -> dict[str, dict[str, Tensor]]:
        """Nats per token that carries noise."""
        denoiser, process = self.players["denoiser"], self.process
        t, tokens = stratified_times(len(x), generator, x.device), process.noised(x.shape[1])
        if self.loss == "bound":
            return {"denoiser": {"bound": bound_at(denoiser, process, x, t, generator).mean() / tokens}}
        z = process.corrupt(x, t, generator)
        law = law_of(denoiser, process, z, t, generator)
        if self.exact is None:
            nats = token_nats(law, x)
        else:
            with torch.no_grad():
                exact = law_of(self.exact, process, z, t, generator)
            scored = process.scored(z)
            nats = by_pieces(lambda *logs: {"nats": soft_cross_entropy(*logs)}, [exact, law], [], scored)
            nats = nats["nats"].sum(-1)
        return {"denoiser": {"cross_entropy": nats.mean() / tokens}}
