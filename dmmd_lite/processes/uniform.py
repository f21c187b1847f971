"""Uniform noise, and the rates at which its reverse process jumps from one token to another."""

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from dmmd_lite.processes.base import Process, arrival
from dmmd_lite.utils.rng import integers, uniform


class Uniform(Process):
    """Uniform noise: a token that is not kept is replaced by one drawn uniformly from all V classes."""

    name, uniform = "uniform", True
    bound_prediction = "leave_one_out"

    @property
    def num_symbols(self) -> int:
        """Return V: noise takes the values of clean tokens."""
        return self.vocab_size

    def bound_integrand(self, log_x: Tensor, x: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """Compute the divergence between the jump rates of tokens x and of the prediction, [B, L]."""
        alpha = self.alpha(t).unsqueeze(-1)
        r_target = rate_ratio(one_hot(x, self.vocab_size).to(alpha), z, alpha)
        divergence = path_divergence(r_target, rate_ratio(log_x.exp(), z, alpha), z)
        return divergence * jump_scale(self, t, self.vocab_size).unsqueeze(-1)

    def prior(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Draw z_1: independent uniform tokens."""
        return integers(self.vocab_size, shape, generator)

    def likelihood(self, z: Tensor, t: Tensor) -> Tensor:
        """Compute q(z_t | x = c) for every class c, [B, L, V]; for probabilities z [B, L, V] its mean."""
        alpha = self.alpha(t).unsqueeze(-1)
        z_hot = z if z.is_floating_point() else one_hot(z, self.vocab_size)
        return alpha * z_hot.to(alpha) + (1 - alpha) / self.vocab_size

    def posterior_given_probs(self, z: Tensor, x: Tensor, s: Tensor, t: Tensor) -> Tensor:
        """Compute equation 4 with probabilities x [B, L, V] in place of a token ("plug-in"), [B, L, V].

        This is not the average of `posterior` over x: equation 4 is not linear in x for uniform noise. It is
        the exact reverse step when x is the leave-one-out distribution; with the posterior, draw a token and
        use `step`. A z that x cannot give without noise has the limit of small times.
        """
        V = self.vocab_size
        alpha_s, alpha_t = self.alpha(s).unsqueeze(-1), self.alpha(t).unsqueeze(-1)
        alpha_ts = torch.where(alpha_s > 0, alpha_t / alpha_s, 1)
        z_hot = one_hot(z, V).to(x.dtype)
        to_z = alpha_ts * z_hot + (1 - alpha_ts) / V
        from_x = alpha_s * x + (1 - alpha_s) / V
        evidence = alpha_t * (x * z_hot).sum(-1, keepdim=True) + (1 - alpha_t) / V
        arrive = arrival(self, s, t).unsqueeze(-1)
        return torch.where(evidence > 0, to_z * from_x / evidence, arrive * x + (1 - arrive) * z_hot)

    def may_change(self, z: Tensor, u: Tensor, s: Tensor, t: Tensor) -> Tensor:
        """Return where z_s may depend on x given u [B, L], bool [B, L].

        A position is most likely to leave z_t if x is another token, so one that would stay even then stays.
        """
        take, redraw = self._change_probabilities(z != z, s, t)
        return (u < (take + redraw).to(u.device)).to(z.device)

    def step(
        self, z: Tensor, x: Tensor, s: Tensor, t: Tensor, generator: torch.Generator, u: Tensor | None = None
    ) -> Tensor:
        """Draw z_s ~ q(z_s | z_t, x) in an exact three-way draw: take x, draw uniformly, or keep z_t.

        To leave z_t is rare when x = z_t, so both ways to do so stand at the low end of u, which float32
        probabilities still resolve.
        """
        take, redraw = self._change_probabilities(x == z, s, t)
        u = uniform(z.shape, generator) if u is None else u
        taken = (u < take.to(u.device)).to(z.device)
        moved = (u < (take + redraw).to(u.device)).to(z.device)
        anything = self.prior(z.shape, generator).to(z.device)
        return torch.where(taken, x, torch.where(moved, anything, z))

    def _change_probabilities(self, same: Tensor, s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the probabilities to take x and to draw uniformly; same: where x is z_t, bool [B, L]."""
        alpha_s, alpha_t = self.alpha(s), self.alpha(t)
        evidence = self.vocab_size * alpha_t * same + 1 - alpha_t
        take = torch.where(evidence > 0, (alpha_s - alpha_t) / evidence, arrival(self, s, t))
        redraw = (1 - alpha_t / alpha_s) * (1 - alpha_s) / evidence
        return take, redraw.nan_to_num(0.0)


def rate_ratio(v: Tensor, z: Tensor, alpha: Tensor) -> Tensor:
    """Compute r_v(c) = m(v)_c / m(v)_z with m(v) = alpha v + (1 - alpha)/V, for v [B, L, V] on the simplex.

    The reverse process of uniform noise jumps from z to c at rate -(alpha'/alpha) r_v(c) / V when v is the
    leave-one-out distribution (UDLM, arXiv 2412.10193; Duo, arXiv 2506.10892).
    """
    m = alpha * v + (1 - alpha) / v.shape[-1]
    return m / m.gather(-1, z.unsqueeze(-1))


def others(per_class: Tensor, z: Tensor) -> Tensor:
    """Sum values [B, L, V] over the classes c other than z, [B, L]."""
    return per_class.sum(-1) - per_class.gather(-1, z.unsqueeze(-1)).squeeze(-1)


def path_divergence(r_target: Tensor, r_model: Tensor, z: Tensor) -> Tensor:
    """Compute the generalised KL of jump rates, sum over c != z of r_t log(r_t/r_m) - r_t + r_m, [B, L]."""
    return others(r_target * (r_target / r_model).log() - r_target + r_model, z)


def jump_scale(process: Process, t: Tensor, vocab_size: int) -> Tensor:
    """Compute -(alpha'/alpha)/V, the factor of all jump rates of uniform noise, [B]."""
    return -process.schedule.alpha_prime(t) / process.schedule.alpha(t).clamp(min=1e-12) / vocab_size
