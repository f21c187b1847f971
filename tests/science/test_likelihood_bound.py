"""The continuous-time bound of an exact denoiser is the entropy of its world.

Times by Gauss-Legendre quadrature, clean and noisy sequences by enumeration.
"""

import numpy as np
import pytest
import torch
from helpers import every_process, every_schedule, sequences

from dmmd_lite.denoisers.base import to_leave_one_out
from dmmd_lite.denoisers.exact import log_posterior
from dmmd_lite.processes import get_process
from dmmd_lite.worlds import get_world


def integrand(world, process, t):
    """Average the bound's integrand at time t (scalar) over x ~ world and z ~ q(z_t | x)."""
    states = sequences(process.num_symbols, world.length)
    x = world.outcomes.repeat_interleave(len(states), 0)
    z = states.repeat(len(world.outcomes), 1)
    t = t.expand(len(z))
    likelihood = process.likelihood(z, t).gather(-1, x.unsqueeze(-1)).squeeze(-1).prod(-1)
    weight = world.probs.repeat_interleave(len(states)) * likelihood
    x, z, t, weight = (a[weight > 0] for a in (x, z, t, weight))
    log_x = log_posterior(world, z, t, process, floor=1e-300)
    if process.bound_prediction == "leave_one_out":
        log_x = to_leave_one_out(log_x, z, t, process)
    nats = process.bound_integrand(log_x, x, z, t) * process.loss_mask(z)
    return float((weight * nats.sum(-1)).sum())


def integral(f, nodes):
    """Integrate over (0, 1) by Gauss-Legendre in u with t = u^2 (3 - 2u), for logarithms at both ends."""
    u, w = np.polynomial.legendre.leggauss(nodes)
    u, w = (u + 1) / 2, w / 2
    t = torch.from_numpy(u**2 * (3 - 2 * u))
    return sum(w_i * 6 * u_i * (1 - u_i) * f(t_i) for w_i, u_i, t_i in zip(w, u, t, strict=True))


@every_schedule
@every_process
@pytest.mark.parametrize("name", ["coins", "parity"])
def test_bound_of_the_exact_denoiser_is_the_entropy(name, process_name, schedule):
    world = get_world(name)
    process = get_process(process_name, world.vocab_size, schedule)
    coarse, fine = (integral(lambda t: integrand(world, process, t), nodes) for nodes in (24, 48))
    assert abs(fine - coarse) < 1e-7
    assert fine == pytest.approx(world.entropy(), abs=abs(fine - coarse) + 1e-9)
