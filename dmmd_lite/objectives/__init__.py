"""The distillation methods by role. A file holds a method's mathematics, its settings and its `METHOD`."""

from importlib import import_module

from dmmd_lite.objectives import dcd, di4c, dimo, dmmd, idlm, redi, sdtt
from dmmd_lite.objectives.base import MethodSpec

METHODS: dict[str, MethodSpec] = {
    "dmmd": dmmd.METHOD,
    "idlm": idlm.METHOD,
    "dimo": dimo.METHOD,
    "sdtt": sdtt.METHOD,
    "dcd": dcd.METHOD,
    "di4c": di4c.METHOD,
    "redi": redi.METHOD,
}


def deviations(role: str) -> str:
    """Return the list of a method's differences from its paper, as written in the docstring of its file."""
    text = import_module(f"dmmd_lite.objectives.{role}").__doc__
    return text.partition("Deviations\n----------\n")[2].strip()
