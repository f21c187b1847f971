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
from typing import TYPE_CHECKING

from dmmd_lite.utils.lazy import MovedModule, lazy

if TYPE_CHECKING:  # the public names, which `lazy` loads when they are first asked for
    from dmmd_lite.denoisers import Denoiser, ExactDenoiser, Hybrid, NetworkDenoiser, Sharpened, sharpen
    from dmmd_lite.metrics import evaluate_samples, metrics_for
    from dmmd_lite.models import (
        Model,
        adapt,
        distil,
        evaluate,
        fit_teacher,
        from_pretrained,
        from_public,
        load_model,
        save_pretrained,
    )
    from dmmd_lite.networks import BlockTransformer, SplitNetwork, Transformer
    from dmmd_lite.objectives.dcd import DCD, DCDSettings
    from dmmd_lite.objectives.denoising import DenoisingObjective
    from dmmd_lite.objectives.di4c import Di4C, Di4CSettings
    from dmmd_lite.objectives.dimo import dimo
    from dmmd_lite.objectives.dmmd import DMMD, DMMDSettings
    from dmmd_lite.objectives.idlm import idlm
    from dmmd_lite.objectives.likelihood_bound import likelihood_bound
    from dmmd_lite.objectives.redi import ReDi, ReDiSettings
    from dmmd_lite.objectives.sdtt import SDTT, SDTTSettings
    from dmmd_lite.processes import BlockAutoregressive, Masked, RandomStart, Uniform, get_process
    from dmmd_lite.processes.schedules import CosineSchedule, LinearSchedule
    from dmmd_lite.recipes import Recipe, get_recipe
    from dmmd_lite.sampling import Samples, denoise, sample
    from dmmd_lite.training import Method, TrainingOptions, TrainingResult, train
    from dmmd_lite.utils.records import Record
    from dmmd_lite.utils.rng import generator_for
    from dmmd_lite.worlds import World, get_world, text_world, tokens_world

__version__ = "0.2.0"

__getattr__, __dir__, __all__ = lazy(__name__, __file__)

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
    if _old not in __all__:
        globals()[_old] = sys.modules[f"{__name__}.{_old}"]
