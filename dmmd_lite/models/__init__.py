"""Models: what was trained, from a recipe or of one's own; stored, loaded, sampled and measured."""

from dmmd_lite.utils.lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "model": "Model",
        "loading": "load_model load_judge train_recipe",
        "evaluation": "evaluate",
        "custom": "fit_teacher adapt distil",
        "pretrained": "save_pretrained from_pretrained",
    },
)
