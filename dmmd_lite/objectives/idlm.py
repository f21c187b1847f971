"""IDLM, inverse distillation of diffusion language models (arXiv 2602.19066; David-cripto/IDLM), as
settings of `dmmd.py`.

The student's distribution p_eta should be one whose best denoiser is the teacher. With the bound L that the
teacher was trained with, the objective

    min_eta L(theta; p_eta) - min_phi L(phi; p_eta)

bounds KL(p_eta | teacher's distribution) and is 0 iff the two are equal. Losses here are per token.

Masked noise. p = x_eta(z_t), t and s independent and uniform, w = -alpha'/(1 - alpha), sums over masked
positions:

    L_gen = w(s) sum p (log x_phi(z_s) - log x_theta(z_s)),    L_aux = -w(s) sum sg(p) log x_phi(z_s)

The source draws z_s ~ Cat(alpha_s p + (1 - alpha_s) MASK); here x ~ Cat(p) is drawn and then masked, which
gives the same distribution.

Uniform noise (its Duo students). L is the bound of uniform noise with the vector p as data. z_s is the
point softmax((a p + b xi) / tau) of the simplex, xi Gaussian, a and b such that its argmax, the observed
token, has noise level alpha_s (`processes.gaussian_coupling.signal_of`). Teacher and auxiliary read the
point, so that gradients also reach the generator through both of them.

Deviations
----------
- Uniform: s ~ U(0, 1) on the schedule of the process; the source's log-SNR is uniform in a window. The bound
  does not depend on the schedule, but its variance does.
- Uniform: the student reads hard tokens z_t, as it does when it samples; the source's student reads a point
  at this tau.
- Uniform: teachers give posteriors and were trained on hard tokens. They are converted at the observed token
  to the leave-one-out distribution, for which the bound is defined; for exact teachers the likelihood of a
  point is the mean over its classes.
- Exact teachers have a floor on probabilities, set by the recipe.
- Uniform: s is at least 0.02, as in `dcd.py` and for the same reason.
- Uniform: tau = 1e-3 is Duo's value (unverified for IDLM).
- Masked: s ~ U(1e-5, 1), drawn independently; the source's times are antithetic and at least 1e-3.
- With "fused" updates (recipes of all but the tiny worlds) both players learn from one draw.
- The recipes set optimiser, learning rate, length and averaging.
"""

from dataclasses import replace

from dmmd_lite.objectives import dmmd
from dmmd_lite.utils.checks import Count, Positive, checked

METHOD = replace(dmmd.METHOD, processes=("masked", "uniform"))


@checked
def idlm(steps: Count, process: str, tau: Positive = 1e-3) -> dmmd.DMMDSettings:
    """Return the settings of IDLM.

    Args:
    steps: number of sampling steps that the student is trained for.
    process: name of the noise, "masked" or "uniform".
    tau: temperature of the point z_s, for uniform noise.
    Errors: ValueError for another process.
    """
    METHOD.check_process("IDLM", process)
    settings = dmmd.DMMDSettings(steps, times="independent", reverse="forward", target="soft", anchor=False)
    if process == "masked":
        return replace(settings, weight="bound")
    return replace(settings, form="reverse_kernel", tau=tau)  # the reverse kernel contains the bound's weight
