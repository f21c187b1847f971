"""Distillation of discrete diffusion models: D-MMD (arXiv 2603.20155) in compact PyTorch.

Conventions, stated once and kept everywhere:

- Time t runs from 0 (clean) to 1 (pure noise); s < t, so z_s is cleaner than z_t.
- Shapes: B batch, L length (positions), V vocabulary (classes), K steps.
- Tokens are int64 tensors [B, L] with values 0 … V-1. Masked noise adds the input symbol V (MASK),
  which is never an output.
- `log_x` is a *normalised* log-probability tensor [B, L, V] in nats; `logits` are unnormalised.
- A denoiser is a function `(z, t, noise=None) -> log_x`, with t of shape [B]. log_x is the posterior
  log p(x_l | z_t) of every position l (not the leave-one-out distribution, see `denoisers.base`).
- Randomness is an argument: a `torch.Generator` (see `utils.rng`).
- Equation numbers are those of arXiv 2603.20155v1.

The public names are those of `__all__`. They are loaded when they are first asked for, so that importing the
package, and asking the command line for help, takes no time.
"""

import sys

from dmmd_lite.utils.lazy import MovedModule, lazy

__version__ = "0.2.0"

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        # noise
        "processes": "Masked Uniform RandomStart BlockAutoregressive get_process",
        "processes.schedules": "LinearSchedule CosineSchedule",
        # networks and what is made of their outputs
        "networks": "Transformer BlockTransformer SplitNetwork",
        "denoisers": "Denoiser NetworkDenoiser ExactDenoiser Sharpened Hybrid sharpen",
        "sampling": "sample denoise Samples",
        # training
        "objectives.denoising": "DenoisingObjective",
        "objectives.dmmd": "DMMD DMMDSettings",
        "objectives.idlm": "idlm",
        "objectives.dimo": "dimo",
        "objectives.sdtt": "SDTT SDTTSettings",
        "objectives.dcd": "DCD DCDSettings",
        "objectives.di4c": "Di4C Di4CSettings",
        "objectives.redi": "ReDi ReDiSettings",
        "objectives.likelihood_bound": "likelihood_bound",
        "training": "train TrainingOptions TrainingResult Method",
        # data and metrics
        "worlds": "get_world World tokens_world text_world",
        "metrics": "evaluate_samples metrics_for",
        "utils.records": "Record",
        # recipes and models
        "recipes": "get_recipe Recipe",
        "models": "Model load_model evaluate fit_teacher adapt distil save_pretrained from_pretrained",
        "utils.rng": "generator_for",
    },
)

_MOVED = {  # modules of version 0.1 that its README showed: names -> where they are now
    "evaluate": {
        "draw_samples": "dmmd_lite.models.model:Model.sample",
        "evaluate": "dmmd_lite:evaluate",
    },
    "store": {"load_model": "dmmd_lite:load_model"},
    "own": {name: f"dmmd_lite:{name}" for name in ("adapt", "distil", "fit_teacher", "tokens_world")},
    "pretrained": {name: f"dmmd_lite:{name}" for name in ("from_pretrained", "save_pretrained")},
}
for _old, _names in _MOVED.items():
    sys.modules[f"{__name__}.{_old}"] = MovedModule(f"{__name__}.{_old}", _names)
