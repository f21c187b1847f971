"""Discrete Moment Matching Distillation (D-MMD, arXiv 2603.20155, Algorithm 1) and the switches that turn
it into its relatives, `idlm.py` and `dimo.py`.

Names: eta is the generator (student), phi the auxiliary, theta the frozen teacher. The generator reads
(z_t, t); teacher and auxiliary read (z_s, s) with s < t. Per position, with d = log x_phi - log x_theta:

    generator   L_GEN = + sum_c x_eta,c sg(d_c)                             (11)
    auxiliary   L_AUX = - sum_c sg(x + x_theta)_c log x_phi,c               (12)

Gradients reach eta only through x_eta(z_t) and phi only through log x_phi(z_s); z_t, x, z_s and the teacher
are constants. At the auxiliary's optimum x_phi is the mean of the student's and the teacher's law.

Deviations
----------
- "fused" updates: one draw of z_s serves both players, where Algorithm 1 draws anew for each. Recipes of tiny
  worlds alternate as published, all others are fused.
- Exact teachers have a floor on probabilities (recipes).
- "start": the one-step student of the coins under uniform noise is trained at t = 1 only.
- w(s), what the paper does not state, is 1 by default, and losses are divided by the number of tokens that
  carry noise. Optimiser, learning rates, their ratio, length and averaging are the recipes'; in one step from
  uniform noise on tiny worlds the auxiliary's rate is three times as high.
"""

from dataclasses import dataclass
from math import inf, pi

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from dmmd_lite.denoisers.base import Denoiser, denoiser_noise, to_leave_one_out
from dmmd_lite.denoisers.prediction import Prediction, map_chunks, predict, weighted
from dmmd_lite.denoisers.sharpening import Sharpened, check_sharpening
from dmmd_lite.objectives.base import MethodSpec
from dmmd_lite.objectives.terms import EARLIEST, cross_entropy, soft_cross_entropy
from dmmd_lite.processes.base import Process
from dmmd_lite.processes.gaussian_coupling import signal_of
from dmmd_lite.processes.random_start import RandomStart
from dmmd_lite.processes.uniform import jump_scale, others, path_divergence, rate_ratio
from dmmd_lite.utils.lazy import moved
from dmmd_lite.utils.rng import normal, uniform

EARLIEST_POINT = 0.02  # least time of points: converted laws magnify a network's errors, see `dcd.py`
CHOICES = {
    "times": ("bridge", "independent", "start", "arccos"),
    "reverse": ("posterior", "forward", "count"),
    "target": ("hard", "soft"),
    "form": ("cross_entropy", "reverse_kernel"),
    "weight": ("one", "mean", "bound"),
    "updates": ("alternating", "fused"),
}


@dataclass(frozen=True)
class DMMDSettings:
    """What D-MMD and its relatives choose differently; the defaults are Algorithm 1 as published.

    steps: k, the number of sampling steps the student is for.
    times: "bridge" s ~ U(0, 1), t = min(1, s + U(0, 1/k)); "independent" s, t ~ U(0, 1) (with forward
        re-noising; IDLM); "start" t = 1 always (one-step students); "arccos" the same with
        s = arccos(U(0, 1)) / (pi/2), which favours large s (Di[M]O).
    reverse: z_s from the "posterior" q(z_s | z_t, x), by "forward" re-noising of x, or by masking the exact
        "count" of its tokens that s stands for, at least one.
    target: the auxiliary learns from the "hard" sample x or the "soft" x_eta (masked noise, or with tau: a
        soft target is biased where z_s tells something about a hard x).
    anchor: the term CE(x_theta | x_phi) that ties the auxiliary to the teacher.
    form: "cross_entropy", or "reverse_kernel": appendix D in continuous time, for teachers trained with the
        traditional bound of uniform noise.
    weight: w(s) on the sum over positions: "one"; "bound" -alpha'/(1-alpha); "mean" averages over the scored
        positions of each sequence, close to a constant times "bound" in expectation for linear masked noise.
    updates: "alternating" (a fresh draw for each player), or "fused": both players update from one draw.
    auxiliary_updates: auxiliary updates for each generator update.
    temperature, top_p, delta: teacher sharpening (section 3.3).

    What is None is not done:
    beta: instead of (11) the generator's logits follow Di[M]O's gradient, taken at the auxiliary's
        probabilities, with this share of the reverse divergence in it.
    masked: the student starts from tokens of which this share is MASK and the rest random (`RandomStart`).
    smoothing: label smoothing of the auxiliary's hard target.
    tau: z_s is a point of the simplex, the softmax at this temperature of a noisy x_eta, and carries its
        gradient (IDLM for uniform noise).
    """

    steps: int
    times: str = "bridge"
    reverse: str = "posterior"
    target: str = "hard"
    anchor: bool = True
    form: str = "cross_entropy"
    weight: str = "one"
    updates: str = "alternating"
    auxiliary_updates: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    delta: float = 2.0
    beta: float | None = None
    masked: float | None = None
    smoothing: float | None = None
    tau: float | None = None

    def __post_init__(self):
        for field, allowed in CHOICES.items():
            if getattr(self, field) not in allowed:
                raise ValueError(f"{field}: {getattr(self, field)!r} is not allowed; choose one of {allowed}")
        for field in ("steps", "auxiliary_updates"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field}: {getattr(self, field)!r} is not allowed; it must be at least 1")
        check_sharpening(self.temperature, self.top_p)
        if self.temperature == 0:
            raise ValueError(
                "temperature: 0 is not allowed for a teacher; hard exclusions diverge (section 3.3)"
            )
        if self.times == "independent" and self.reverse == "posterior":
            raise ValueError(
                "reverse: 'posterior' is not allowed with times 'independent', where s may exceed t"
            )
        plain, forward = self.form == "cross_entropy", self.reverse != "posterior"
        starts, relaxed = self.times in ("start", "arccos") and forward, not plain and forward
        rules = {
            "beta": (abs(self.beta or 0) < inf and plain, "finite; form 'cross_entropy'"),
            "masked": (
                0 <= (self.masked or 0) <= 1 and starts,
                "in [0, 1]; times 'start', reverse 'forward'",
            ),
            "smoothing": (0 <= (self.smoothing or 0) <= 1 and plain, "in [0, 1]; form 'cross_entropy'"),
            "tau": (
                0 < (self.tau or 0) < inf and relaxed,
                "above 0; form 'reverse_kernel', reverse 'forward'",
            ),
        }
        for field, (right, words) in rules.items():
            if getattr(self, field) is not None and not right:
                raise ValueError(f"{field}: {getattr(self, field)!r} is not allowed; it must be {words}")
        if self.smoothing is not None and self.target == "soft":
            raise ValueError(
                f"smoothing: {self.smoothing!r} is not allowed with target 'soft'; choose 'hard'"
            )
        if self.tau is not None and (self.target == "hard" or self.anchor):
            raise ValueError(f"tau: {self.tau!r} is not allowed; it needs target 'soft' and no anchor")


@dataclass(frozen=True)
class DMMDDraw:
    """One draw of Algorithm 1, lines 1-5: times s [B], tokens x and z_s [B, L].

    log_x: log x_eta(z_t) [B, L, V], which may carry a gradient; from `DMMD.draw`, the law that makes it."""

    s: Tensor
    log_x: Tensor | Prediction
    x: Tensor
    z_s: Tensor


class DMMD:
    """Players "generator" and "auxiliary", distilled from a frozen teacher."""

    def __init__(
        self,
        generator: Denoiser,
        auxiliary: Denoiser,
        teacher: Denoiser,
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
        self.start = process if settings.masked is None else RandomStart(process, settings.masked)

    def losses(self, step: int, x: Tensor, generator: torch.Generator) -> dict[str, dict[str, Tensor]]:
        """Generator and auxiliary terms of this step, nats per token that carries noise."""
        if self.settings.updates == "fused":
            generator_turn, auxiliary_turn = step % self.settings.auxiliary_updates == 0, True
        else:
            generator_turn = step % (1 + self.settings.auxiliary_updates) == 0
            auxiliary_turn = not generator_turn
        if self.settings.tau is not None:
            return self._relaxed_losses(generator_turn, auxiliary_turn, x, generator)
        with torch.set_grad_enabled(generator_turn):
            draw = self.draw(x, generator)
        asked = generator_turn or self.settings.anchor  # else the teacher has no say in this step
        with torch.no_grad():
            teacher = self._law(self.teacher, draw.z_s, draw.s, generator) if asked else None
        with torch.set_grad_enabled(auxiliary_turn):
            auxiliary = self._law(self.players["auxiliary"], draw.z_s, draw.s, generator)

        def values(log_x, log_teacher, log_auxiliary, s, x, z_s):
            piece, found = DMMDDraw(s, log_x, x, z_s), {}
            if generator_turn:
                found["generator"] = self.generator_values(piece, log_teacher, log_auxiliary.detach())
            if auxiliary_turn:
                found["auxiliary"] = self.auxiliary_values(piece, log_teacher, log_auxiliary)
            return {(player, name): v for player, values in found.items() for name, v in values.items()}

        student = draw.log_x if generator_turn or self.settings.target == "soft" else None
        laws = [student or auxiliary, teacher or auxiliary, auxiliary]  # whose law nobody asks costs nothing
        scored = self.process.loss_mask(draw.z_s)
        found = map_chunks(values, laws, [draw.s, draw.x, draw.z_s], scored, self._weight(draw))
        terms = {}
        for (player, name), v in found.items():
            terms.setdefault(player, {})[name] = self._mean(v)
        return terms

    def draw_times(self, batch: int, generator: torch.Generator, device) -> tuple[Tensor, Tensor]:
        """Times s and t, float32 [batch] each (Algorithm 1, line 1)."""
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
        """Algorithm 1, lines 1-5, from a data batch x [B, L]."""
        process, student = self.process, self.players["generator"]
        s, t = self.draw_times(len(x), generator, x.device)
        z_t = self.start.corrupt(x, t, generator)
        law = predict(student, self.start, z_t, t, generator)
        sampled = law.sample(generator)
        match self.settings.reverse:
            case "posterior":
                z_s = process.step(z_t, sampled, s, t, generator)
            case "forward":
                z_s = process.corrupt(sampled, s, generator)
            case "count":
                n = (x.shape[1] * (1 - process.alpha(s))).round().clamp(min=1)
                order = uniform(x.shape, generator).argsort(-1).to(x.device)
                z_s = torch.where(order < n, process.mask, sampled)
        return DMMDDraw(s, law, sampled, z_s)

    def _relaxed_losses(
        self, generator_turn: bool, auxiliary_turn: bool, x: Tensor, generator: torch.Generator
    ) -> dict[str, dict[str, Tensor]]:
        """The losses of `losses` where z_s is the point softmax((a x_eta + b xi) / tau), xi ~ N(0, I), which
        teacher and auxiliary read; its argmax is the observed token. Not in pieces."""
        s, t = self.draw_times(len(x), generator, x.device)
        with torch.set_grad_enabled(generator_turn):
            z_t = self.process.corrupt(x, t, generator)
            log_x = self._law(self.players["generator"], z_t, t, generator).whole
        a = signal_of(self.process.alpha(s), self.process.vocab_size).unsqueeze(-1)
        a, b = a.to(log_x), (1 - a**2).sqrt().to(log_x)
        xi = normal(log_x.shape, generator).to(log_x.device)

        def at(log_x: Tensor, *denoisers: Denoiser) -> tuple[DMMDDraw, list[Tensor]]:
            """The draw, and what the denoisers say at its z_s."""
            noisy = a * log_x.exp() + b * xi
            point, z_s = (noisy / self.settings.tau).softmax(-1), noisy.argmax(-1)
            noises = [denoiser_noise(f, len(x), generator, x.device) for f in denoisers]
            hidden = [f.hidden(point, s, noise) for f, noise in zip(denoisers, noises, strict=True)]
            logs = [f.log_x(h, z_s, s) for f, h in zip(denoisers, hidden, strict=True)]
            return DMMDDraw(s, log_x, None, z_s), logs

        terms, auxiliary = {}, self.players["auxiliary"]
        if generator_turn:  # the gradient is taken at log_x and handed on, so that none reaches the auxiliary
            leaf = log_x.detach().requires_grad_()
            draw, logs = at(leaf, self.teacher, auxiliary)
            values = self.generator_terms(draw, *logs)
            (slope,) = torch.autograd.grad(sum(values.values()), leaf)
            onward = (slope * (log_x - log_x.detach())).sum()  # 0, with that gradient
            terms["generator"] = {name: v.detach() + onward for name, v in values.items()}
        if auxiliary_turn:
            draw, (log_auxiliary,) = at(log_x.detach(), auxiliary)
            terms["auxiliary"] = self.auxiliary_terms(draw, log_auxiliary, log_auxiliary)
        return terms

    def generator_terms(
        self, draw: DMMDDraw, log_teacher: Tensor, log_auxiliary: Tensor
    ) -> dict[str, Tensor]:
        """The generator's loss by term, from laws [B, L, V]; teacher and auxiliary are constants here."""
        values = self.generator_values(draw, log_teacher, log_auxiliary)
        return {name: self.reduce(v, draw) for name, v in values.items()}

    def auxiliary_terms(
        self, draw: DMMDDraw, log_teacher: Tensor, log_auxiliary: Tensor
    ) -> dict[str, Tensor]:
        """The auxiliary's loss by term, from laws [B, L, V]; only its own law carries a gradient."""
        values = self.auxiliary_values(draw, log_teacher, log_auxiliary)
        return {name: self.reduce(v, draw) for name, v in values.items()}

    def generator_values(
        self, draw: DMMDDraw, log_teacher: Tensor, log_auxiliary: Tensor
    ) -> dict[str, Tensor]:
        """Equation 11, its reverse-kernel form, or Di[M]O's, at every position [B, L]."""
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
        """|g|^2 / 2 with gradient g, Di[M]O's, in the generator's logits, [B, L]."""
        p_teacher, p_auxiliary, beta = log_teacher.exp(), log_auxiliary.exp(), self.settings.beta
        d = log_auxiliary - log_teacher
        forward = p_auxiliary - p_teacher  # of KL(x_theta | x_phi)
        reverse = p_auxiliary * (d - (p_auxiliary * d).sum(-1, keepdim=True))  # of KL(x_phi | x_theta)
        g = (1 - beta) * forward + beta * reverse
        return 0.5 * (log_x - (log_x - g).detach()).square().sum(-1)  # g sums to 0: see `dimo.py`

    def auxiliary_values(
        self, draw: DMMDDraw, log_teacher: Tensor, log_auxiliary: Tensor
    ) -> dict[str, Tensor]:
        """Equation 12 at every position [B, L]: the student's term and, with the anchor, the teacher's."""
        if self.settings.form == "cross_entropy":
            if self.settings.target == "hard":
                values = {"student": cross_entropy(draw.x, log_auxiliary)}  # (12)
                if self.settings.smoothing is not None:
                    values["student"] = values["student"].lerp(
                        -log_auxiliary.mean(-1), self.settings.smoothing
                    )
            else:
                values = {"student": soft_cross_entropy(draw.log_x.detach(), log_auxiliary)}
            if self.settings.anchor:
                values["anchor"] = soft_cross_entropy(log_teacher, log_auxiliary)  # (12)
            return values
        alpha, scale = self.process.alpha(draw.s).unsqueeze(-1), self._jump_scale(draw)
        if self.settings.target == "hard":
            law = one_hot(draw.x, self.process.vocab_size).to(draw.log_x)
        else:
            law = draw.log_x.detach().exp()
        rates = {"student": rate_ratio(law, draw.z_s, alpha)}
        if self.settings.anchor:
            rates["anchor"] = self._rates(log_teacher, draw, alpha)
        r_auxiliary = self._rates(log_auxiliary, draw, alpha)
        return {name: scale * path_divergence(r, r_auxiliary, draw.z_s) for name, r in rates.items()}

    def _law(self, denoiser: Denoiser, z: Tensor, t: Tensor, generator: torch.Generator) -> Prediction:
        return predict(denoiser, self.process, z, t, generator)

    def _rates(self, log_x: Tensor, draw: DMMDDraw, alpha: Tensor) -> Tensor:
        return rate_ratio(to_leave_one_out(log_x, draw.z_s, draw.s, self.process).exp(), draw.z_s, alpha)

    def _jump_scale(self, draw: DMMDDraw) -> Tensor:
        return jump_scale(self.process, draw.s, self.process.vocab_size).unsqueeze(-1)

    def reduce(self, per_position: Tensor, draw: DMMDDraw) -> Tensor:
        """The loss of values [B, L]. What is known is dropped before anything is summed: teacher and
        auxiliary agree there exactly."""
        return self._mean(weighted(per_position, self.process.loss_mask(draw.z_s), self._weight(draw)))

    def _weight(self, draw: DMMDDraw) -> Tensor:
        """w(s) [B]."""
        match self.settings.weight:
            case "one":
                return torch.ones_like(draw.s)
            case "mean":
                scored = self.process.loss_mask(draw.z_s)
                return self.process.num_noised(scored.shape[-1]) / scored.sum(-1).clamp(min=1).to(draw.s)
            case "bound":
                return self.process.loss_weight(draw.s)

    def _mean(self, values: Tensor) -> Tensor:
        """Mean over the batch of weighted values [B, L], per token that carries noise."""
        return values.sum(-1).mean() / self.process.num_noised(values.shape[-1])


def _process(settings: DMMDSettings, process: Process) -> Process:
    return process if settings.masked is None else RandomStart(process, settings.masked)


def _forwards(settings: DMMDSettings) -> float:
    """A generator's turn is 3 + 1 + 1, an auxiliary's 1 + 3 and 1 for the anchor, one draw for both 7.
    Gradients through the inputs of teacher and auxiliary are 1 more each; then the auxiliary is evaluated
    anew for its own loss."""
    relaxed, anchor = settings.tau is not None, settings.anchor
    if settings.updates == "fused":
        return 10 if relaxed else 7
    turns = settings.auxiliary_updates
    return (5 + 2 * relaxed + turns * (4 + anchor)) / (1 + turns)


def _tracked(settings: DMMDSettings) -> int:
    alone = 1 if settings.tau is None else 3
    return alone if settings.updates == "alternating" else alone + 1


METHOD = MethodSpec(
    DMMDSettings,
    lambda settings, fresh, teacher, process: DMMD(fresh(), fresh(noise=False), teacher, process, settings),
    "generator",
    _forwards,
    _tracked,
    process=_process,
)


def __getattr__(name: str):
    """Names of version 0.1."""
    return moved(__name__, name, {"Switches": "DMMDSettings"})
