"""Di[M]O, one-step students of masked diffusion (arXiv 2503.15457; yuanzhi-zhu/DiMO), as switches of
`dmmd.py`.

The student turns a random start into x in one step. Of the start's tokens a share is MASK and the rest are
uniformly random (`processes.RandomStart`), the source's device against collapse. n = max(1, round(L (1 -
alpha_s))) positions of x, with s = arccos(u) / (pi/2), are masked again; there the student's logits l
follow, at the auxiliary's probabilities and with d = log x_phi - log x_theta,

    g = (1 - beta)(x_phi - x_theta) + beta x_phi (d - <x_phi, d>),    loss |l - sg(l - g)|^2 / 2:

the gradient in l, were x_phi = softmax(l), of (1 - beta) KL(x_theta | x_phi) + beta KL(x_phi | x_theta).

The loss is taken on log x_eta = l - logsumexp(l) instead of l. A gradient g there is g - softmax(l) sum(g)
on l. Both parts of g sum to zero, so this is g.

The auxiliary learns from a fresh x at masked positions: cross-entropy with label smoothing, one update for
one.

Deviations
----------
- Every token of the start is MASK independently of the others; the source masks an exact number.
- Noise on token embeddings (sigma 0.1) is not made; the networks' Gaussian noise input plays its part.
- No classifier-free guidance: these worlds have no labels. Embeddings are trained, not frozen.
- beta = 0 is the released configuration; the paper's best FID is at -0.2. Where a teacher's probabilities
  come close to 0 a negative beta can turn the gradient round.
- Samples are drawn at temperature 1 unless asked; the source tunes one, up to 7 to 10, for its FID.
- Exact teachers have a floor on probabilities (recipes); the source's teacher is a network.
- Networks are told s. Label smoothing spreads over V classes (source: MASK too), and the auxiliary's loss
  is a mean over sequences of sums over positions, not over all masked positions of a batch.
- Values that are not finite stop the run; the source filters them.
- The generator's loss is divided by L, the source's by the batch only.
- With "fused" updates (recipes of all but the tiny worlds) the auxiliary learns from the generator's own x
  instead of a fresh one.
- Optimiser, learning rate, length and averaging are the recipes'.
"""

from dmmd_lite.objectives.dmmd import DMMDSettings


def dimo(beta: float = 0.0, masked: float = 0.6, smoothing: float = 0.1) -> DMMDSettings:
    """The switches of Di[M]O, for one-step students of masked noise.

    beta: share of the reverse divergence; masked: share of MASK in the start; smoothing: of the auxiliary's
    labels.
    """
    return DMMDSettings(
        1, times="arccos", reverse="count", anchor=False, beta=beta, masked=masked, smoothing=smoothing
    )
