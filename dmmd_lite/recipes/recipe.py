"""What a recipe is: everything that decides one trained model, and nothing about paths.

Recipes are read from JSON strictly: an unknown or missing key and a value of another type are refused.
"""

import inspect
from dataclasses import MISSING, asdict, dataclass, field, fields
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any

from dmmd_lite.training.options import TrainingOptions
from dmmd_lite.utils.checks import Between, CountOrZero, Name, check, check_choice, check_fields, checked

if TYPE_CHECKING:  # functions import what needs PyTorch, so that recipes can be listed without it
    from dmmd_lite.networks.transformer import Transformer
    from dmmd_lite.worlds.base import World

ROLES = ("exact", "teacher", "baseline", "judge")  # beside the distillation methods
AUTOREGRESSIVE = "ar"  # stands in the place of a noise process for models that predict token by token


@dataclass(frozen=True)
class Recipe:
    """One model: what it learns from, its network, its training.

    Args:
    role: "exact", "teacher", "baseline", "judge", or a distillation method of `objectives.METHODS`.
    network: keyword arguments of `Transformer` beyond the symbols; empty for role "exact".
    output: the distribution that the network's logits describe (see `denoisers.base.NetworkDenoiser`).
    loss, fit_exact: for teachers, the loss and whether targets are the world's exact posteriors.
    floor: minimum probability of exact posteriors used as teacher or target, in (0, 1).
    split: the part of the world it learns from.
    start: name of the recipe whose weights student and auxiliary start from.
    teacher: name of the recipe of the frozen teacher.
    method: settings of the distillation method.
    validation: the metric that chooses the checkpoint; "" keeps the last.
    block: tokens per block for block-autoregressive diffusion, with a `BlockTransformer`; 0 without blocks.
    holds: which positions of training sequences are held, a key of `worlds.holds.HOLDS`; "" for none.
    """

    name: Name
    scale: Name
    world: Name
    process: str
    role: str
    schedule: str = "linear"
    network: dict[str, bool | int | float] = field(default_factory=dict)
    output: str = "posterior"
    loss: str = "cross_entropy"
    fit_exact: bool = False
    floor: Annotated[float, Between(0, 1, "()")] = 1e-6
    split: str = "train"
    start: str = ""
    teacher: str = ""
    method: Any = None
    validation: str = ""
    training: TrainingOptions | None = None
    block: CountOrZero = 0
    holds: str = ""

    def __post_init__(self):
        from dmmd_lite.denoisers.base import OUTPUTS
        from dmmd_lite.objectives import METHODS
        from dmmd_lite.objectives.denoising import LOSSES
        from dmmd_lite.processes import PROCESSES
        from dmmd_lite.processes.schedules import SCHEDULES
        from dmmd_lite.worlds.holds import HOLDS

        check_fields(self)
        check_choice("process", self.process, (*PROCESSES, AUTOREGRESSIVE))
        check_choice("role", self.role, (*ROLES, *METHODS))
        check_choice("schedule", self.schedule, SCHEDULES)
        check_choice("output", self.output, OUTPUTS)
        check_choice("loss", self.loss, LOSSES)
        check_choice("holds", self.holds, ("", *HOLDS))
        if self.holds and (self.block or self.process == AUTOREGRESSIVE):
            raise ValueError(f"holds: {self.holds!r} is not allowed for blocks and autoregressive models")
        spec = METHODS.get(self.role)
        check("method", self.method, spec.settings | None if spec else NoneType)
        if self.training is not None:
            ours = "denoiser" if self.role == "teacher" else "model"
            self.training.check_players(spec.players if spec else (ours,), "training.")

    def to_dict(self) -> dict:
        """Return the recipe as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> "Recipe":
        """Make a recipe of what `to_dict` returned; ValueError for an unknown or missing key, and for a value
        of another type or range."""
        from dmmd_lite.objectives import METHODS

        values = dict(check("recipe", values, dict[str, Any]))
        parts, role = {"training": TrainingOptions}, check("role", values.get("role", ""), str)
        if role in METHODS:
            parts["method"] = METHODS[role].settings
        for key, settings in parts.items():
            if values.get(key) is not None:
                values[key] = _build(settings, values[key], f"{key}.")
        return _build(cls, values)

    @checked
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
        from dmmd_lite.worlds import World, get_world

        world = check("world", world, World | None) or get_world(self.world)
        causal = self.process == AUTOREGRESSIVE
        if causal and self.block:
            raise ValueError(f"block: {self.block} is not allowed for process {AUTOREGRESSIVE!r}; only 0")
        process = None if causal else get_process(self.process, world.vocab_size, self.schedule)
        symbols = (world.vocab_size + 1 if causal else process.num_symbols, world.vocab_size)
        keys = _keywords(Transformer) - {"image_shape", "causal", "hold"}
        if self.block:
            keys |= _keywords(BlockTransformer)
        if unknown := sorted(self.network.keys() - keys):
            raise ValueError(f"network: {unknown} is not allowed; the keys are {sorted(keys)}")
        try:
            if self.block:
                return BlockTransformer(*symbols, self.block, **self.network)
            facts = {"image_shape": world.image_shape, "causal": causal, "hold": bool(self.holds)}
            return Transformer(*symbols, world.length, **facts, **self.network)
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


def _build(cls, values: dict, prefix: str = ""):
    """Make a dataclass of plain values; ValueError for unknown and missing keys, and those of its fields."""
    known, where = [f.name for f in fields(cls)], prefix.rstrip(".") or "recipe"
    for key in check(where, values, dict[str, Any]):
        if key not in known:
            raise ValueError(f"{where}: key {key!r} is not allowed; choose from {known}")
    for f in fields(cls):
        if f.name not in values and f.default is MISSING and f.default_factory is MISSING:
            raise ValueError(f"{where}: key {f.name!r} is missing")
    try:
        return cls(**values)
    except ValueError as error:
        raise ValueError(f"{prefix}{error}") from None
