"""Noise processes: what turns clean tokens into noise and what a reverse step looks like.

Forward law, independently per position: z_t ~ Cat(alpha_t x + (1 - alpha_t) pi), with pi all mass on MASK
(masked noise) or 1/V on every class (uniform noise). Notation and conventions: see `dmmd_lite.__doc__`.
Times s and t have shape [B]; probabilities are computed in the floating-point type of the times.
"""

import torch
from torch import Tensor
from torch.nn.functional import one_hot, pad

from dmmd_lite.rng import integers, uniform
from dmmd_lite.schedules import SCHEDULES

LOG_ZERO = -1e9  # log-probability of what cannot be: exp gives 0, and 0 * LOG_ZERO is 0 where 0 * -inf is NaN


class Process:
    """What masked and uniform noise share. `num_symbols` counts the values z may take.

    absorbing: noise is a symbol of its own, and a token that is not noise is known.
    per_position: every position is treated alike, so that N positions may pass for N sequences of one.
    """

    name: str
    absorbing: bool
    per_position = True

    def __init__(self, vocab_size: int, schedule: str = "linear"):
        """vocab_size: V, the number of classes of clean tokens. schedule: a name in `SCHEDULES`."""
        if schedule not in SCHEDULES:
            raise ValueError(f"schedule: {schedule!r} is not allowed; choose one of {sorted(SCHEDULES)}")
        self.vocab_size = vocab_size
        self.schedule = SCHEDULES[schedule]()

    def alpha(self, t: Tensor) -> Tensor:
        """Kept fraction alpha(t), shaped [B, 1] to meet tokens [B, L]."""
        return self.schedule.alpha(t).unsqueeze(-1)

    def loss_weight(self, t: Tensor) -> Tensor:
        """Continuous-time weight -alpha'(t) / (1 - alpha(t)), [B]; 1/t for the linear schedule.

        1 - alpha is kept above 1e-5, so that single-precision times near 0 stay finite."""
        return -self.schedule.alpha_prime(t) / (1 - self.schedule.alpha(t)).clamp(min=1e-5)

    def corrupt(self, x: Tensor, t: Tensor, generator: torch.Generator) -> Tensor:
        """z_t ~ q(z_t | x): every token kept with probability alpha(t), else drawn from pi. [B, L]."""
        keep = uniform(x.shape, generator) < self.alpha(t).to(generator.device)
        return torch.where(keep.to(x.device), x, self.prior(x.shape, generator).to(x.device))

    def step(
        self,
        z: Tensor,
        x: Tensor,
        s: Tensor,
        t: Tensor,
        generator: torch.Generator,
        u: Tensor | None = None,
    ) -> Tensor:
        """z_s ~ q(z_s | z_t, x), [B, L]: x where u leaves it to x (`undecided`), elsewhere z_t.

        u: uniform numbers [B, L], if they are drawn already.
        """
        u = uniform(z.shape, generator) if u is None else u
        return torch.where(self.undecided(z, u, s, t), x, z)

    def noised(self, length: int) -> int:
        """How many of a sequence's `length` tokens, always the last ones, carry noise: all of them."""
        return length

    def stages(self, length: int) -> range:
        """Lengths to which a sequence of `length` tokens grows, stage by stage: `length` at once."""
        return range(self.noised(length), length + 1, self.noised(length))


class Masked(Process):
    """Absorbing noise. The MASK symbol is the input value V; networks never output it."""

    name, absorbing = "masked", True

    @property
    def num_symbols(self) -> int:
        """V + 1: the classes and MASK."""
        return self.vocab_size + 1

    @property
    def mask(self) -> int:
        """The MASK symbol's value."""
        return self.vocab_size

    def scored(self, z: Tensor) -> Tensor:
        """Positions that carry loss, bool [B, L]: those still masked."""
        return z == self.mask

    def carry_over(self, log_x: Tensor, z: Tensor) -> Tensor:
        """Revealed positions are known: their law becomes the revealed token, [B, L, V]."""
        token = z.clamp(max=self.vocab_size - 1).unsqueeze(-1)  # MASK is given any; its row is not used
        revealed = torch.full_like(log_x, LOG_ZERO).scatter_(-1, token, 0.0)
        return torch.where((z == self.mask).unsqueeze(-1), log_x, revealed)

    def prior(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """z_1: MASK everywhere."""
        return torch.full(shape, self.mask, device=generator.device)

    def likelihood(self, z: Tensor, t: Tensor) -> Tensor:
        """q(z_t | x = c) for every class c, [B, L, V]."""
        alpha = self.alpha(t).unsqueeze(-1)
        seen = alpha * one_hot(z, self.num_symbols)[..., :-1].to(alpha)
        return torch.where((z == self.mask).unsqueeze(-1), 1 - alpha, seen)

    def posterior(self, z: Tensor, x: Tensor, s: Tensor, t: Tensor) -> Tensor:
        """q(z_s | z_t, x), equation 4, for tokens x [B, L]; probabilities [B, L, V + 1]."""
        return self.posterior_given_probs(z, one_hot(x, self.vocab_size).to(s.dtype), s, t)

    def posterior_given_probs(self, z: Tensor, x: Tensor, s: Tensor, t: Tensor) -> Tensor:
        """Equation 4 with probabilities x [B, L, V] in place of a token; the same as averaging
        `posterior` over x, because the expression is linear in x for masked noise."""
        alpha_s, alpha_t = self.alpha(s).unsqueeze(-1), self.alpha(t).unsqueeze(-1)
        reveal = (alpha_s - alpha_t) / (1 - alpha_t)
        unmasking = torch.cat([reveal * x, (1 - reveal).expand(*z.shape, 1)], -1)
        return torch.where(
            (z == self.mask).unsqueeze(-1), unmasking, one_hot(z, self.num_symbols).to(x.dtype)
        )

    def undecided(self, z: Tensor, u: Tensor, s: Tensor, t: Tensor) -> Tensor:
        """Where z_s is x: masked positions with u [B, L] below (alpha_s-alpha_t)/(1-alpha_t), bool [B, L]."""
        return _arrived(self, u, s, t).to(z.device) & (z == self.mask)


class Uniform(Process):
    """Uniform noise: a token that is not kept is replaced by one drawn uniformly from all V classes."""

    name, absorbing = "uniform", False

    @property
    def num_symbols(self) -> int:
        """V: noise takes the values of clean tokens."""
        return self.vocab_size

    def scored(self, z: Tensor) -> Tensor:
        """Positions that carry loss, bool [B, L]: all of them."""
        return torch.ones_like(z, dtype=torch.bool)

    def carry_over(self, log_x: Tensor, z: Tensor) -> Tensor:
        """Nothing is known for certain under uniform noise: log_x itself."""
        return log_x

    def prior(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """z_1: independent uniform tokens."""
        return integers(self.vocab_size, shape, generator)

    def likelihood(self, z: Tensor, t: Tensor) -> Tensor:
        """q(z_t | x = c) for every class c, [B, L, V]; for a soft z [B, L, V] its mean over classes ~ z."""
        alpha = self.alpha(t).unsqueeze(-1)
        z_hot = z if z.is_floating_point() else one_hot(z, self.vocab_size)
        return alpha * z_hot.to(alpha) + (1 - alpha) / self.vocab_size

    def posterior(self, z: Tensor, x: Tensor, s: Tensor, t: Tensor) -> Tensor:
        """q(z_s | z_t, x), equation 4, for tokens x [B, L]; probabilities [B, L, V]."""
        return self.posterior_given_probs(z, one_hot(x, self.vocab_size).to(s.dtype), s, t)

    def posterior_given_probs(self, z: Tensor, x: Tensor, s: Tensor, t: Tensor) -> Tensor:
        """Equation 4 with probabilities x [B, L, V] in place of a token ("plug-in").

        Not the average of `posterior` over x: it is not linear in x for uniform noise. It is the exact
        reverse step when x is the leave-one-out law; with the posterior law, draw a token and use `step`.
        """
        V = self.vocab_size
        alpha_s, alpha_t = self.alpha(s).unsqueeze(-1), self.alpha(t).unsqueeze(-1)
        alpha_ts = alpha_t / alpha_s
        z_hot = one_hot(z, V).to(x.dtype)
        to_z = alpha_ts * z_hot + (1 - alpha_ts) / V
        from_x = alpha_s * x + (1 - alpha_s) / V
        evidence = alpha_t * (x * z_hot).sum(-1, keepdim=True) + (1 - alpha_t) / V
        return to_z * from_x / evidence

    def undecided(self, z: Tensor, u: Tensor, s: Tensor, t: Tensor) -> Tensor:
        """Where z_s may depend on x given u [B, L], bool [B, L]. A position leaves z_t most likely if x is
        another token, so one that would stay even then stays."""
        take, redraw = self._ways(z != z, s, t)
        return (u < (take + redraw).to(u.device)).to(z.device)

    def step(
        self,
        z: Tensor,
        x: Tensor,
        s: Tensor,
        t: Tensor,
        generator: torch.Generator,
        u: Tensor | None = None,
    ) -> Tensor:
        """z_s ~ q(z_s | z_t, x) as an exact three-way draw: take x, draw uniformly, or keep z_t.

        To leave z_t is rare when x = z_t, so both ways to do so stand at the low end of u, which float32
        probabilities still resolve.
        """
        take, redraw = self._ways(x == z, s, t)
        u = uniform(z.shape, generator) if u is None else u
        taken = (u < take.to(u.device)).to(z.device)
        moved = (u < (take + redraw).to(u.device)).to(z.device)
        anything = self.prior(z.shape, generator).to(z.device)
        return torch.where(taken, x, torch.where(moved, anything, z))

    def _ways(self, same: Tensor, s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities to take x and to draw uniformly; same: where x is z_t, bool [B, L]."""
        alpha_s, alpha_t = self.alpha(s), self.alpha(t)
        evidence = self.vocab_size * alpha_t * same + 1 - alpha_t
        return (alpha_s - alpha_t) / evidence, (1 - alpha_t / alpha_s) * (1 - alpha_s) / evidence


class RandomStart(Process):
    """Paths from a random start: a token is what it was at t = 1 until, once, it becomes x.

    Start of a path, every position alone: under masked noise MASK with probability `masked` and else a
    uniform token, under uniform noise a uniform token. Since z_t ~ Cat(alpha_t x + (1 - alpha_t) pi) as
    ever, pi being the law of the start, it is a noise process like the others, but a step keeps to the path
    of one start, as a coupling of starts and data demands (discrete flow matching, arXiv 2407.15595; ReDi,
    arXiv 2507.15897). The step of uniform noise does not: at t = 1 it forgets the start.

    A token that is not MASK may be noise, so all positions are scored and nothing is carried over.
    """

    absorbing = False

    def __init__(self, process: Process, masked: float = 0.0):
        """process: the noise whose symbols and schedule these paths have. ValueError for masked outside
        [0, 1] and for a process in blocks."""
        if not 0 <= masked <= 1:
            raise ValueError(f"masked: {masked!r} is not allowed; it must lie in [0, 1]")
        if not process.per_position:
            raise ValueError("block: a random start is not allowed with blocks; only 0")
        self.vocab_size, self.num_symbols = process.vocab_size, process.num_symbols
        self.name, self.schedule = process.name, process.schedule
        self.masked = masked if process.absorbing else 0.0

    def scored(self, z: Tensor) -> Tensor:
        """Positions that carry loss, bool [B, L]: all of them."""
        return torch.ones_like(z, dtype=torch.bool)

    def carry_over(self, log_x: Tensor, z: Tensor) -> Tensor:
        """Nothing is known for certain: log_x itself."""
        return log_x

    def prior(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """z_1: MASK with probability `masked`, else a uniform token."""
        token = integers(self.vocab_size, shape, generator)
        return torch.where(uniform(shape, generator) < self.masked, self.vocab_size, token)

    def likelihood(self, z: Tensor, t: Tensor) -> Tensor:
        """q(z_t | x = c) for every class c, [B, L, V]."""
        alpha = self.alpha(t).unsqueeze(-1)
        token = alpha.new_tensor((1 - self.masked) / self.vocab_size)
        start = torch.where(z == self.vocab_size, self.masked, token).unsqueeze(-1)
        seen = one_hot(z, self.vocab_size + 1)[..., :-1].to(alpha)
        return alpha * seen + (1 - alpha) * start

    def posterior(self, z: Tensor, x: Tensor, s: Tensor, t: Tensor) -> Tensor:
        """q(z_s | z_t, x) for tokens x [B, L]; probabilities [B, L, num_symbols]."""
        return self.posterior_given_probs(z, one_hot(x, self.vocab_size).to(s.dtype), s, t)

    def posterior_given_probs(self, z: Tensor, x: Tensor, s: Tensor, t: Tensor) -> Tensor:
        """The same with probabilities x [B, L, V], in which it is linear."""
        alpha_s, alpha_t = self.alpha(s).unsqueeze(-1), self.alpha(t).unsqueeze(-1)
        arrive = (alpha_s - alpha_t) / (1 - alpha_t)
        x = pad(x, (0, self.num_symbols - self.vocab_size))
        return arrive * x + (1 - arrive) * one_hot(z, self.num_symbols).to(x.dtype)

    def undecided(self, z: Tensor, u: Tensor, s: Tensor, t: Tensor) -> Tensor:
        """Where z_s is x: positions with u [B, L] below (alpha_s - alpha_t)/(1 - alpha_t), bool [B, L]."""
        return _arrived(self, u, s, t).to(z.device)


def _arrived(process: Process, u: Tensor, s: Tensor, t: Tensor) -> Tensor:
    """Where u [B, L] is below (alpha_s - alpha_t)/(1 - alpha_t), the share of what hides x that becomes x."""
    alpha_s, alpha_t = process.alpha(s), process.alpha(t)
    return u < ((alpha_s - alpha_t) / (1 - alpha_t)).to(u.device)


PROCESSES = {"masked": Masked, "uniform": Uniform}


def get_process(name: str, vocab_size: int, schedule: str = "linear") -> Process:
    """The process called `name` ("masked" or "uniform") over V classes."""
    if name not in PROCESSES:
        raise ValueError(f"process: {name!r} is not allowed; choose one of {sorted(PROCESSES)}")
    return PROCESSES[name](vocab_size, schedule)
