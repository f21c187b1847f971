"""Di[M]O, one-step students of masked diffusion (arXiv 2503.15457; yuanzhi-zhu/DiMO), as settings of
`dmmd.py`.

The student turns a random start into x in one step. A fraction of the start's tokens is MASK and the others
are uniformly random (`processes.RandomStart`), which the source uses against collapse.
n = max(1, round(L (1 - alpha_s))) positions of x, with s = arccos(u) / (pi/2), are masked again. There the
student's logits l follow the gradient g, taken at the auxiliary's probabilities, with
d = log x_phi - log x_theta:

    g = (1 - beta)(x_phi - x_theta) + beta x_phi (d - <x_phi, d>),    loss |l - sg(l - g)|^2 / 2.

If x_phi were softmax(l), g would be the gradient in l of
(1 - beta) KL(x_theta | x_phi) + beta KL(x_phi | x_theta).

The loss is computed on log x_eta = l - logsumexp(l) instead of l. A gradient g there is g - softmax(l) sum(g)
on l, which is g, because both parts of g sum to zero.

The auxiliary learns from a fresh x at masked positions by cross-entropy with label smoothing, with one update
for each update of the generator.

Deviations
----------
- Every token of the start is MASK independently of the others; the source masks an exact number.
- There is no noise on token embeddings (source: sigma 0.1); the networks' Gaussian noise input takes its
  place.
- There is no classifier-free guidance, because these worlds have no labels. Embeddings are trained, not
  frozen.
- beta = 0 is the released configuration; the paper's best FID is at -0.2. Where a teacher's probabilities
  come close to 0, a negative beta can reverse the gradient.
- Samples are drawn at temperature 1 by default; the source tunes a temperature, up to 7 to 10, for its FID.
- Exact teachers have a floor on probabilities, set by the recipe; the source's teacher is a network.
- Networks receive s. Label smoothing spreads over V classes (source: MASK too), and the auxiliary's loss
  is a mean over sequences of sums over positions, not over all masked positions of a batch.
- Values that are not finite stop the run; the source filters them.
- The generator's loss is divided by the batch and by L, the source's by the batch only.
- With "fused" updates (recipes of all but the tiny worlds) the auxiliary learns from the generator's own x
  instead of a fresh one.
- The recipes set optimiser, learning rate, length and averaging.
"""

from dataclasses import replace

from dmmd_lite.objectives import dmmd
from dmmd_lite.utils.checks import Fraction, checked

METHOD = replace(dmmd.METHOD, processes=("masked",))


@checked
def dimo(beta: float = 0.0, masked: Fraction = 0.6, smoothing: Fraction = 0.1) -> dmmd.DMMDSettings:
    """Return the settings of Di[M]O, for one-step students of masked noise.

    Args:
    beta: weight of the reverse divergence.
    masked: fraction of MASK in the start.
    smoothing: label smoothing of the auxiliary.
    """
    return dmmd.DMMDSettings(
        1, times="arccos", reverse="count", anchor=False, beta=beta, masked=masked, smoothing=smoothing
    )
