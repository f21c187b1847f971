"""ReDi, rectified discrete flow (arXiv 2507.15897; Ugness/ReDi_discrete).

The error of a few-step sampler comes from the correlations that a product distribution given z_t leaves out,
and these depend on how starts and data are coupled. Therefore pairs (x_1, x) are drawn by running a model
from the start x_1, and the student learns them with the ordinary loss,

    z_t^l = x^l with probability alpha_t, else x_1^l;    loss CE(x | x_eta(z_t)), all positions, w = 1.

The next round does the same with the student as the model, and training continues from its weights.

Paths are those of `processes.RandomStart`: every token keeps its start until it becomes x, in training and in
the sampler. The ordinary step of uniform noise cannot be used: alpha_1 = 0, so its first step forgets the
start, and start and data stay independent. A start of masks only cannot be used either, because it has no
information to couple (derived).

Under masked noise the teacher has never seen random tokens in the place of MASK. The student therefore first
learns data from independent random starts for one round, as in the source's fine-tuning of start states, and
draws the first pairs itself. Under uniform noise the teacher draws the first pairs: its distribution given
z_t does not depend on the path.

Perturbed rectification (the source's choice for text): the path begins at z_u, data noised to u ~ U(0, 1), in
the place of x_1, the model completes it to x, and t ~ U(0, u).

Pairs are kept in memory. Their random numbers follow from the training seed and the model from the
checkpoint, so that a resumed run draws the same pairs again. A pair costs `pool_steps` evaluations and is
used `uses` times on average; with perturbed rectification every completed sequence is new and used once.

Deviations
----------
- There is one schedule of learning rates over all rounds; the recipes set optimiser, length and averaging.
- Rounds are as long as the budget allows; pairs are drawn with replacement, `uses` times on average (the
  source has 100 epochs over 50k pairs for images and 20k pairs for text).
- Pairs come from the raw weights of the round before.
- `pool_steps` counts even steps of time with exact draws, without confidence order (MaskGIT), guidance or
  greedy tail. Recipes have 64 on tiny worlds, 32 on images (published: 16) and 16 on text (published: 1024),
  where every new sequence has to be paid from the budget.
- Exact teachers have a floor on probabilities, set by the recipe.
- Perturbed: the source stores its triples, all completed by the teacher, and trains at z_u itself; here the
  model of the round makes them at every step, and t lies anywhere on the path.
- The loss is cross-entropy, where the source's text code may also use Duo's bound.
"""

import copy
from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor, nn

from dmmd_lite.denoisers.base import sequences_at_once
from dmmd_lite.denoisers.prediction import predict
from dmmd_lite.objectives.base import MethodSpec, TokenMethod
from dmmd_lite.objectives.terms import stratified_times, token_nats
from dmmd_lite.processes.base import Process
from dmmd_lite.processes.random_start import RandomStart
from dmmd_lite.sampling import denoise
from dmmd_lite.utils.checks import Count, Fraction, check_fields, checked
from dmmd_lite.utils.rng import generator_for, integers


@dataclass(frozen=True)
class ReDiSettings:
    """Settings of ReDi.

    Args:
    steps: k, the number of sampling steps that the student is trained for.
    rounds: number of rounds of rectification.
    round_updates: loop steps of each round, also of the one on data before them; the last round lasts until
        the end of the training.
    pool_steps: sampling steps with which a pair is drawn.
    uses: mean number of times that a pair is used, by every part of a batch.
    masked: fraction of MASK in the start, for masked noise; 1 is the ordinary start of the noise, and the
        value for uniform noise.
    perturbed: whether paths begin at noised data.
    distill: whether the last round always trains at t = 1 (one-step students).
    """

    steps: Count
    rounds: Count = 2
    round_updates: Count = 10_000
    pool_steps: Count = 16
    uses: Count = 100
    masked: Fraction = 0.3
    perturbed: bool = False
    distill: bool = False

    def __post_init__(self):
        check_fields(self)
        if self.distill and self.perturbed:
            raise ValueError("distill: True is not allowed with perturbed, whose paths begin anywhere")

    def process(self, process: Process) -> Process:
        """Return the student's process for a teacher's process."""
        ordinary = process.absorbing and self.masked == 1 and process.per_position
        return process if ordinary else RandomStart(process, self.masked)

    def first_round(self, process: Process) -> int:
        """Return 0 if a round on data comes before the first rectification, else 1."""
        return 0 if process.absorbing and self.masked < 1 else 1


class ReDi(TokenMethod):
    """The method ReDi: player "student". The copy "previous" is the student that draws a round's pairs."""

    @checked
    def __init__(self, student: nn.Module, teacher: nn.Module, process: Process, settings: ReDiSettings):
        """Begin before the first round. process: the teacher's process; ValueError for held positions."""
        if process.holding:
            raise ValueError("holds: True is not allowed for ReDi, whose pairs start without data")
        self.players = {"student": student}
        self.copies = {"previous": copy.deepcopy(student).requires_grad_(False)}
        self.teacher, self.settings, self.process = teacher, settings, settings.process(process)
        self.first = settings.first_round(process)
        self._pool, self._pool_round = None, -1

    def losses(self, step: int, x: Tensor, generator: torch.Generator) -> dict[str, dict[str, Tensor]]:
        """Return the cross-entropy of this step's paths, in nats per token."""
        settings, process, student = self.settings, self.process, self.players["student"]
        number = self.round_of(step)
        if number > self.first and step == (number - self.first) * settings.round_updates:
            self.copies["previous"].load_state_dict(student.state_dict())
        start, u, x = self.draw(number, x, generator)
        t = u if settings.distill and number == settings.rounds else u * self._times(x, generator)
        z = process.step(start, x, t, u, generator)  # x_l with probability (alpha_t - alpha_u)/(1 - alpha_u)
        prediction = predict(student, process, z, t, generator)
        return {"student": {"cross_entropy": token_nats(prediction, x).mean() / x.shape[1]}}

    def round_of(self, step: int) -> int:
        """Return the round that a step belongs to; 0 is the round on data, and the last one has no end."""
        return min(self.first + step // self.settings.round_updates, self.settings.rounds)

    def draw(self, number: int, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Draw beginnings [B, L], times u [B] and ends x [B, L] of a round's paths from data x [B, L]."""
        u = torch.ones(len(x), device=x.device)
        if number == 0:
            return self.process.prior(x.shape, generator).to(x.device), u, x
        if self.settings.perturbed:
            u = self._times(x, generator)
            start = self.process.corrupt(x, u, generator)
            return start, u, self.complete(number, start, u, generator)
        if self._pool_round != number:
            pairs = ceil(self.settings.round_updates * len(x) / self.settings.uses)
            seed = generator.initial_seed() * self.settings.rounds + number
            pool_generator = generator_for(x.device, seed % 2**63)
            self._pool, self._pool_round = self.make_pool(number, pairs, x.shape[1], pool_generator), number
        rows = integers(len(self._pool[0]), (len(x),), generator).to(x.device)
        return self._pool[0][rows], u, self._pool[1][rows]

    def make_pool(
        self, number: int, pairs: int, length: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Draw the starts and ends of a round's pairs, [pairs, L] each."""
        device = next(self.players["student"].parameters()).device
        start = self.process.prior((pairs, length), generator).to(device)
        chunks = start.split(sequences_at_once(length, self.process.vocab_size))
        ones = torch.ones(pairs, device=device)
        return start, torch.cat([self.complete(number, z, ones[: len(z)], generator) for z in chunks])

    def _times(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Draw stratified times in (0, 1], in random order, [B]."""
        order = torch.randperm(len(x), generator=generator, device=generator.device)
        return stratified_times(len(x), generator, x.device)[order.to(x.device)]

    def complete(self, number: int, z: Tensor, t: Tensor, generator: torch.Generator) -> Tensor:
        """Draw the ends x [B, L] of paths through z [B, L] at times t [B] with the model of a round."""
        model = self.copies["previous"] if number > self.first else self.teacher
        return denoise(model, self.process, z, t, self.settings.pool_steps, generator)


def _forwards(settings: ReDiSettings) -> float:
    """Count the forward passes of a step: 3, and `pool_steps` for a pair, divided by its uses. A round on
    data has no pairs."""
    paired = settings.rounds / (settings.rounds + (settings.masked < 1))
    return 3 + paired * settings.pool_steps / (1 if settings.perturbed else settings.uses)


METHOD = MethodSpec(
    ReDiSettings,
    ("masked", "uniform"),
    lambda settings, fresh, teacher, process: ReDi(fresh(), teacher, process, settings),
    _forwards,
    copies=1,
    process=ReDiSettings.process,
)
