"""The scales at which recipes and pages run: smoke, laptop, desk, gpu and paper."""

SCALES = ("smoke", "laptop", "desk", "gpu", "paper")


def check_scale(scale: str) -> None:
    """Raise ValueError, listing the scales there are, for any other."""
    if scale not in SCALES:
        raise ValueError(f"scale: {scale!r} does not exist; choose from {list(SCALES)}")
