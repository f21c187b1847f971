"""IDLM, inverse distillation of diffusion language models (arXiv 2602.19066; David-cripto/IDLM), as
switches of `dmmd.py`.

The student's law p_eta is to make the teacher the best denoiser of itself: with the teacher's own bound L,

    min_eta L(theta; p_eta) - min_phi L(phi; p_eta),

which bounds KL(p_eta | teacher's law) and is 0 iff they are equal. Losses here are per token.

Masked noise. p = x_eta(z_t), t and s independent and uniform, w = -alpha'/(1 - alpha), sums over masked
positions:

    L_gen = w(s) sum p (log x_phi(z_s) - log x_theta(z_s)),    L_aux = -w(s) sum sg(p) log x_phi(z_s)

The source draws z_s ~ Cat(alpha_s p + (1 - alpha_s) MASK); here x ~ Cat(p) is drawn and then masked, the
same law.

Uniform noise (its Duo students). L is the bound of uniform noise with the vector p as data. z_s is the
point softmax((a p + b xi) / tau) of the simplex, xi Gaussian, a and b such that its argmax, the observed
token, has noise level alpha_s (`dcd.signal_of`). Teacher and auxiliary read the point, so gradients reach the
generator through both of them too.

Deviations
----------
- Uniform: s ~ U(0, 1) on the process's own schedule; the source's log-SNR is uniform in a window. The bound
  does not depend on the schedule, its variance does.
- Uniform: the student reads hard tokens z_t, as it will when it samples; the source's reads a point at this
  tau.
- Uniform: teachers give posteriors and were trained on hard tokens. They are converted to the leave-one-out
  law the bound is for, at the observed token; exact teachers take a point for the mean of its classes'
  likelihoods.
- Exact teachers have a floor on probabilities (recipes).
- Uniform: s is at least 0.02, as in `dcd.py` and for its reason.
- Uniform: tau = 1e-3 is Duo's (unverified for IDLM).
- Masked: s ~ U(1e-5, 1), drawn independently; the source's times are antithetic and at least 1e-3.
- With "fused" updates (recipes of all but the tiny worlds) both players learn from one draw.
- Optimiser, learning rate, length and averaging are the recipes'.
"""

from dmmd_lite.objectives.dmmd import DMMDSettings


def idlm(steps: int, process: str, tau: float = 1e-3) -> DMMDSettings:
    """The switches of IDLM for a student of so many steps under "masked" or "uniform" noise."""
    if process == "masked":
        return DMMDSettings(
            steps, times="independent", reverse="forward", target="soft", anchor=False, weight="bound"
        )
    if process == "uniform":  # the bound's weight is in the reverse kernel
        relaxed = {"target": "soft", "anchor": False, "form": "reverse_kernel", "tau": tau}
        return DMMDSettings(steps, times="independent", reverse="forward", **relaxed)
    raise ValueError(f"process: {process!r} is not allowed; choose 'masked' or 'uniform'")
