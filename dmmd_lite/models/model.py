"""A model: a denoiser with its world and its noise process, ready to sample."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from dmmd_lite.denoisers.autoregressive import Autoregressive
from dmmd_lite.denoisers.base import Denoiser, NonFinitePrediction
from dmmd_lite.processes.base import Process
from dmmd_lite.recipes.recipe import Recipe
from dmmd_lite.sampling import Samples, sample
from dmmd_lite.utils.checks import Count, PositiveFraction, PositiveOrZero, Seed, checked
from dmmd_lite.utils.rng import generator_for
from dmmd_lite.utils.tensors import Device
from dmmd_lite.worlds.base import World


@dataclass
class Model:
    """A denoiser with its world and process, ready to sample or to distil.

    Args:
    denoiser: a denoiser, or an autoregressive model, which has no process.
    weights: "ema", "raw", "exact" or "as given".
    provenance: how it was trained, and the SHA-256 of its weights.
    """

    name: str
    recipe: Recipe
    denoiser: Denoiser | Autoregressive
    process: Process | None
    world: World
    weights: str
    provenance: dict

    @property
    def default_steps(self) -> int:
        """The steps a student is made for; else the number of positions that carry noise at a time."""
        if self.recipe.method:
            return self.recipe.method.steps
        return self.process.num_noised(self.world.length) if self.process else self.world.length

    @property
    def replaces(self) -> bool:
        """Whether held positions replace the model's own at every step, which is approximate
        (`denoisers.conditioned`)."""
        return self.process is not None and not (self.process.holding or self.process.absorbing)

    @checked
    def sample(
        self,
        num: Count,
        steps: Count | None = None,
        *,
        seed: Seed = 0,
        temperature: PositiveOrZero = 1.0,
        top_p: PositiveFraction = 1.0,
        device: Device = "cpu",
        **options,
    ) -> Samples:
        """Draw `num` sequences in `steps` denoising steps (None: `default_steps`).

        An autoregressive model takes one step a token, whatever `steps` says. Further options are those of
        `sampling.sample`. Errors: ValueError as there, and for a greedy tail or held positions of an
        autoregressive model;
        NonFinitePrediction, which names the model and the step.
        """
        options |= {"generator": generator_for(device, seed), "temperature": temperature, "top_p": top_p}
        options["device"] = device
        length, steps = self.world.length, self.default_steps if steps is None else steps
        if isinstance(self.denoiser, Autoregressive):
            if options.pop("greedy_tail", False):
                raise ValueError("greedy_tail: True is not allowed for an autoregressive model; only False")
            if options.pop("held", None) is not None:
                raise ValueError("held: not allowed for an autoregressive model; only None")
            with self.named_errors():
                return Samples(self.denoiser.sample(num, length, **options), length, length)
        with self.named_errors():
            return sample(self.denoiser, self.process, num, length, steps, **options)

    @contextmanager
    def named_errors(self) -> Iterator[None]:
        """Put the model's name before the message of a NonFinitePrediction."""
        try:
            yield
        except NonFinitePrediction as error:
            raise NonFinitePrediction(f"{self.name}: {error}") from None
