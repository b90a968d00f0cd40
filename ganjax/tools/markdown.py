"""Markdown tables, in which any text is shown as it is."""

import re
from collections.abc import Iterable, Sequence

# What begins a mark of Markdown, a cell of its tables, or HTML.
SPECIAL = re.compile(r"([\\`*_\[\]|#~<>&!])")


def escape(text: str) -> str:
  """Returns `text` so that Markdown and HTML show it letter by letter.

  Lines become `<br>`, since a cell of a table is one line.
  """
  return "<br>".join(SPECIAL.sub(r"\\\1", text).splitlines())


def row(cells: Iterable[str]) -> str:
  """Returns one line of a table, its cells escaped."""
  return "| " + " | ".join(map(escape, cells)) + " |"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
  """Returns the lines of a table."""
  return [row(head), "|" + "---|" * len(head), *map(row, rows)]
