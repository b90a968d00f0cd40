"""The table at the end: ours over seeds beside the paper's numbers."""

import collections
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ganjax import errors
from ganjax.evaluation import metrics
from ganjax.tools.compare import groups, runs
from ganjax.tools.compare import tables as compared
from ganjax.tools.sweep import tables
from ganjax.tools.sweep.cell import Cell


class Page:
  """What became of a table's cells.

  Attributes:
    table: as `tables.load` gives it.
    head: of the columns.
    rows: a text for each column.
    notes: lines below.
  """

  def __init__(
    self,
    table: Mapping[str, Any],
    cells: Sequence[Cell],
    configs: Mapping[Cell, Any],
    failed: Mapping[Cell, str],
  ):
    """Reads the runs.

    Args:
      table: as `tables.load` gives it.
      cells: of the table.
      configs: what each should have had.
      failed: cell -> what went wrong.
    """
    self.table = table
    comparison = _compare(cells)
    rankings = comparison.rankings if comparison else ()
    titles = [
      f"{value.replace('_', ' ')} {compared.ARROWS[metrics.better(value)]}"
      for value in table["values"]
    ]
    self.head = ["", "seeds", "state", *titles, *table["paper"]]
    self.rows = []
    for row in table["rows"]:
      mine = [cell for cell in cells if cell.label == row["label"]]
      states = [cell.outcome(configs[cell])[0] or "not run" for cell in mine]
      counts = collections.Counter(states)
      texts = [row["label"], str(len(mine))]
      texts.append(", ".join(f"{n} {s}" for s, n in counts.items()))
      texts += [_score(rankings, mine, v) for v in table["values"]]
      papers = (row["paper"].get(column) for column in table["paper"])
      texts += [compared.DASH if p is None else str(p) for p in papers]
      self.rows.append(texts)
    self.notes = [f"{column}: {text}." for column, text in _papers(table)]
    for cell, why in failed.items():
      self.notes.append(f"{cell.name}: failed: {why} ({cell.log})")
    if comparison:
      self.notes += comparison.notes
    for ranking in (ranking for ranking in rankings if ranking.values):
      lines = compared.protocol_lines(ranking)
      self.notes.append(f"Protocol. {'; '.join(lines)}.")
    self.notes.append(compared.EXPLAINED)

  def show(self) -> None:
    """Prints the table."""
    from rich import box, console, text
    from rich import table as grids

    out = console.Console(highlight=False)
    out.print(text.Text(self.table["title"], style="bold"))
    grid = grids.Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in self.head:
      grid.add_column(text.Text(title))
    for row in self.rows:
      grid.add_row(*map(text.Text, row))
    out.print(grid)
    for note in self.notes:
      out.print(note, soft_wrap=True, markup=False)

  def markdown(self, command: str) -> str:
    """Returns the table, and by what flags each row was run."""
    table = self.table
    lines = [f"# {_plain(table['title'])}", "", f"{_plain(table['source'])}."]
    lines += ["", f"`{command}`", "", _row(self.head)]
    lines += ["|" + "---|" * len(self.head), *map(_row, self.rows), ""]
    lines += [f"- {_plain(note)}" for note in self.notes]
    lines += ["", "Each run is `ganjax train FLAGS`:", ""]
    lines += ["| | flags |", "|---|---|"]
    for row in table["rows"]:
      flags = " ".join([f"--config {row['experiment']}", *tables.flags(row)])
      lines.append(f"| {_plain(row['label'])} | `{flags}` |")
    return "\n".join([*lines, ""])


def _papers(table: Mapping[str, Any]) -> list[tuple[str, str]]:
  return [(k, v.rstrip(".")) for k, v in table["paper"].items()]


def _compare(cells: Sequence[Cell]) -> groups.Comparison | None:
  """Returns the comparison of those cells that have begun, if any has."""
  begun = [c.workdir for c in cells if (c.workdir / "config.json").is_file()]
  try:
    return groups.compare(*runs.read(begun)) if begun else None
  except errors.UserError:  # One of them is damaged.
    return None


def _score(
  rankings: Sequence[groups.Ranking], cells: Sequence[Cell], value: str
) -> str:
  """Returns what a row reached: mean and spread over its seeds.

  Seeds whose scores may not be compared have a line each.
  """
  workdirs: set[pathlib.Path] = {cell.workdir.resolve() for cell in cells}
  found = [
    compared.score(ranking, group, value)
    for ranking in rankings
    for group in ranking.groups
    if any(run.workdir in workdirs for run in group.runs)
  ]
  found = [text for text in found if text != compared.DASH]
  return "\n".join(found) or compared.DASH


def _row(cells: Sequence[str]) -> str:
  return "| " + " | ".join(map(_plain, cells)) + " |"


def _plain(text: str) -> str:
  """Returns a text in which Markdown sees neither marks nor HTML."""
  text = re.sub(r"([\\`*_\[\]|#~<>&])", r"\\\1", text)
  return "<br>".join(text.splitlines())
