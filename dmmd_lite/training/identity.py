"""The identity of a training: what decides its result, as plain values by dotted names.

It consists of the options, seed, device and number of processes, the method's settings, digests of the first
weights of all networks and of the first batch, and of what the caller adds. A checkpoint holds it, and a
training with another one is refused. Left out are the options that change no result (`FREE`), versions, and
what an object keeps under a private name. `compile` counts, because compiled layers round differently, and so
do `steps`, because the rates depend on them.
"""

import json
from dataclasses import asdict
from numbers import Integral, Real
from typing import Any

from torch import Tensor, nn

from dmmd_lite.training.method import Method
from dmmd_lite.training.options import TrainingOptions
from dmmd_lite.utils.files import sha256_of, tensors_sha256, weights_sha256

FREE = ("log_every", "checkpoint_every")
DIGITS = 16  # of a digest
SHOWN = 3  # settings that an error names


def settings_of(options: TrainingOptions, others: dict[str, Any]) -> dict[str, Any]:
    """Return the part of an identity that is known before any network is.

    others: JSON values by name, of what decides the result besides the method and its data. ValueError if
    they are none.
    """
    chosen = {key: value for key, value in asdict(options).items() if key not in FREE}
    try:
        return _flat(json.loads(json.dumps({**others, "options": chosen})))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"identity: is not allowed; it must hold JSON values ({error})") from None


def identity_of(method: Method, options: TrainingOptions, others: dict[str, Any]) -> dict[str, Any]:
    """Return the identity of a training before its first step, but for its data."""
    networks = {"player": method.players, "copy": getattr(method, "copies", {})}
    described = {kind: _describe(modules, 2) for kind, modules in networks.items()}
    settings = {"class": type(method).__name__, **_describe(parts(method), 2)}
    return settings_of(options, others) | _flat({"method": settings, **described})


def parts(method: Method) -> dict[str, Any]:
    """Return the attributes of a method by name, of a module too, but for the networks that change."""
    changing = [*method.players.values(), *getattr(method, "copies", {}).values()]
    found = vars(method) | vars(method).get("_modules", {})
    return {
        key: value
        for key, value in found.items()
        if key not in ("players", "copies", "training") and not any(value is module for module in changing)
    }


def difference(theirs: dict[str, Any], ours: dict[str, Any]) -> str:
    """Return in words where the identity of a checkpoint differs from that of a training; "" if nowhere."""
    found = [
        f"{key}: {theirs.get(key)!r} there, {ours.get(key)!r} here"
        for key in {**ours, **theirs}
        if json.dumps(theirs.get(key)) != json.dumps(ours.get(key))  # NaN is equal to NaN
    ]
    more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return "; ".join(found[:SHOWN]) + more


def _describe(value, depth: int):
    """Return plain values of a setting: of an object, the public attributes, down to a depth."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, Tensor):
        return tensors_sha256({"": value})[:DIGITS]
    if isinstance(value, nn.Module):
        return _describe_module(value, depth)
    if isinstance(value, list | tuple):
        value = dict(enumerate(value))
    if isinstance(value, dict):
        return {str(key): _describe(part, depth) for key, part in value.items() if str(key)[:1] != "_"}
    if hasattr(value, "__qualname__"):  # a function or a class
        return value.__qualname__
    return {"class": type(value).__qualname__, **_attributes(value, depth)}


def _describe_module(module: nn.Module, depth: int) -> dict[str, Any]:
    """Return digests of the weights and the structure of a module, and the attributes of its parts that are
    ours; other modules may keep there what they have computed."""
    found = {"weights": weights_sha256(module)[:DIGITS], "structure": sha256_of(repr(module))[:DIGITS]}
    for name, part in module.named_modules():
        if type(part).__module__.startswith("dmmd_lite."):
            found[name] = _attributes(part, depth)
    own = found.pop("", {})
    return {**own, **found}


def _attributes(value, depth: int) -> dict[str, Any]:
    """Return the public attributes of an object, plain values only at the last depth."""
    plain = None | bool | str | Real
    return {
        key: _describe(part, depth - 1)
        for key, part in getattr(value, "__dict__", {}).items()
        if not key.startswith("_") and key != "training" and (depth > 1 or isinstance(part, plain))
    }


def _flat(values: dict, prefix: str = "") -> dict[str, Any]:
    """Return nested dictionaries as one, by dotted names."""
    found = {}
    for key, value in values.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found
