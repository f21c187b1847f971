"""Discrete Moment Matching Distillation (D-MMD, arXiv 2603.20155, Algorithm 1), with the settings that turn
it into the related methods of `idlm.py` and `dimo.py`.

Names: eta is the generator (student), phi the auxiliary, theta the frozen teacher. The generator reads
(z_t, t); teacher and auxiliary read (z_s, s) with s < t. The losses per position, with
d = log x_phi - log x_theta, are

    generator   L_GEN = + sum_c x_eta,c sg(d_c)                             (11)
    auxiliary   L_AUX = - sum_c sg(x + x_theta)_c log x_phi,c               (12)

Gradients reach eta only through x_eta(z_t) and phi only through log x_phi(z_s); z_t, x, z_s and the teacher
are constants. At the auxiliary's optimum x_phi is the mean of the student's and the teacher's distribution.

Deviations
----------
- With "fused" updates one draw of z_s serves both players, where Algorithm 1 draws anew for each. Recipes of
  tiny worlds alternate as published; all other recipes use fused updates.
- Exact teachers have a floor on probabilities, set by the recipe.
- The one-step student of the coins under uniform noise is trained at t = 1 only (times "start").
- The paper does not state w(s). It is 1 by default, and losses are divided by the number of tokens that carry
  noise. The recipes set optimiser, learning rates, their ratio, length and averaging; for one step from
  uniform noise on tiny worlds the auxiliary's rate is three times as high.
"""

from dataclasses import dataclass
from math import pi
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from dmmd_lite.denoisers.base import Denoiser, denoiser_noise, to_leave_one_out
from dmmd_lite.denoisers.prediction import Prediction, map_chunks, predict, weighted
from dmmd_lite.denoisers.sharpening import Sharpened
from dmmd_lite.objectives.base import MethodSpec, TokenMethod
from dmmd_lite.objectives.terms import EARLIEST, cross_entropy, soft_cross_entropy
from dmmd_lite.processes.base import Process
from dmmd_lite.processes.gaussian_coupling import signal_of
from dmmd_lite.processes.random_start import RandomStart
from dmmd_lite.processes.uniform import jump_scale, others, path_divergence, rate_ratio
from dmmd_lite.utils.checks import (
    Count,
    Fraction,
    Positive,
    PositiveFraction,
    PositiveOrZero,
    check_fields,
    checked,
)
from dmmd_lite.utils.lazy import moved
from dmmd_lite.utils.rng import normal, uniform

EARLIEST_POINT = 0.02  # minimum s with tau: the conversion to leave-one-out magnifies errors, see `dcd.py`
Terms = dict[str, Tensor]  # values by the name of the term


@dataclass(frozen=True)
class DMMDSettings:
    """Settings of D-MMD and its related methods; the defaults are Algorithm 1 as published.

    Args:
    steps: k, the number of sampling steps that the student is trained for.
    times: "bridge": s ~ U(0, 1), t = min(1, s + U(0, 1/k)). "independent": s, t ~ U(0, 1), not with reverse
        "posterior" (IDLM). "start": s ~ U(0, 1), t = 1 (one-step students). "arccos": t = 1 and
        s = arccos(U(0, 1)) / (pi/2), which favours large s (Di[M]O).
    reverse: z_s comes from the "posterior" q(z_s | z_t, x), from "forward" re-noising of x, or from masking
        an exact "count" of its tokens, the number that s stands for and at least one.
    target: the auxiliary learns from the "hard" sample x or from the "soft" x_eta (masked noise, or with tau:
        a soft target is biased where z_s depends on a hard x).
    anchor: whether the term CE(x_theta | x_phi) ties the auxiliary to the teacher.
    form: "cross_entropy", or "reverse_kernel": appendix D in continuous time, for teachers trained with the
        traditional bound of uniform noise.
    weight: w(s), the factor of the sum over positions. "one": 1. "bound": -alpha'/(1-alpha). "mean": averages
        over the scored positions of each sequence, in expectation close to a constant times "bound" for
        linear masked noise.
    updates: "alternating" (each player has a fresh draw) or "fused" (both players update from one draw).
    auxiliary_updates: number of auxiliary updates for each generator update.
    temperature, top_p, delta: sharpening of the teacher; a temperature of 0 would diverge, as hard exclusions
        do (section 3.3).

    The following settings are off by default (None):
    beta: the generator's logits follow Di[M]O's gradient instead of (11), taken at the auxiliary's
        probabilities; beta is the weight of the reverse divergence in it.
    masked: the student starts from tokens of which this fraction is MASK and the rest random (`RandomStart`).
    smoothing: label smoothing of the auxiliary's hard target.
    tau: z_s is a point of the simplex, the softmax of a noisy x_eta at this temperature, and carries its
        gradient (IDLM for uniform noise).
    """

    steps: Count
    times: Literal["bridge", "independent", "start", "arccos"] = "bridge"
    reverse: Literal["posterior", "forward", "count"] = "posterior"
    target: Literal["hard", "soft"] = "hard"
    anchor: bool = True
    form: Literal["cross_entropy", "reverse_kernel"] = "cross_entropy"
    weight: Literal["one", "mean", "bound"] = "one"
    updates: Literal["alternating", "fused"] = "alternating"
    auxiliary_updates: Count = 1
    temperature: Positive = 1.0
    top_p: PositiveFraction = 1.0
    delta: PositiveOrZero = 2.0
    beta: float | None = None
    masked: Fraction | None = None
    smoothing: Fraction | None = None
    tau: Positive | None = None

    def __post_init__(self):
        check_fields(self)
        plain, soft = self.form == "cross_entropy", self.target == "soft"
        forward = self.reverse != "posterior"
        from_start = self.times in ("start", "arccos") and forward
        relaxed = not plain and forward and soft and not self.anchor
        rules = {  # field: (whether the other settings allow its value, what it needs)
            "reverse": (forward or self.times != "independent", "times with s <= t, not 'independent'"),
            "beta": (self.beta is None or plain, "form cross_entropy"),
            "masked": (self.masked is None or from_start, "times start or arccos, reverse forward or count"),
            "smoothing": (self.smoothing is None or plain and not soft, "form cross_entropy, target hard"),
            "tau": (
                self.tau is None or relaxed,
                "form reverse_kernel, target soft, reverse forward, no anchor",
            ),
        }
        for field, (allowed, words) in rules.items():
            if not allowed:
                raise ValueError(f"{field}: {getattr(self, field)!r} is not allowed; it needs {words}")

    def process(self, process: Process) -> Process:
        """Return the student's process for a teacher's process."""
        return process if self.masked is None else process.within(lambda p: RandomStart(p, self.masked))


@dataclass(frozen=True)
class DMMDDraw:
    """One draw of Algorithm 1, lines 1-5.

    Args:
    s: times [B].
    log_x: log x_eta(z_t) [B, L, V], which may carry a gradient; in a draw of `DMMD.draw`, its `Prediction`.
    x, z_s: tokens [B, L].
    """

    s: Tensor
    log_x: Tensor | Prediction
    x: Tensor
    z_s: Tensor


class DMMD(TokenMethod):
    """The method D-MMD: players "generator" and "auxiliary", distilled from a frozen teacher."""

    @checked
    def __init__(
        self,
        generator: nn.Module,
        auxiliary: nn.Module,
        teacher: nn.Module,
        process: Process,
        settings: DMMDSettings,
    ):
        if settings.target == "soft" and not process.absorbing and settings.tau is None:
            where = f"{process.name} noise, where it biases the auxiliary"
            raise ValueError(f"target: 'soft' is not allowed for {where}")
        if settings.form == "reverse_kernel" and not process.uniform:
            raise ValueError(
                f"form: 'reverse_kernel' is not allowed for {process.name} noise; it is for uniform noise"
            )
        if settings.reverse == "count" and not (process.absorbing and process.per_position):
            raise ValueError("reverse: 'count' is not allowed here; it is for masked noise without blocks")
        for field, value in (("reverse", settings.reverse == "count"), ("tau", settings.tau is not None)):
            if value and process.holding:
                raise ValueError(f"{field}: {getattr(settings, field)!r} is not allowed with held positions")
        if settings.tau is not None and not process.per_position:
            raise ValueError(f"tau: {settings.tau!r} is not allowed with blocks; choose None")
        if settings.masked is not None and not process.absorbing:
            raise ValueError(
                f"masked: {settings.masked!r} is not allowed for {process.name} noise; choose None"
            )
        self.players = {"generator": generator, "auxiliary": auxiliary}
        if settings.temperature != 1 or settings.top_p != 1:
            teacher = Sharpened(teacher, settings.temperature, settings.top_p, settings.delta)
        self.teacher, self.process, self.settings = teacher, process, settings
        self.start = settings.process(process)

    def losses(self, step: int, x: Tensor, generator: torch.Generator) -> dict[str, dict[str, Tensor]]:
        """Return the terms of generator and auxiliary at this step, in nats per token that carries noise."""
        settings = self.settings
        fused, turns = settings.updates == "fused", settings.auxiliary_updates
        generator_turn = step % (turns if fused else 1 + turns) == 0
        auxiliary_turn = fused or not generator_turn
        if settings.tau is not None:
            return self._relaxed_losses(generator_turn, auxiliary_turn, x, generator)
        with torch.set_grad_enabled(generator_turn):
            draw = self.draw(x, generator)
        needs_teacher = generator_turn or settings.anchor
        with torch.no_grad():
            teacher = self._predict(self.teacher, draw.z_s, draw.s, generator) if needs_teacher else None
        with torch.set_grad_enabled(auxiliary_turn):
            auxiliary = self._predict(self.players["auxiliary"], draw.z_s, draw.s, generator)

        def values(log_x, log_teacher, log_auxiliary, s, x, z_s):
            chunk, found = DMMDDraw(s, log_x, x, z_s), {}
            if generator_turn:
                found["generator"] = self.generator_values(chunk, log_teacher, log_auxiliary.detach())
            if auxiliary_turn:
                found["auxiliary"] = self.auxiliary_values(chunk, log_teacher, log_auxiliary)
            return {(player, name): v for player, values in found.items() for name, v in values.items()}

        # The auxiliary's prediction fills the places of unused ones, because repeated ones are made once.
        student = draw.log_x if generator_turn or settings.target == "soft" else auxiliary
        predictions, scored = [student, teacher or auxiliary, auxiliary], self.process.loss_mask(draw.z_s)
        found = map_chunks(values, predictions, [draw.s, draw.x, draw.z_s], scored, self._weight(draw))
        terms = {}
        for (player, name), v in found.items():
            terms.setdefault(player, {})[name] = self._mean(v)
        return terms

    def draw_times(self, batch: int, generator: torch.Generator, device) -> tuple[Tensor, Tensor]:
        """Draw times s and t, float32 [batch] each (Algorithm 1, line 1)."""
        s, u = uniform((2, batch), generator).to(device, torch.float32)
        s = s.clamp(min=EARLIEST if self.settings.tau is None else EARLIEST_POINT)
        match self.settings.times:
            case "bridge":
                return s, (s + u / self.settings.steps).clamp(max=1)
            case "independent":
                return s, u
            case "start":
                return s, torch.ones_like(s)
            case "arccos":
                return (s.arccos() / (pi / 2)).clamp(min=EARLIEST), torch.ones_like(s)

    def draw(self, x: Tensor, generator: torch.Generator) -> DMMDDraw:
        """Run lines 1-5 of Algorithm 1 from a batch of data x [B, L]."""
        process, student = self.process, self.players["generator"]
        s, t = self.draw_times(len(x), generator, x.device)
        z_t = self.start.corrupt(x, t, generator)
        prediction = predict(student, self.start, z_t, t, generator)
        sampled = prediction.sample(generator)
        match self.settings.reverse:
            case "posterior":
                z_s = process.step(z_t, sampled, s, t, generator)
            case "forward":
                z_s = process.corrupt(process.like(sampled, z_t), s, generator)
            case "count":
                n = (x.shape[1] * (1 - process.alpha(s))).round().clamp(min=1)
                order = uniform(x.shape, generator).argsort(-1).to(x.device)
                z_s = torch.where(order < n, process.mask, sampled)
        return DMMDDraw(s, prediction, sampled, z_s)

    def _relaxed_losses(
        self, generator_turn: bool, auxiliary_turn: bool, x: Tensor, generator: torch.Generator
    ) -> dict[str, dict[str, Tensor]]:
        """Return the terms of `losses` with tau, for tokens x [B, L].

        Teacher and auxiliary read the point z_s = softmax((a x_eta + b xi) / tau), xi ~ N(0, I), whose argmax
        is the observed token. The batch is not split into chunks.
        """
        s, t = self.draw_times(len(x), generator, x.device)
        with torch.set_grad_enabled(generator_turn):
            z_t = self.process.corrupt(x, t, generator)
            log_x = self._predict(self.players["generator"], z_t, t, generator).whole
        a = signal_of(self.process.alpha(s), self.process.vocab_size).unsqueeze(-1)
        a, b = a.to(log_x), (1 - a**2).sqrt().to(log_x)
        xi = normal(log_x.shape, generator).to(log_x.device)

        def at(log_x: Tensor, *denoisers: Denoiser) -> tuple[DMMDDraw, list[Tensor]]:
            """Return the draw made from log_x, and the denoisers' log-probabilities at its z_s."""
            noisy = a * log_x.exp() + b * xi
            point, z_s = (noisy / self.settings.tau).softmax(-1), noisy.argmax(-1)
            noises = [denoiser_noise(f, len(x), generator, x.device) for f in denoisers]
            hidden = [f.hidden(point, s, noise) for f, noise in zip(denoisers, noises, strict=True)]
            logs = [f.log_x(h, z_s, s) for f, h in zip(denoisers, hidden, strict=True)]
            return DMMDDraw(s, log_x, None, z_s), logs

        terms, auxiliary = {}, self.players["auxiliary"]
        if generator_turn:  # the gradient is computed in log_x first, so that none reaches the auxiliary
            leaf = log_x.detach().requires_grad_()
            draw, logs = at(leaf, self.teacher, auxiliary)
            values = self.generator_terms(draw, *logs)
            (slope,) = torch.autograd.grad(sum(values.values()), leaf)
            surrogate = (slope * (log_x - log_x.detach())).sum()  # its value is 0 and its gradient is `slope`
            terms["generator"] = {name: v.detach() + surrogate for name, v in values.items()}
        if auxiliary_turn:
            draw, (log_auxiliary,) = at(log_x.detach(), auxiliary)
            terms["auxiliary"] = self.auxiliary_terms(draw, log_auxiliary, log_auxiliary)
        return terms

    def generator_terms(self, draw: DMMDDraw, log_teacher: Tensor, log_auxiliary: Tensor) -> Terms:
        """Return the generator's loss by term, for constant log-probabilities [B, L, V] of the others."""
        values = self.generator_values(draw, log_teacher, log_auxiliary)
        return {name: self.reduce(v, draw) for name, v in values.items()}

    def auxiliary_terms(self, draw: DMMDDraw, log_teacher: Tensor, log_auxiliary: Tensor) -> Terms:
        """Return the auxiliary's loss by term. Only log_auxiliary [B, L, V] carries a gradient."""
        values = self.auxiliary_values(draw, log_teacher, log_auxiliary)
        return {name: self.reduce(v, draw) for name, v in values.items()}

    def generator_values(self, draw: DMMDDraw, log_teacher: Tensor, log_auxiliary: Tensor) -> Terms:
        """Compute equation 11, its reverse-kernel form or Di[M]O's loss, at every position [B, L]."""
        if self.settings.beta is not None:
            return {"logits": self._logit_values(draw.log_x, log_teacher, log_auxiliary)}
        if self.settings.form == "cross_entropy":
            per_position = (draw.log_x.exp() * (log_auxiliary - log_teacher)).sum(-1)  # (11)
        else:
            alpha = self.process.alpha(draw.s).unsqueeze(-1)
            r_teacher = self._rates(log_teacher, draw, alpha)
            r_auxiliary = self._rates(log_auxiliary, draw, alpha)
            r_student = rate_ratio(draw.log_x.exp(), draw.z_s, alpha)
            per_position = self._jump_scale(draw) * others(
                r_student * (r_auxiliary / r_teacher).log() - r_auxiliary + r_teacher, draw.z_s
            )  # appendix D, ds -> 0
        return {"moment": per_position}

    def _logit_values(self, log_x: Tensor, log_teacher: Tensor, log_auxiliary: Tensor) -> Tensor:
        """Compute |g|^2 / 2, whose gradient in the generator's logits is Di[M]O's g, [B, L]."""
        p_teacher, p_auxiliary, beta = log_teacher.exp(), log_auxiliary.exp(), self.settings.beta
        d = log_auxiliary - log_teacher
        forward = p_auxiliary - p_teacher  # gradient of KL(x_theta | x_phi)
        reverse = p_auxiliary * (d - (p_auxiliary * d).sum(-1, keepdim=True))  # of KL(x_phi | x_theta)
        g = (1 - beta) * forward + beta * reverse  # sums to 0, so that log_x can replace the logits
        return 0.5 * (log_x - (log_x - g).detach()).square().sum(-1)

    def auxiliary_values(self, draw: DMMDDraw, log_teacher: Tensor, log_auxiliary: Tensor) -> Terms:
        """Compute equation 12 at every position [B, L]: the term "student" and, with the anchor, "anchor"."""
        settings, hard = self.settings, self.settings.target == "hard"
        if settings.form == "cross_entropy":
            if hard:
                values = {"student": cross_entropy(draw.x, log_auxiliary)}  # (12)
            else:
                values = {"student": soft_cross_entropy(draw.log_x.detach(), log_auxiliary)}
            if settings.smoothing is not None:
                values["student"] = values["student"].lerp(-log_auxiliary.mean(-1), settings.smoothing)
            if settings.anchor:
                values["anchor"] = soft_cross_entropy(log_teacher, log_auxiliary)  # (12)
            return values
        alpha, scale = self.process.alpha(draw.s).unsqueeze(-1), self._jump_scale(draw)
        p = one_hot(draw.x, self.process.vocab_size).to(draw.log_x) if hard else draw.log_x.detach().exp()
        rates = {"student": rate_ratio(p, draw.z_s, alpha)}
        if settings.anchor:
            rates["anchor"] = self._rates(log_teacher, draw, alpha)
        r_auxiliary = self._rates(log_auxiliary, draw, alpha)
        return {name: scale * path_divergence(r, r_auxiliary, draw.z_s) for name, r in rates.items()}

    def _predict(self, denoiser: Denoiser, z: Tensor, t: Tensor, generator: torch.Generator) -> Prediction:
        """Predict x at z [B, L] and t [B] under the teacher's process."""
        return predict(denoiser, self.process, z, t, generator)

    def _rates(self, log_x: Tensor, draw: DMMDDraw, alpha: Tensor) -> Tensor:
        """Return the relative jump rates of a posterior log_x at z_s, [B, L, V]."""
        return rate_ratio(to_leave_one_out(log_x, draw.z_s, draw.s, self.process).exp(), draw.z_s, alpha)

    def _jump_scale(self, draw: DMMDDraw) -> Tensor:
        """Return the factor of all jump rates at s, [B, 1]."""
        return jump_scale(self.process, draw.s, self.process.vocab_size).unsqueeze(-1)

    def reduce(self, per_position: Tensor, draw: DMMDDraw) -> Tensor:
        """Reduce values [B, L] to the loss. Known positions, where teacher and auxiliary agree exactly, are
        dropped before anything is summed."""
        return self._mean(weighted(per_position, self.process.loss_mask(draw.z_s), self._weight(draw)))

    def _weight(self, draw: DMMDDraw) -> Tensor:
        """Return w(s), [B]."""
        if self.settings.weight == "one":
            return torch.ones_like(draw.s)
        if self.settings.weight == "bound":
            return self.process.loss_weight(draw.s)
        scored = self.process.loss_mask(draw.z_s)
        return self.process.num_noised(scored.shape[-1]) / scored.sum(-1).clamp(min=1).to(draw.s)

    def _mean(self, values: Tensor) -> Tensor:
        """Average weighted values [B, L] over the batch, per token that carries noise."""
        return values.sum(-1).mean() / self.process.num_noised(values.shape[-1])


def _forwards(settings: DMMDSettings) -> float:
    """Count the forward passes of a step. A turn of the generator costs 3 + 1 + 1, a turn of the auxiliary
    1 + 3 and 1 for the anchor, and one draw for both 7. With tau, gradients through the inputs of teacher and
    auxiliary cost 1 more each, and the auxiliary is evaluated again for its loss."""
    relaxed, anchor = settings.tau is not None, settings.anchor
    if settings.updates == "fused":
        return 10 if relaxed else 7
    turns = settings.auxiliary_updates
    return (5 + 2 * relaxed + turns * (4 + anchor)) / (1 + turns)


def _tracked(settings: DMMDSettings) -> int:
    """Count the tracked networks: the generator, with tau all three, and in a fused step the auxiliary."""
    alone = 1 if settings.tau is None else 3
    return alone if settings.updates == "alternating" else alone + 1


METHOD = MethodSpec(
    DMMDSettings,
    ("masked", "uniform"),
    lambda settings, fresh, teacher, process: DMMD(fresh(), fresh(noise=False), teacher, process, settings),
    _forwards,
    _tracked,
    players=("generator", "auxiliary"),
    process=DMMDSettings.process,
)


def __getattr__(name: str):
    """Return a name of version 0.1, with a warning."""
    return moved(__name__, name, {"Switches": "DMMDSettings"})
