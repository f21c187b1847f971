"""What a recipe is: everything that decides one trained model, and nothing about paths.

Recipes are read from JSON strictly: an unknown or missing key and a value of another type are refused.
"""

from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from types import NoneType
from typing import Any, get_type_hints

from dmmd_lite.networks.transformer import BlockTransformer, Transformer
from dmmd_lite.objectives import METHODS
from dmmd_lite.processes import get_process
from dmmd_lite.training.options import TrainingOptions
from dmmd_lite.worlds import get_world
from dmmd_lite.worlds.base import World

AUTOREGRESSIVE = "ar"  # in the place of a process: models that predict token by token


@dataclass(frozen=True)
class Recipe:
    """One model: what it learns from, its network, its training.

    network: keyword arguments of `Transformer` beyond the symbols; empty for role "exact".
    block: tokens a block for block-autoregressive diffusion, with a `BlockTransformer`; 0 for one without.
    split: the part of the world it learns from.
    start: recipe whose weights student and auxiliary begin from. teacher: recipe of the frozen teacher.
    loss, fit_exact: for teachers, the loss and whether targets are the world's exact posteriors.
    output: the law the network's logits describe (see `denoisers.py`).
    floor: least probability of the exact posteriors used as teacher or target; unused without them.
    method: the settings of the distillation method that `role` names.
    validation: the metric that chooses the checkpoint; "" keeps the last.
    """

    name: str
    scale: str
    world: str
    process: str
    role: str
    schedule: str = "linear"
    network: dict = field(default_factory=dict)
    output: str = "posterior"
    loss: str = "cross_entropy"
    fit_exact: bool = False
    floor: float = 1e-6
    split: str = "train"
    start: str = ""
    teacher: str = ""
    method: Any = None
    validation: str = ""
    training: TrainingOptions | None = None
    block: int = 0

    def to_dict(self) -> dict:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> "Recipe":
        """The inverse of `to_dict`; ValueError for an unknown or missing key or a value of another type."""
        role = values.get("role") if isinstance(values, dict) else None
        kind = METHODS.get(role) if isinstance(role, str) else None
        return _build(cls, values, "recipe", {"method": kind.settings | None if kind else NoneType})

    def with_changes(self, changes: dict[str, Any]) -> "Recipe":
        """A copy with dotted keys changed, {"training.steps": 100, "network.width": 64}; strict."""
        values = self.to_dict()
        for key, value in changes.items():
            *path, last = key.split(".")
            place = values
            for part in path:
                place = place.get(part) if isinstance(place, dict) else None
            if not isinstance(place, dict) or (
                last not in place and path not in (["network"], ["training", "lr"], ["training", "ema"])
            ):
                raise ValueError(f"key: {key!r} is not allowed; choose from {sorted(_keys(self.to_dict()))}")
            place[last] = value
        return Recipe.from_dict(values)

    def make_network(self, world: World | None = None) -> Transformer:
        """The recipe's network, freshly initialised. world: the recipe's, if it is none of the package's."""
        world, causal = world or get_world(self.world), self.process == AUTOREGRESSIVE
        num_symbols = (
            world.vocab_size + 1
            if causal
            else get_process(self.process, world.vocab_size, self.schedule).num_symbols
        )
        if causal and self.block:
            raise ValueError(f"block: {self.block} is not allowed for process {AUTOREGRESSIVE!r}; only 0")
        try:
            if self.block:
                return BlockTransformer(num_symbols, world.vocab_size, self.block, **self.network)
            return Transformer(
                num_symbols,
                world.vocab_size,
                world.length,
                image_shape=world.image_shape,
                causal=causal,
                **self.network,
            )
        except TypeError:
            allowed = [
                "patch",
                "width",
                "depth",
                "heads",
                "mlp_ratio",
                "time_width",
                "rotary_base",
                "local",
                "noise",
                "noise_std",
                "mixture",
            ]
            allowed += ["encoder_depth"] * bool(self.block)
            raise ValueError(
                f"network: {self.network} is not allowed; the keys are {allowed}, numbers"
            ) from None


def _keys(values: dict, prefix: str = "") -> list[str]:
    return [
        k
        for key, value in values.items()
        for k in (_keys(value, f"{prefix}{key}.") if isinstance(value, dict) else [f"{prefix}{key}"])
    ]


def _build(cls, values: dict, where: str, known: dict | None = None):
    """A dataclass from plain values, refusing unknown keys and wrong types; types `known` go before hints."""
    hints = {**get_type_hints(cls), **(known or {})}
    if not isinstance(values, dict):
        raise ValueError(f"{where}: {values!r} is not allowed; it holds the keys {sorted(hints)}")
    for key in values:
        if key not in hints:
            raise ValueError(f"{where}: key {key!r} is not allowed; choose from {sorted(hints)}")
    for f in fields(cls):
        if f.name not in values and f.default is MISSING and f.default_factory is MISSING:
            raise ValueError(f"{where}: key {f.name!r} is missing")
    return cls(**{key: _convert(hints[key], value, f"{where}.{key}") for key, value in values.items()})


def _convert(hint, value, where: str):
    options = [hint] if isinstance(hint, type) else list(getattr(hint, "__args__", ()))
    dataclass_type = next((h for h in options if is_dataclass(h)), None)
    if options[-1:] == [NoneType] and dataclass_type is None and len(options) == 2:  # a number or None
        return None if value is None else _convert(options[0], value, where)
    if dataclass_type is not None:
        if value is None or isinstance(value, dataclass_type):
            return value
        return _build(dataclass_type, value, where)
    kind = getattr(hint, "__origin__", hint)
    if kind is tuple and isinstance(value, list | tuple):
        return tuple(value)
    number = kind is float and isinstance(value, int) and not isinstance(value, bool)
    wrong = not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)
    if wrong and not number:
        raise ValueError(f"{where}: {value!r} is not allowed; it must be of type {kind.__name__}")
    return float(value) if number else value
