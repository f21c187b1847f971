"""Di4C, distillation through dimensional correlations (arXiv 2410.08709).

The student is a mixture, p_eta(x | z_t) = E_lambda prod_d p_eta,d(x_d | z_t; lambda), with a new lambda for
every sequence and step. lambda is the student's input noise: that of a `Transformer` with `mixture`, or of
any denoiser whose noise is one value per sequence. Marginals are matched to the teacher; correlations are
learned only through C, the point-wise total correlation of the mixture. With u = t - delta, N lambdas at z_t,
p_j,d = p_eta,d(. | z_t; lambda_j), p'_j,d = p_eta,d(. | z_u^j; lambda'_j) and lme the log-mean-exp:

    z_u^j ~ one step of the teacher from z_t, x^j ~ prod_d p'_j,d, both constants, j = 1 … N
    C(x)  = lme_j sum_d log p_j,d(x_d) - sum_d lme_j log p_j,d(x_d)
    L_c   = - mean_j C(x^j) + sum_d KL(mean_j p'_j,d || mean_j p_j,d)                 consistency
    L_d   = - a(t) C(x_0) + sum_d KL(p_theta,d(. | z_t) || mean_j p_j,d)              data
    L_0   = mean_j sum_d KL(p_theta,d(. | z_t) || p_j,d)                              at small t

and the loss is L_d + L_c, with L_0 in the place of L_c at small t. The student learns correlations from data
(L_d) and from the many small steps of the teacher that it learns to skip (L_c).

The sum over d inside C is a control variate. Without it the marginals, whose expectation is known (the KL
terms), would be learned from the samples x^j and x_0 too. The expected gradient is the same with and without
it if the teacher is exact.

Deviations
----------
- The paper has different rules for delta and L_0 for each of its three data sets. Times are uniform here. All
  rules for delta are implemented, but every recipe uses ImageNet's, a constant 0.05 (pixels: up to 0.01,
  text: up to 1/1024), and L_0 is used as for ImageNet: below a time, with one over that time as weight.
- N is 8 beyond the tiny worlds (published: 16). Samples are also drawn in the last step, where the source
  takes the most likely pixel.
- Exact teachers have a floor on probabilities, set by the recipe.
- Without the control variate, the marginal terms are reduced by the fraction that the samples teach (all of
  it in L_c, a fraction a(t) in L_d), so that expected gradients do not change. The released code then drops
  the marginal term of L_d completely.
- lambda's projection starts at zero, as the authors intended, so that the student starts as the teacher. In
  their released code that line is commented out for images. At zero C has no gradient, because it is
  quadratic in the changes that lambda makes; the noise of the other terms leads away from zero, which costs a
  part of the updates.
- The embedded lambda is added to the residual stream. The authors add it to the time conditioning (pixels) or
  use it as one more token (MaskGIT, text). On the coins, students learned to use a lambda in the time
  conditioning more slowly.
- Losses are divided by the number of tokens that carry noise.
- The paper's second round with the student as teacher (di4c2) is left to recipes.

The distributions for all N lambdas are kept together, [B, N, L, V]; they are not split into chunks.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from dmmd_lite.denoisers.prediction import predict
from dmmd_lite.objectives.base import MethodSpec, TokenMethod
from dmmd_lite.objectives.terms import divergence_between, stratified_times
from dmmd_lite.processes.base import Process
from dmmd_lite.utils.checks import Count, PositiveFraction, PositiveOrZero, check_fields, checked
from dmmd_lite.utils.rng import categorical, uniform


@dataclass(frozen=True)
class Di4CSettings:
    """Settings of Di4C; the defaults of delta, initial and data_weight are those of its ImageNet branch.

    Args:
    steps: sampling steps at which the student is evaluated. The loss does not depend on it.
    samples: N, the number of lambdas at z_t, and of steps to z_u with one lambda each, for every sequence.
    delta, delta_rule: the teacher's step is "constant" delta (ImageNet), "log_uniform" between delta / 10 and
        delta (CIFAR-10), or "half" of t and at most delta (OpenWebText). u is never below 0.
    initial: the time below which L_0, with weight 1 / initial, takes the place of L_c.
    data_weight, data_shape: a(t) = data_weight times sigmoid(20 (t - 0.5)), t or 1.
    control_variate: whether C has its second sum.
    """

    steps: Count
    samples: Count = 4
    delta: PositiveFraction = 0.05
    delta_rule: Literal["constant", "log_uniform", "half"] = "constant"
    initial: PositiveFraction = 0.05
    data_weight: PositiveOrZero = 0.1
    data_shape: Literal["sigmoid", "linear", "constant"] = "sigmoid"
    control_variate: bool = True

    __post_init__ = check_fields


@dataclass(frozen=True)
class Di4CDraw:
    """The draws of one step and the predictions at them.

    Args:
    t: times [B].
    x, z_t: data and noisy tokens [B, L].
    log_x: log p_eta(. | z_t; lambda_j) [B, N, L, V], with a gradient.
    log_teacher: log p_theta(. | z_t) [B, L, V].
    sampled: samples x^j [B, N, L].
    log_later: log mean_j p_eta(. | z_u^j; lambda'_j) [B, L, V], the mixture's marginals at the z_u^j.
    """

    t: Tensor
    x: Tensor
    z_t: Tensor
    log_x: Tensor
    log_teacher: Tensor
    sampled: Tensor
    log_later: Tensor


class Di4C(TokenMethod):
    """The method Di4C: player "student", a mixture, distilled from a frozen teacher."""

    @checked
    def __init__(self, student: nn.Module, teacher: nn.Module, process: Process, settings: Di4CSettings):
        self.players = {"student": student}
        self.teacher, self.process, self.settings = teacher, process, settings

    def losses(self, step: int, x: Tensor, generator: torch.Generator) -> dict[str, dict[str, Tensor]]:
        """Return L_0, L_d and L_c, averaged over the batch, in nats per token that carries noise."""
        t, tokens = stratified_times(len(x), generator, x.device), self.process.num_noised(x.shape[1])
        terms = self.terms(self.draw(x, t, self.earlier(t, generator), generator))
        return {"student": {name: value.mean() / tokens for name, value in terms.items()}}

    def earlier(self, t: Tensor, generator: torch.Generator) -> Tensor:
        """Return u, the time after one step of the teacher from t, both [B]."""
        delta = torch.full_like(t, self.settings.delta)
        match self.settings.delta_rule:
            case "log_uniform":
                delta = delta * 10 ** -uniform(t.shape, generator).to(t)
            case "half":
                delta = torch.minimum(delta, t / 2)
        return (t - delta).clamp(min=0)

    def data_weight(self, t: Tensor) -> Tensor:
        """Return a(t), [B]."""
        match self.settings.data_shape:
            case "sigmoid":
                shape = torch.sigmoid(20 * (t - 0.5))
            case "linear":
                shape = t
            case "constant":
                shape = torch.ones_like(t)
        return self.settings.data_weight * shape

    def draw(self, x: Tensor, t: Tensor, u: Tensor, generator: torch.Generator) -> Di4CDraw:
        """Draw z_t from data x [B, L], a teacher's step to each z_u^j and the student's samples there."""
        student, process, n = self.players["student"], self.process, self.settings.samples
        z_t = process.corrupt(x, t, generator)
        z, t_n, u_n = (v.repeat_interleave(n, 0) for v in (z_t, t, u))  # [B N, ...]
        log_x = predict(student, process, z, t_n, generator).whole.unflatten(0, (-1, n))
        with torch.no_grad():
            log_teacher = predict(self.teacher, process, z_t, t, generator).whole
            taught = categorical(log_teacher.repeat_interleave(n, 0), generator)
            z_u = process.step(z, taught, u_n, t_n, generator)
            later = predict(student, process, z_u, u_n, generator)  # with new lambdas
            sampled = later.sample(generator).unflatten(0, (-1, n))
            log_later = log_mean_exp(later.whole.unflatten(0, (-1, n)), 1)
        return Di4CDraw(t, process.classes(x), z_t, log_x, log_teacher, sampled, log_later)

    def terms(self, draw: Di4CDraw) -> dict[str, Tensor]:
        """Return L_0 with its weight, L_d, and L_c where it applies, in nats per sequence [B]."""
        settings, a = self.settings, self.data_weight(draw.t)
        log_mean = log_mean_exp(draw.log_x, 1)  # the mixture's marginals
        # The fractions of the marginal terms that the samples x^j and x_0 teach already.
        sampled, data = (0.0, 0.0) if settings.control_variate else (1.0, a)
        c = self.correlation(torch.cat([draw.x.unsqueeze(1), draw.sampled], 1), draw)
        plain = self.divergence(draw, draw.log_teacher.unsqueeze(1), draw.log_x).mean(1)
        consistent = (1 - sampled) * self.divergence(draw, draw.log_later, log_mean) - c[:, 1:].mean(1)
        return {
            "initial": torch.where(draw.t < settings.initial, plain / settings.initial, 0),  # L_0
            "data": (1 - data) * self.divergence(draw, draw.log_teacher, log_mean) - a * c[:, 0],  # L_d
            "consistency": torch.where(draw.t < settings.initial, 0, consistent),  # L_c
        }

    def correlation(self, x: Tensor, draw: Di4CDraw) -> Tensor:
        """Compute C of tokens x [B, K, L] under the mixture at z_t, [B, K]. Without the control variate this
        is only the first sum of C, the log-probability of x."""
        index = x.movedim(1, -1).unsqueeze(1).expand(-1, draw.log_x.shape[1], -1, -1)  # [B, N, L, K]
        log_p = draw.log_x.gather(-1, index)
        log_p = torch.where(self.process.loss_mask(draw.z_t)[:, None, :, None], log_p, 0)
        joint = log_mean_exp(log_p.sum(2), 1)
        return joint - log_mean_exp(log_p, 1).sum(1) if self.settings.control_variate else joint

    def divergence(self, draw: Di4CDraw, log_target: Tensor, log_x: Tensor) -> Tensor:
        """Sum KL(target || x_hat), from [B, ..., L, V], over the scored positions of z_t, [B, ...]."""
        nats = divergence_between("forward_kl", log_x, log_target)
        scored = self.process.loss_mask(draw.z_t)
        return torch.where(scored if nats.dim() == 2 else scored.unsqueeze(1), nats, 0).sum(-1)


def log_mean_exp(v: Tensor, dim: int) -> Tensor:
    """Compute the logarithm of the mean of exp(v) over a dimension."""
    return v.logsumexp(dim) - math.log(v.shape[dim])


METHOD = MethodSpec(
    Di4CSettings,
    ("masked", "uniform"),
    lambda settings, fresh, teacher, process: Di4C(fresh(), teacher, process, settings),
    forwards=lambda settings: 4 * settings.samples + 1,  # 3 N at z_t, N at the z_u, the teacher at z_t
    tracked=lambda settings: settings.samples,
)
