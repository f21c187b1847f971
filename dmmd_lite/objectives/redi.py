"""ReDi, rectified discrete flow (arXiv 2507.15897; Ugness/ReDi_discrete).

A few-step sampler errs by the correlations that a product law given z_t leaves out, and these depend on how
starts and data are coupled. So pairs (x_1, x) are drawn by running a model from the start x_1, and the
student learns them with the ordinary loss,

    z_t^l = x^l with probability alpha_t, else x_1^l;    loss CE(x | x_eta(z_t)), all positions, w = 1;

then the same again with the student as the model, round after round, from the weights it has.

Paths are those of `processes.RandomStart`: every token stays what it is until it becomes x, here and in the
sampler. Under uniform noise the ordinary step would not do: alpha_1 = 0, so it forgets the start at once and
start and data stay independent. Nor would a start of masks only, which has nothing to tell apart (derived).

Under masked noise the teacher has never seen random tokens in the place of MASK. So the student first learns
data from independent random starts for a round, the source's fine-tuning of start states, and draws the
first pairs itself. Under uniform noise the teacher draws them: its law given z_t does not depend on the path.

Perturbed rectification (the source's for text): the path begins at z_u, data noised to u ~ U(0, 1), in the
place of x_1, the model completes it to x, and t ~ U(0, u).

Pairs are kept in memory. Their randomness follows from the training seed, the model from the checkpoint, so a
run that is resumed draws the same ones again. A pair costs `pool_steps` evaluations and is used `uses` times
on average; perturbed, every sequence is completed afresh and used once.

Deviations
----------
- One schedule of learning rates over all rounds; optimiser, its length and averaging are the recipes'.
- Rounds are as long as the budget allows; pairs are drawn with replacement, `uses` times on average (images:
  100 epochs over 50k pairs; text: 20k pairs).
- Pairs come from the raw weights of the round before.
- `pool_steps` is even steps of time with exact draws: no confidence order (MaskGIT), no guidance, no greedy
  tail. Recipes have 64 on tiny worlds, 32 on images (published: 16) and 16 on text (published: 1024), where
  the budget has to pay for every sequence anew.
- Exact teachers have a floor on probabilities (recipes).
- Perturbed: the source stores its triples, all completed by the teacher, and trains at z_u itself; here they
  are made at every step, by the round's model, and t lies anywhere on the path.
- CE where the source's text code may also use Duo's bound.
"""

import copy
from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor

from dmmd_lite.denoisers.base import Denoiser, sequences_at_once
from dmmd_lite.denoisers.prediction import predict
from dmmd_lite.objectives.base import MethodSpec
from dmmd_lite.objectives.terms import stratified_times, token_nats
from dmmd_lite.processes.base import Process
from dmmd_lite.processes.random_start import RandomStart
from dmmd_lite.sampling import denoise
from dmmd_lite.utils.rng import generator_for, integers


@dataclass(frozen=True)
class ReDiSettings:
    """Settings of ReDi.

    steps: k, the number of sampling steps the student is for.
    rounds: of rectification; round_updates: loop steps of each but the last, which goes on to the end, and of
        the one on data before them.
    pool_steps: sampling steps a pair is drawn with; uses: how often a pair is used, on average, by every part
        of a batch.
    masked: share of MASK in the start, for masked noise; 1 is the noise's own start, and uniform noise's.
    perturbed: paths begin at noised data. distill: the last round always trains at t = 1 (one-step students).
    """

    steps: int
    rounds: int = 2
    round_updates: int = 10_000
    pool_steps: int = 16
    uses: int = 100
    masked: float = 0.3
    perturbed: bool = False
    distill: bool = False

    def __post_init__(self):
        for field in ("steps", "rounds", "round_updates", "pool_steps", "uses"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field}: {getattr(self, field)!r} is not allowed; it must be at least 1")
        if not 0 <= self.masked <= 1:
            raise ValueError(f"masked: {self.masked!r} is not allowed; it must lie in [0, 1]")
        if self.distill and self.perturbed:
            raise ValueError("distill: True is not allowed with perturbed, whose paths begin anywhere")

    def process(self, process: Process) -> Process:
        """The student's paths, for a teacher's noise."""
        own = process.absorbing and self.masked == 1 and process.per_position
        return process if own else RandomStart(process, self.masked)

    def first_round(self, process: Process) -> int:
        """0 if a round on data comes before the first rectification, else 1."""
        return 0 if process.absorbing and self.masked < 1 else 1


class ReDi:
    """Player "student". The copy "previous" is the student that draws a round's pairs."""

    def __init__(self, student: Denoiser, teacher: Denoiser, process: Process, settings: ReDiSettings):
        """process: the teacher's noise."""
        self.players = {"student": student}
        self.copies = {"previous": copy.deepcopy(student).requires_grad_(False)}
        self.teacher, self.settings, self.process = teacher, settings, settings.process(process)
        self.first = settings.first_round(process)
        self.pool, self.pool_round = None, -1

    def losses(self, step: int, x: Tensor, generator: torch.Generator) -> dict[str, dict[str, Tensor]]:
        """Nats per token."""
        settings, process, student = self.settings, self.process, self.players["student"]
        number = self.round_of(step)
        if number > self.first and step == (number - self.first) * settings.round_updates:
            self.copies["previous"].load_state_dict(student.state_dict())
        start, u, x = self.draw(number, x, generator)
        if settings.distill and number == settings.rounds:
            t = u
        else:
            t = u * self._times(x, generator)
        z = process.step(start, x, t, u, generator)  # x_l with probability (alpha_t - alpha_u)/(1 - alpha_u)
        law = predict(student, process, z, t, generator)
        return {"student": {"cross_entropy": token_nats(law, x).mean() / x.shape[1]}}

    def round_of(self, step: int) -> int:
        """The round a step belongs to, 0 being the one on data; steps left over belong to the last."""
        return min(self.first + step // self.settings.round_updates, self.settings.rounds)

    def draw(self, number: int, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Beginnings of paths [B, L], their times u [B] and ends x [B, L] for a round, from data x [B, L]."""
        u = torch.ones(len(x), device=x.device)
        if number == 0:
            return self.process.prior(x.shape, generator).to(x.device), u, x
        if self.settings.perturbed:
            u = self._times(x, generator)
            start = self.process.corrupt(x, u, generator)
            return start, u, self.complete(number, start, u, generator)
        if self.pool_round != number:
            pairs = ceil(self.settings.round_updates * len(x) / self.settings.uses)
            seed = generator.initial_seed() * self.settings.rounds + number
            pool_generator = generator_for(x.device, seed % 2**63)
            self.pool, self.pool_round = self.make_pool(number, pairs, x.shape[1], pool_generator), number
        rows = integers(len(self.pool[0]), (len(x),), generator).to(x.device)
        return self.pool[0][rows], u, self.pool[1][rows]

    def make_pool(
        self, number: int, pairs: int, length: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Starts and ends, [pairs, L] each, of a round."""
        device = next(self.players["student"].parameters()).device
        start = self.process.prior((pairs, length), generator).to(device)
        parts = start.split(sequences_at_once(length, self.process.vocab_size))
        ones = torch.ones(pairs, device=device)
        return start, torch.cat([self.complete(number, z, ones[: len(z)], generator) for z in parts])

    def _times(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Stratified times in (0, 1], in random order, [B]."""
        order = torch.randperm(len(x), generator=generator, device=generator.device)
        return stratified_times(len(x), generator, x.device)[order.to(x.device)]

    def complete(self, number: int, z: Tensor, t: Tensor, generator: torch.Generator) -> Tensor:
        """x [B, L] at the end of paths through z [B, L] at times t [B], by the model of a round."""
        model = self.copies["previous"] if number > self.first else self.teacher
        return denoise(model, self.process, z, t, self.settings.pool_steps, generator)


def _redi_forwards(settings: ReDiSettings) -> float:
    """A step is 3; a pair is `pool_steps`, spread over its uses. A round on data has none."""
    paired = settings.rounds / (settings.rounds + (settings.masked < 1))
    return 3 + paired * settings.pool_steps / (1 if settings.perturbed else settings.uses)


METHOD = MethodSpec(
    ReDiSettings,
    lambda settings, fresh, teacher, process: ReDi(fresh(), teacher, process, settings),
    "student",
    _redi_forwards,
    tracked=lambda settings: 1,
    copies=1,
    process=ReDiSettings.process,
)
