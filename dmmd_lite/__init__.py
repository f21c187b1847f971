"""Distillation of discrete diffusion models: D-MMD (arXiv 2603.20155) in compact PyTorch.

Conventions, stated once and kept everywhere:

- Time t runs from 0 (clean) to 1 (pure noise); s < t, so z_s is cleaner than z_t.
- Shapes: B batch, L length (positions), V vocabulary (classes), K steps.
- Tokens are int64 tensors [B, L] with values 0 … V-1. Masked noise adds the input symbol V (MASK),
  which is never an output.
- `log_x` is a *normalised* log-probability tensor [B, L, V] in nats; `logits` are unnormalised.
- A denoiser is a function `(z, t, noise=None) -> log_x`, with t of shape [B]. log_x is the posterior
  log p(x_l | z_t) of every position l (not the leave-one-out law, see `denoisers.py`).
- Randomness is an argument: a `torch.Generator` (see `rng.py`).
- Equation numbers are those of arXiv 2603.20155v1.
"""

__version__ = "0.1.0"
