"""Noise processes: what turns clean tokens into noise and what a reverse step looks like.

Forward distribution, independently per position: z_t ~ Cat(alpha_t x + (1 - alpha_t) pi), with pi all mass on
MASK (masked noise) or 1/V on every class (uniform noise). Notation and conventions: see `dmmd_lite.__doc__`.
Times s and t have shape [B]; probabilities are computed in the floating-point type of the times.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from dmmd_lite.processes.schedules import SCHEDULES
from dmmd_lite.utils.checks import Count, check_choice, checked
from dmmd_lite.utils.rng import uniform

LOG_ZERO = -1e9  # log-probability of the impossible: exp gives 0, and 0 * LOG_ZERO is 0 where 0 * -inf is NaN


class Process:
    """The base of all noise processes; general code asks only what is declared here.

    A subclass defines `name`, `num_symbols`, `prior`, `likelihood`, `posterior_given_probs` and `may_change`,
    and also `step` if z_s may be something else than x or z_t. The other methods have defaults for noise that
    looks like data and has no known bound.

    num_symbols: the number of values that z may take, V or more.
    per_position: True if positions are treated alike, so that N positions may pass for N sequences of one.
    absorbing: True if noise is the symbol `mask`, so that every other token is known to be clean.
    uniform: True if noise is a uniformly random class, drawn anew whenever a token is hit (`Uniform`).
    reveals_first: True if z changes only where `loss_mask` is true, and becomes x there once, in the step
    from t to s with probability alpha_s - alpha_t, so that a sampler may draw these steps before any x.
    holding: True if positions may be held (`holding.Holding`).
    bound_prediction: the prediction that `bound_integrand` reads, "posterior" or "leave_one_out".
    """

    name: str
    num_symbols: int
    per_position = True
    absorbing = uniform = reveals_first = holding = False
    bound_prediction = "posterior"

    @checked
    def __init__(self, vocab_size: Count, schedule: str = "linear"):
        """Make the process over vocab_size = V classes of clean tokens. schedule: a name in `SCHEDULES`."""
        check_choice("schedule", schedule, sorted(SCHEDULES))
        self.vocab_size = vocab_size
        self.schedule = SCHEDULES[schedule]()

    def alpha(self, t: Tensor) -> Tensor:
        """Return the kept fraction alpha(t), shaped [B, 1] to meet tokens [B, L]; one time may stand
        for all. ValueError for times of another shape, which would be broadcast with tokens."""
        if t.ndim > 1 or not t.is_floating_point():
            found = f"{str(t.dtype).removeprefix('torch.')} {list(t.shape)}"
            raise ValueError(f"t: {found} is not allowed; times must be floating-point numbers [B]")
        return self.schedule.alpha(t).unsqueeze(-1)

    def loss_weight(self, t: Tensor) -> Tensor:
        """Compute the weight -alpha'(t) / (1 - alpha(t)), [B]; 1/t for the linear schedule.

        1 - alpha is kept above 1e-5, so that single-precision times near 0 stay finite."""
        return -self.schedule.alpha_prime(t) / (1 - self.schedule.alpha(t)).clamp(min=1e-5)

    def bound_integrand(self, log_x: Tensor, x: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """Compute the integrand of the continuous-time bound on -log p(x), nats per position [B, L].

        Args:
        log_x: the prediction that `bound_prediction` names, log-probabilities [B, L, V].
        x, z: clean tokens and noisy ones, [B, L]. Values where `loss_mask` is false are not used.
        Errors: ValueError for a process without a bound.
        """
        raise ValueError(f"process: {self.name!r} is not allowed here; no likelihood bound is known for it")

    def loss_mask(self, z: Tensor) -> Tensor:
        """Return the positions that may be noise and carry loss, bool [B, L]: by default all of them."""
        return torch.ones_like(z, dtype=torch.bool)

    def carry_over(self, log_x: Tensor, z: Tensor) -> Tensor:
        """Put all probability on tokens that are known from z, [B, L, V]: by default none is."""
        return log_x

    def posterior(self, z: Tensor, x: Tensor, s: Tensor, t: Tensor) -> Tensor:
        """Compute q(z_s | z_t, x), equation 4, for tokens x [B, L]; probabilities [B, L, num_symbols]."""
        return self.posterior_given_probs(z, one_hot(x, self.vocab_size).to(s.dtype), s, t)

    def corrupt(self, x: Tensor, t: Tensor, generator: torch.Generator) -> Tensor:
        """Draw z_t ~ q(z_t | x), [B, L]: each token is kept with probability alpha(t), else drawn from pi."""
        keep = uniform(x.shape, generator) < self.alpha(t).to(generator.device)
        return torch.where(keep.to(x.device), x, self.prior(x.shape, generator).to(x.device))

    def step(
        self, z: Tensor, x: Tensor, s: Tensor, t: Tensor, generator: torch.Generator, u: Tensor | None = None
    ) -> Tensor:
        """Draw z_s ~ q(z_s | z_t, x), [B, L]: x where `may_change` at u is true, elsewhere z_t.

        u: uniform numbers [B, L] if they are drawn already.
        """
        u = uniform(z.shape, generator) if u is None else u
        return torch.where(self.may_change(z, u, s, t), x, z)

    def classes(self, z: Tensor) -> Tensor:
        """Return the symbols of z [B, L] without the mark of held ones: here z itself."""
        return z

    def like(self, x: Tensor, z: Tensor) -> Tensor:
        """Return tokens x [B, L] with those of z that are held: here x itself."""
        return x

    def within(self, wrap: Callable[["Process"], "Process"]) -> "Process":
        """Return this process, wrapped; a process with held positions wraps the one without."""
        return wrap(self)

    def num_noised(self, length: int) -> int:
        """Return how many of a sequence's `length` tokens, always the last ones, carry noise: all of them."""
        return length

    def stages(self, length: int) -> range:
        """Return the lengths to which a sequence of `length` tokens grows, one stage after the other."""
        return range(self.num_noised(length), length + 1, self.num_noised(length))


def arrival(process: Process, s: Tensor, t: Tensor) -> Tensor:
    """Compute (alpha_s - alpha_t)/(1 - alpha_t), the share of noise that becomes x between t and s, [B, 1].

    Where both kept fractions round to one number it is (t - s)/t, which is the same to first order at small
    times, and 0 at s = t.
    """
    alpha_s, alpha_t = process.alpha(s), process.alpha(t)
    nearby = ((t - s) / t).nan_to_num(0.0).unsqueeze(-1)
    return torch.where(alpha_s > alpha_t, (alpha_s - alpha_t) / (1 - alpha_t), nearby)


def arrived(process: Process, u: Tensor, s: Tensor, t: Tensor) -> Tensor:
    """Return where u [B, L] is below the share of noise that becomes x between times t and s."""
    return u < arrival(process, s, t).to(u.device)
