"""Text that others wrote, such as names in files of records, within Markdown and so within HTML."""

import re

SPECIAL = re.compile(r"([\\`*$<>&|~\[\]{}])|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")


def literal(text: str) -> str:
    """Return Markdown that shows a text as it is, in one line and in one cell of a table."""
    return " ".join(SPECIAL.sub(r"\\\g<0>", text).split())
