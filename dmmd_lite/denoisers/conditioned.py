"""A denoiser that was made without held positions, used where some are held."""

from torch import Tensor

from dmmd_lite.denoisers.base import Denoiser
from dmmd_lite.processes.holding import Holding


class Conditioned(Denoiser):
    """A denoiser of `process.process` that takes held symbols for tokens of its own process.

    Under masked noise tokens that are not MASK are known anyway, so the conditional distribution is the
    model's own, exactly. Under uniform noise this is *replacement*: the held tokens replace the model's at
    every step, and it takes them for tokens that may be noise. The error falls with the number of steps
    (measured on `permutations` by tests/science/test_holding.py); replacement by fresh noise of the held
    tokens, at the time of each step, had a larger one.
    """

    def __init__(self, denoiser: Denoiser, process: Holding):
        super().__init__()
        self.denoiser, self.process, self.per_position = denoiser, process, denoiser.per_position

    def draw_noise(self, batch: int, generator) -> Tensor | None:
        """Draw the inner denoiser's noise."""
        return self.denoiser.draw_noise(batch, generator)

    def forward(self, z: Tensor, t: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return log-probabilities, [B, L, V]."""
        return self.log_x(self.hidden(z, t, noise), z, t)

    def hidden(self, z: Tensor, t: Tensor, noise: Tensor | None = None) -> Tensor:
        """Compute the inner denoiser's hidden vectors."""
        return self.denoiser.hidden(self.process.classes(z), t, noise)

    def log_x(self, h: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """Return the inner denoiser's log-probabilities, and certainty where a symbol is held."""
        return self.process.carry_over(self.denoiser.log_x(h, self.process.classes(z), t), z)
