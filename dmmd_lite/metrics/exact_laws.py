"""The distribution ("law") of a K-step sampler on a world whose outcomes are known, and its distance to it.

On an enumerable world the sampler moves between finitely many states z, so its law is computed by pushing
probabilities instead of sequences through the steps: a step from state z reaches z_s with probability
prod_l sum_x x_hat(x | z)_l q(z_s,l | z_l, x), exactly. Only a denoiser's noise input has to be drawn.

On other listed worlds, with more sequences than can be enumerated, the last step is exact: given the state
before it and the noise input, an outcome x has the probability prod_l x_hat(x_l | z)_l. States and noise are
drawn. In one step the state is the start of the noise, and of masked noise there is only one.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from dmmd_lite.denoisers.base import NOT_FINITE, Denoiser, NonFinitePrediction, denoiser_noise
from dmmd_lite.metrics.intervals import jackknife, jackknife_error, share_interval
from dmmd_lite.processes.base import Process
from dmmd_lite.processes.schedules import time_grid
from dmmd_lite.sampling import sample
from dmmd_lite.utils.records import Record
from dmmd_lite.utils.rng import generator_for
from dmmd_lite.worlds.enumerable import EnumerableWorld, ListedWorld

OUTCOMES_AT_ONCE = 256  # states whose probabilities of all outcomes are computed together
KL_FLOOR = 1e-12  # minimum probability of an outcome in the divergence, which so stays finite


@torch.no_grad()
def exact_law(
    denoiser: Denoiser,
    process: Process,
    world: EnumerableWorld,
    steps: int,
    noise_draws: int,
    generator: torch.Generator,
    groups: int = 16,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Compute the law of the samples after `steps` steps in the order of `world.all_sequences`, float64
    [groups, V^L].

    A denoiser with noise input gets about `noise_draws` fresh noises a step, split into independent groups
    whose laws are all unbiased. Within a group the draws are shared among states in proportion to their
    probability, at least one each. Without noise input there is a single group, and its law is exact.
    NonFinitePrediction names the time.
    """
    symbols = torch.arange(process.num_symbols)
    states = torch.cartesian_prod(*[symbols] * world.length)  # [S, L]
    noisy = denoiser_noise(denoiser, 1, generator, device) is not None
    groups, draws = (groups, noise_draws // groups) if noisy else (1, 0)
    prior = process.likelihood(symbols[:, None], torch.ones(len(symbols), dtype=torch.float64))[:, 0, 0]
    law = prior[states].prod(-1).expand(groups, -1)
    grid = time_grid(steps)
    for t, s in zip(grid[:-1], grid[1:], strict=True):
        table = _posterior_table(process, s, t)
        law = torch.stack([_step(p, states, draws, table, denoiser, t, generator, device) for p in law])
    return law[:, (states < process.vocab_size).all(-1)]


def mean_law(
    denoiser: Denoiser, process: Process, world: EnumerableWorld, steps: int, noise_draws: int = 4096
) -> Tensor:
    """Compute `exact_law` averaged over its groups, [V^L], with noise drawn from seed 0."""
    return exact_law(denoiser, process, world, steps, noise_draws, generator_for("cpu", 0)).mean(0)


def _posterior_table(process: Process, s: Tensor, t: Tensor) -> Tensor:
    """Tabulate q(z_s | z_t, x) of one position for every z_t and x, [symbols, V, symbols]."""
    z, x = torch.meshgrid(torch.arange(process.num_symbols), torch.arange(process.vocab_size), indexing="ij")
    rows = z.numel()
    q = process.posterior(z.reshape(rows, 1), x.reshape(rows, 1), s.expand(rows), t.expand(rows))
    return q.view(*z.shape, process.num_symbols)


def _step(p, states, draws, table, denoiser, t, generator, device) -> Tensor:
    """Compute the law [S] of the states one step after law p [S] at time t."""
    live = p > 0
    calls = (p[live] * draws).ceil().long().clamp(min=1)  # number of denoiser calls for every live state
    z = states[live].repeat_interleave(calls, 0)
    weight = (p[live] / calls).repeat_interleave(calls)
    noise = denoiser_noise(denoiser, len(z), generator, device)
    x = denoiser(z.to(device), t.float().to(device).expand(len(z)), noise).cpu().double().softmax(-1)
    if not x.isfinite().all():
        raise NonFinitePrediction(f"time {float(t):.4g}: {NOT_FINITE}")
    onward = torch.einsum("nlx,nlxc->lnc", x, table[z])
    first, second = onward[: len(onward) // 2], onward[len(onward) // 2 :]
    return ((weight[:, None] * _joint(first)).T @ _joint(second)).flatten()


def _joint(onward: Tensor) -> Tensor:
    """Compute the product law [n, symbols^l] of l independent positions [l, n, symbols]."""
    joint = onward[0]
    for position in onward[1:]:
        joint = (joint[:, :, None] * position[:, None]).flatten(1)
    return joint


@torch.no_grad()
def outcome_law(
    denoiser: Denoiser,
    process: Process,
    world: ListedWorld,
    steps: int,
    draws: int,
    generator: torch.Generator,
    groups: int = 16,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Compute the law of the samples after `steps` steps over the outcomes of the world, and last that of all
    other sequences together, float64 [groups, N + 1].

    Groups are independent and unbiased; each averages over `draws // groups` states before the last step.
    There is a single group of one state, and its law is exact, for one step of masked noise without noise
    input.
    """
    certain = steps == 1 and process.absorbing
    alone = certain and denoiser_noise(denoiser, 1, generator, device) is None
    groups, each = (1, 1) if alone else (groups, draws // groups)
    outcomes, laws = world.outcomes.to(device), []
    for _ in range(groups):
        options = {"generator": generator, "trajectory": True, "device": device}
        z = sample(denoiser, process, each, world.length, steps, **options).trajectory[-2]
        found = torch.zeros(len(outcomes), dtype=torch.float64)
        for part in z.split(OUTCOMES_AT_ONCE):
            t = torch.full((len(part),), 1 / steps, device=device)
            log_x = denoiser(part, t, denoiser_noise(denoiser, len(part), generator, device))
            if not log_x.isfinite().all():
                raise NonFinitePrediction(f"time {1 / steps:.4g}: {NOT_FINITE}")
            per_token = log_x.cpu().double().log_softmax(-1).transpose(0, 1)  # [L, B, V]
            per_outcome = zip(per_token, outcomes.cpu().T, strict=True)
            found += sum(log_p[:, x] for log_p, x in per_outcome).exp().sum(0)
        laws.append(torch.cat([found / each, 1 - found.sum().view(1) / each]))
    return torch.stack(laws).clamp(min=0)


def total_variation(law: Tensor, world: ListedWorld) -> Tensor:
    """Compute half the summed absolute difference of laws [..., outcomes] from the world's, [...]."""
    return (law - world.law()).abs().sum(-1) / 2


def kl(law: Tensor, world: ListedWorld) -> Tensor:
    """Compute KL(world || law) in nats, [...]; laws [..., outcomes] are floored at `KL_FLOOR`."""
    truth = world.law()
    return (torch.xlogy(truth, truth) - truth * law.clamp(min=KL_FLOOR).log()).sum(-1)


def invalid_mass(law: Tensor, world: ListedWorld) -> Tensor:
    """Compute the probability that laws [..., outcomes] give to sequences the world never produces, [...]."""
    return law[..., world.law() == 0].sum(-1)


SHARES = (total_variation, invalid_mass)  # have values in [0, 1]


def exact_metrics(
    denoiser: Denoiser,
    process: Process,
    world: ListedWorld,
    steps: int,
    noise_draws: int = 16384,
    seed: int = 0,
    device: torch.device | str = "cpu",
    metrics: dict[str, Callable[[Tensor, ListedWorld], Tensor]] | None = None,
) -> list[Record]:
    """Measure the law of the K-step sampler, by functions of laws [..., outcomes] and the world.

    metrics: name of the record -> function; None: total variation, KL divergence and invalid mass.
    Intervals are over the noise draws, on listed worlds over the states before the last step as well; there
    is none (and n = 0) where nothing is drawn.
    Finite draws bias distances upwards, total variation over N outcomes by up to 0.4 sqrt(N / noise_draws).
    """
    law = exact_law if "enumerable" in world.traits else outcome_law
    laws = law(denoiser, process, world, steps, noise_draws, generator_for(device, seed), device=device)
    groups = len(laws)
    n = noise_draws if groups > 1 else 0
    left_out = (laws.sum(0) - laws) / max(groups - 1, 1)
    records = []
    metrics = metrics or {metric.__name__: metric for metric in (total_variation, kl, invalid_mass)}
    for name, metric in metrics.items():
        value = float(metric(laws.mean(0), world))
        low = high = None
        if groups > 1:
            values = metric(left_out, world).numpy()
            if metric in SHARES:
                low, high = share_interval(value, n, jackknife_error(values), groups - 1)
            else:
                low, high = jackknife(value, values, minimum=0)
        details = {"direction": "KL(world || law)", "floor": KL_FLOOR} if metric is kl else {}
        records.append(Record(name, value, low, high, n, "the world's law", details))
    return records
