"""Sphinx extension of the site that makes autodoc read docstrings as Markdown.

A line that begins with the name of an argument or a field ("steps: their number") becomes an entry of a list.
"""

import re

from docutils.parsers.rst import Directive
from docutils.utils import new_document
from myst_parser.parsers.sphinx_ import MystParser

from dmmd_lite.utils.markup import SPECIAL

ENTRY = re.compile(r"[a-z_]\w*(, [a-z_]\w*)*: ")  # "steps: ", "temperature, top_p, delta: "
CLOSING = re.compile(r"(Returns|Raises|Errors|ValueError)\b")
CODE = re.compile(r"(`+[^`]+`+)")
UNDERLINE = re.compile(r"[-=]{3,}")


def to_markdown(docstring: str) -> str:
    """Convert a docstring to Markdown: entries become lists, and text outside `code` is taken literally."""
    lines, listed = [], False
    for line in docstring.splitlines():
        text = line.strip()
        if not text:
            listed = False
        elif UNDERLINE.fullmatch(text) and lines and lines[-1]:
            lines[-1] = f"**{lines[-1]}**\n"  # a heading would become a heading of the whole page
            continue
        elif CLOSING.match(line) and listed:
            lines.append("")
            listed = False
        elif ENTRY.match(line) and (listed or not lines or not lines[-1] or lines[-1].endswith(":")):
            name, rest = line.split(": ", 1)
            lines.append(f"- `{name}`: {_literal(rest)}")
            listed = True
            continue
        lines.append(_literal(text) if not line.startswith("    ") or listed else line)
    return "\n".join(lines)


def _literal(text: str) -> str:
    parts = CODE.split(text)
    return "".join(part if CODE.fullmatch(part) else SPECIAL.sub(r"\\\g<0>", part) for part in parts)


class Docstring(Directive):
    """Directive whose content is Markdown, within the reStructuredText that autodoc writes."""

    has_content = True

    def run(self):
        document = new_document(self.state.document["source"], self.state.document.settings)
        MystParser().parse("\n".join(self.content), document)
        return document.children


def _wrap(app, what, name, obj, options, lines):
    if any(lines):
        text = to_markdown("\n".join(lines))
        lines[:] = [".. docstring::", "", *(f"   {line}" for line in text.splitlines()), ""]


def setup(app):
    """Register the directive and the conversion; Sphinx calls this function."""
    app.setup_extension("sphinx.ext.autodoc")
    app.add_directive("docstring", Docstring)
    app.connect("autodoc-process-docstring", _wrap)
    return {"parallel_read_safe": True}
