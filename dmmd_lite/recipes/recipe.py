"""What a recipe is: everything that decides one trained model, and nothing about paths.

Recipes are read from JSON strictly: an unknown or missing key and a value of another type are refused.
"""

import inspect
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from types import NoneType
from typing import TYPE_CHECKING, Any, get_type_hints

from dmmd_lite.training.options import TrainingOptions
from dmmd_lite.utils.checks import check_choice

if TYPE_CHECKING:  # functions import what needs PyTorch, so that recipes can be listed without it
    from dmmd_lite.networks.transformer import Transformer
    from dmmd_lite.worlds.base import World

AUTOREGRESSIVE = "ar"  # stands in the place of a noise process for models that predict token by token


@dataclass(frozen=True)
class Recipe:
    """One model: what it learns from, its network, its training.

    Args:
    role: "exact", "teacher", "baseline", "judge", or a distillation method of `objectives.METHODS`.
    network: keyword arguments of `Transformer` beyond the symbols; empty for role "exact".
    output: the distribution that the network's logits describe (see `denoisers.base.NetworkDenoiser`).
    loss, fit_exact: for teachers, the loss and whether targets are the world's exact posteriors.
    floor: minimum probability of exact posteriors used as teacher or target; unused without them.
    split: the part of the world it learns from.
    start: name of the recipe whose weights student and auxiliary start from.
    teacher: name of the recipe of the frozen teacher.
    method: settings of the distillation method.
    validation: the metric that chooses the checkpoint; "" keeps the last.
    block: tokens per block for block-autoregressive diffusion, with a `BlockTransformer`; 0 without blocks.
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
        """Return the recipe as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> "Recipe":
        """Make a recipe of what `to_dict` returned; ValueError for an unknown or missing key, an unknown role
        or noise, or a value of another type."""
        from dmmd_lite.objectives import METHODS
        from dmmd_lite.processes import PROCESSES

        spec = None
        if isinstance(values, dict) and values.keys() >= {"role", "process"}:
            check_choice("role", values["role"], ("exact", "teacher", "baseline", "judge", *METHODS))
            check_choice("process", values["process"], (*PROCESSES, AUTOREGRESSIVE))
            spec = METHODS.get(values["role"])
        return _build(cls, values, "recipe", {"method": spec.settings | None if spec else NoneType})

    def with_changes(self, changes: dict[str, Any]) -> "Recipe":
        """Return a copy with dotted keys changed, {"training.steps": 100, "network.width": 64}; strict."""
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

    def make_network(self, world: "World | None" = None) -> "Transformer":
        """Make the recipe's network, freshly initialised.

        Args:
        world: the recipe's world, where the package has none of its name.
        Errors: ValueError for a key or a value that the network does not take.
        """
        from dmmd_lite.networks.transformer import BlockTransformer, Transformer
        from dmmd_lite.processes import get_process
        from dmmd_lite.worlds import get_world

        world, causal = world or get_world(self.world), self.process == AUTOREGRESSIVE
        if causal and self.block:
            raise ValueError(f"block: {self.block} is not allowed for process {AUTOREGRESSIVE!r}; only 0")
        process = None if causal else get_process(self.process, world.vocab_size, self.schedule)
        symbols = (world.vocab_size + 1 if causal else process.num_symbols, world.vocab_size)
        keys = _keywords(Transformer) - {"image_shape", "causal"}
        if self.block:
            keys |= _keywords(BlockTransformer)
        if unknown := sorted(self.network.keys() - keys):
            raise ValueError(f"network: {unknown} is not allowed; the keys are {sorted(keys)}")
        try:
            if self.block:
                return BlockTransformer(*symbols, self.block, **self.network)
            return Transformer(
                *symbols, world.length, image_shape=world.image_shape, causal=causal, **self.network
            )
        except TypeError as error:
            raise ValueError(f"network: {self.network} is not allowed ({error})") from None


def _keywords(network: type) -> set[str]:
    """Return the names of the keyword arguments of a network's constructor."""
    parameters = inspect.signature(network.__init__).parameters.values()
    return {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}


def _keys(values: dict, prefix: str = "") -> list[str]:
    """Return the dotted keys of nested dictionaries."""
    return [
        k
        for key, value in values.items()
        for k in (_keys(value, f"{prefix}{key}.") if isinstance(value, dict) else [f"{prefix}{key}"])
    ]


def _build(cls, values: dict, where: str, known: dict | None = None):
    """Make a dataclass of plain values, strictly as to keys and types; `known` types override hints."""
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
    """Return a plain value as the type that a field's hint names; ValueError where it has another."""
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
