"""The distillation methods by role. A method's file holds its mathematics, its settings and its `METHOD`."""

from importlib import import_module

from dmmd_lite.objectives import dcd, di4c, dmmd, redi, sdtt
from dmmd_lite.objectives.base import MethodSpec

METHODS: dict[str, MethodSpec] = {
    "dmmd": dmmd.METHOD,
    "idlm": dmmd.METHOD,
    "dimo": dmmd.METHOD,
    "sdtt": sdtt.METHOD,
    "dcd": dcd.METHOD,
    "di4c": di4c.METHOD,
    "redi": redi.METHOD,
}


def deviations(role: str) -> str:
    """Return where a method had to be filled in or differs from its paper: a list in its file's docstring."""
    text = import_module(f"dmmd_lite.objectives.{role}").__doc__
    return text.partition("Deviations\n----------\n")[2].strip()
