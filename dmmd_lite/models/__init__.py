"""Models: what was trained, by a recipe or from the user's data; stored, loaded, sampled, measured."""

from typing import TYPE_CHECKING

from dmmd_lite.utils.lazy import lazy

if TYPE_CHECKING:  # the public names, which `lazy` loads when they are first asked for
    from dmmd_lite.models.custom import adapt, distil, fit_teacher
    from dmmd_lite.models.evaluation import evaluate
    from dmmd_lite.models.loading import load_judge, load_model, train_recipe
    from dmmd_lite.models.model import Model
    from dmmd_lite.models.pretrained import from_pretrained, save_pretrained
    from dmmd_lite.models.public import from_public

__getattr__, __dir__, __all__ = lazy(__name__, __file__)
