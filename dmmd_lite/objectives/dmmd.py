"""Discrete Moment Matching Distillation (D-MMD, arXiv 2603.20155, Algorithm 1) and the switches that turn
it into its relatives.

Names: eta is the generator (student), phi the auxiliary, theta the frozen teacher. The generator reads
(z_t, t); teacher and auxiliary read (z_s, s) with s < t. Per position, with d = log x_phi - log x_theta:

    generator   L_GEN = + sum_c x_eta,c sg(d_c)                             (11)
    auxiliary   L_AUX = - sum_c sg(x + x_theta)_c log x_phi,c               (12)

Gradients reach eta only through x_eta(z_t) and phi only through log x_phi(z_s); z_t, x, z_s and the teacher
are constants. At the auxiliary's optimum x_phi is the mean of the student's and the teacher's law.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from dmmd_lite.denoisers import Denoiser, Sharpened, check_sharpening, denoiser_noise, to_leave_one_out
from dmmd_lite.objectives.teacher import EARLIEST, jump_scale, others, path_divergence, rate_ratio
from dmmd_lite.processes import Process
from dmmd_lite.rng import categorical, uniform

CHOICES = {
    "times": ("bridge", "independent", "start"),
    "reverse": ("posterior", "forward"),
    "target": ("hard", "soft"),
    "form": ("cross_entropy", "reverse_kernel"),
    "weight": ("one", "mean", "bound"),
    "updates": ("alternating", "fused"),
}


@dataclass(frozen=True)
class Switches:
    """What D-MMD and its relatives choose differently; the defaults are Algorithm 1 as published.

    steps: k, the number of sampling steps the student is for.
    times: "bridge" s ~ U(0, 1), t = min(1, s + U(0, 1/k)); "independent" s, t ~ U(0, 1) (with forward
        re-noising; IDLM); "start" t = 1 always (one-step students).
    reverse: z_s from the "posterior" q(z_s | z_t, x), or by "forward" re-noising of x.
    target: the auxiliary learns from the "hard" sample x or the "soft" x_eta (masked noise only: a soft
        target is biased where z_s tells something about x).
    anchor: the term CE(x_theta | x_phi) that ties the auxiliary to the teacher.
    form: "cross_entropy", or "reverse_kernel": appendix D in continuous time, for teachers trained with the
        traditional bound of uniform noise.
    weight: w(s) on the sum over positions: "one"; "bound" -alpha'/(1-alpha); "mean" averages over the scored
        positions of each sequence, close to a constant times "bound" in expectation for linear masked noise.
    updates: "alternating" (a fresh draw for each player), or "fused": both players update from one draw.
    auxiliary_updates: auxiliary updates for each generator update.
    temperature, top_p, delta: teacher sharpening (section 3.3).
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


@dataclass(frozen=True)
class Draw:
    """One draw of Algorithm 1, lines 1-5: log_x is log x_eta(z_t) [B, L, V] and may carry a gradient."""

    s: Tensor
    log_x: Tensor
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
        switches: Switches,
    ):
        if switches.target == "soft" and not process.absorbing:
            raise ValueError("target: 'soft' is not allowed for uniform noise, where it biases the auxiliary")
        if switches.form == "reverse_kernel" and process.absorbing:
            raise ValueError(
                "form: 'reverse_kernel' is not allowed for masked noise; it is for uniform noise"
            )
        self.players = {"generator": generator, "auxiliary": auxiliary}
        if switches.temperature != 1 or switches.top_p != 1:
            teacher = Sharpened(teacher, switches.temperature, switches.top_p, switches.delta)
        self.teacher, self.process, self.switches = teacher, process, switches

    def losses(self, step: int, x: Tensor, generator: torch.Generator) -> dict[str, dict[str, Tensor]]:
        """Generator and auxiliary terms of this step, nats per token that carries noise."""
        if self.switches.updates == "fused":
            generator_turn, auxiliary_turn = step % self.switches.auxiliary_updates == 0, True
        else:
            generator_turn = step % (1 + self.switches.auxiliary_updates) == 0
            auxiliary_turn = not generator_turn
        with torch.set_grad_enabled(generator_turn):
            draw = self.draw(x, generator)
        with torch.no_grad():
            noise = denoiser_noise(self.teacher, len(x), generator, x.device)
            log_teacher = self.teacher(draw.z_s, draw.s, noise)
        with torch.set_grad_enabled(auxiliary_turn):
            auxiliary = self.players["auxiliary"]
            noise = denoiser_noise(auxiliary, len(x), generator, x.device)
            log_auxiliary = auxiliary(draw.z_s, draw.s, noise)
        terms = {}
        if generator_turn:
            terms["generator"] = self.generator_terms(draw, log_teacher, log_auxiliary.detach())
        if auxiliary_turn:
            terms["auxiliary"] = self.auxiliary_terms(draw, log_teacher, log_auxiliary)
        return terms

    def draw_times(self, batch: int, generator: torch.Generator, device) -> tuple[Tensor, Tensor]:
        """Times s and t, float32 [batch] each (Algorithm 1, line 1)."""
        s, u = uniform((2, batch), generator).to(device, torch.float32)
        s = s.clamp(min=EARLIEST)
        match self.switches.times:
            case "bridge":
                return s, (s + u / self.switches.steps).clamp(max=1)
            case "independent":
                return s, u
            case "start":
                return s, torch.ones_like(s)

    def draw(self, x: Tensor, generator: torch.Generator) -> Draw:
        """Algorithm 1, lines 1-5, from a data batch x [B, L]."""
        process, student = self.process, self.players["generator"]
        s, t = self.draw_times(len(x), generator, x.device)
        z_t = process.corrupt(x, t, generator)
        log_x = student(z_t, t, denoiser_noise(student, len(x), generator, x.device))
        sampled = categorical(log_x, generator)
        if self.switches.reverse == "posterior":
            z_s = process.step(z_t, sampled, s, t, generator)
        else:
            z_s = process.corrupt(sampled, s, generator)
        return Draw(s, log_x, sampled, z_s)

    def generator_terms(self, draw: Draw, log_teacher: Tensor, log_auxiliary: Tensor) -> dict[str, Tensor]:
        """Equation 11, or its reverse-kernel form; teacher and auxiliary are constants here."""
        if self.switches.form == "cross_entropy":
            per_position = (draw.log_x.exp() * (log_auxiliary - log_teacher)).sum(-1)  # (11)
        else:
            alpha = self.process.alpha(draw.s).unsqueeze(-1)
            r_teacher = self._rates(log_teacher, draw, alpha)
            r_auxiliary = self._rates(log_auxiliary, draw, alpha)
            r_student = rate_ratio(draw.log_x.exp(), draw.z_s, alpha)
            per_position = self._jump_scale(draw) * others(
                r_student * (r_auxiliary / r_teacher).log() - r_auxiliary + r_teacher, draw.z_s
            )  # appendix D, ds -> 0
        return {"moment": self._reduce(per_position, draw)}

    def auxiliary_terms(self, draw: Draw, log_teacher: Tensor, log_auxiliary: Tensor) -> dict[str, Tensor]:
        """Equation 12: the student's term and, with the anchor, the teacher's."""
        soft = self.switches.target == "soft"
        target = (
            draw.log_x.detach().exp() if soft else one_hot(draw.x, self.process.vocab_size).to(draw.log_x)
        )
        targets = {"student": target}
        if self.switches.anchor:
            targets["anchor"] = log_teacher.exp()
        terms = {}
        for name, law in targets.items():
            if self.switches.form == "cross_entropy":
                per_position = -(law * log_auxiliary).sum(-1)  # (12)
            else:
                alpha = self.process.alpha(draw.s).unsqueeze(-1)
                r_auxiliary = self._rates(log_auxiliary, draw, alpha)
                r_law = (
                    self._rates(log_teacher, draw, alpha)
                    if name == "anchor"
                    else rate_ratio(law, draw.z_s, alpha)
                )
                per_position = self._jump_scale(draw) * path_divergence(r_law, r_auxiliary, draw.z_s)
            terms[name] = self._reduce(per_position, draw)
        return terms

    def _rates(self, log_x: Tensor, draw: Draw, alpha: Tensor) -> Tensor:
        return rate_ratio(to_leave_one_out(log_x, draw.z_s, draw.s, self.process).exp(), draw.z_s, alpha)

    def _jump_scale(self, draw: Draw) -> Tensor:
        return jump_scale(self.process, draw.s, self.process.vocab_size).unsqueeze(-1)

    def _reduce(self, per_position: Tensor, draw: Draw) -> Tensor:
        """Weighted sum over scored positions, averaged over the batch, per token that carries noise. What is
        known is dropped before anything is summed: teacher and auxiliary agree there exactly."""
        scored, tokens = self.process.scored(draw.z_s), self.process.noised(per_position.shape[-1])
        per_sequence = torch.where(scored, per_position, 0).sum(-1)
        match self.switches.weight:
            case "one":
                return per_sequence.mean() / tokens
            case "mean":
                return (per_sequence / scored.sum(-1).clamp(min=1)).mean()
            case "bound":
                return (self.process.loss_weight(draw.s) * per_sequence).mean() / tokens
