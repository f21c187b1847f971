"""The true posterior of a world whose distribution is known."""

from typing import Annotated

from torch import Tensor

from dmmd_lite.denoisers.base import Denoiser
from dmmd_lite.processes.base import LOG_ZERO, Process
from dmmd_lite.utils.checks import Between, checked
from dmmd_lite.utils.rng import float64_device
from dmmd_lite.worlds.base import ExactWorld, World

FLOOR = 1e-6  # the minimum probability of an exact posterior, so that logarithms stay finite


def log_posterior(world: ExactWorld, z: Tensor, t: Tensor, process: Process, floor: float = FLOOR) -> Tensor:
    """Compute log p(x_l | z_t) of an exact world, [B, L, V], for tokens z [B, L] and times t [B] of any type.

    Probabilities are raised to `floor` and renormalised; 0 leaves them as they are. Computed and returned in
    float64 on the device of z, except for MPS: there by way of the CPU and in float32.
    """
    home = float64_device(z.device)
    x = world.posterior(process.likelihood(z.to(home), t.to(home).double())).clamp(min=floor)
    log_x = (x / x.sum(-1, keepdim=True)).log()
    return log_x if home == z.device else log_x.float().to(z.device)


class ExactDenoiser(Denoiser):
    """The true posterior of an exact world. floor: the minimum probability (see `log_posterior`)."""

    @checked
    def __init__(self, world: World, process: Process, floor: Annotated[float, Between(0, 1, "[)")] = FLOOR):
        super().__init__()
        if not world.exact:
            raise ValueError(f"world: {world.name!r} is not allowed; its distribution is not known exactly")
        self.world, self.process, self.floor = world, process, floor

    def forward(self, z: Tensor, t: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return log-probabilities in float32, [B, L, V]."""
        log_x = log_posterior(self.world, z, t, self.process, self.floor).float().clamp(min=LOG_ZERO)
        return self.process.carry_over(log_x, z)
