"""The table at the end: ours over seeds beside the paper's numbers."""

import collections
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from ganjax import errors
from ganjax.evaluation import metrics
from ganjax.tools import markdown as md
from ganjax.tools.compare import groups, runs
from ganjax.tools.compare import tables as compared
from ganjax.tools.sweep import tables
from ganjax.tools.sweep.cell import Cell


class Page:
  """What became of a table's cells.

  Attributes:
    table: what `tables.load` returned.
    head: the title of each column.
    rows: a text for each column; it may have several lines.
    notes: lines below the table.
  """

  def __init__(
    self,
    table: tables.Table,
    cells: Sequence[Cell],
    configs: Mapping[Cell, Any],
    failed: Mapping[Cell, str],
  ):
    """Reads the runs.

    Args:
      table: what `tables.load` returned.
      cells: all cells of the table.
      configs: cell -> the config that its run should have had.
      failed: cell -> what went wrong.
    """
    self.table = table
    comparison = _compare(cells)
    titles = [
      f"{value.replace('_', ' ')} {compared.ARROWS[metrics.better(value)]}"
      for value in table["values"]
    ]
    self.head = ["", "seeds", "state", *titles, *table["paper"]]
    self.rows = [
      _row(table, row, cells, configs, comparison) for row in table["rows"]
    ]
    self.notes = _notes(table, failed, comparison)

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
    lines = [f"# {md.escape(table['title'])}", ""]
    lines += [f"{md.escape(table['source'])}.", "", f"`{command}`", ""]
    lines += [*md.table(self.head, self.rows), ""]
    lines += [f"- {md.escape(note)}" for note in self.notes]
    lines += ["", "Each run is `ganjax train FLAGS`:", ""]
    lines += ["| | flags |", "|---|---|"]
    for row in table["rows"]:
      flags = " ".join([f"--config {row['experiment']}", *tables.flags(row)])
      lines.append(f"| {md.escape(row['label'])} | `{flags}` |")
    return "\n".join([*lines, ""])


def _row(
  table: tables.Table,
  row: tables.Table,
  cells: Sequence[Cell],
  configs: Mapping[Cell, Any],
  comparison: groups.Comparison | None,
) -> list[str]:
  """Returns the texts of a row: states, our scores, the paper's numbers."""
  mine = [cell for cell in cells if cell.label == row["label"]]
  states = [cell.outcome(configs[cell])[0] or "not run" for cell in mine]
  counts = collections.Counter(states)
  rankings = comparison.rankings if comparison else ()
  papers = [row["paper"].get(column) for column in table["paper"]]
  return [
    row["label"],
    str(len(mine)),
    ", ".join(f"{num} {state}" for state, num in counts.items()),
    *(_score(rankings, mine, value) for value in table["values"]),
    *(compared.DASH if number is None else str(number) for number in papers),
  ]


def _notes(
  table: tables.Table,
  failed: Mapping[Cell, str],
  comparison: groups.Comparison | None,
) -> list[str]:
  """Returns the lines below: sources, failures, and how scores were made."""
  notes = [
    f"{column}: {text.rstrip('.')}." for column, text in table["paper"].items()
  ]
  for cell, why in failed.items():
    notes.append(f"{cell.name}: failed: {why} ({cell.log})")
  if comparison:
    notes += comparison.notes
    for ranking in comparison.rankings:
      if ranking.values:
        lines = compared.protocol_lines(ranking)
        notes.append(f"Protocol. {'; '.join(lines)}.")
  return [*notes, compared.EXPLAINED]


def _compare(cells: Sequence[Cell]) -> groups.Comparison | None:
  """Returns the comparison of those cells that have begun, if any has.

  A damaged run must not hide what became of the others: there is none then.
  """
  begun = [c.workdir for c in cells if (c.workdir / "config.json").is_file()]
  try:
    return groups.compare(*runs.read(begun)) if begun else None
  except errors.UserError:
    return None


def _score(
  rankings: Sequence[groups.Ranking], cells: Sequence[Cell], value: str
) -> str:
  """Returns what a row reached: mean and spread over its seeds.

  Seeds whose scores may not be compared have a line each.
  """
  # A group of the comparison has no label: its runs say which row it is.
  workdirs: set[pathlib.Path] = {cell.workdir.resolve() for cell in cells}
  found = [
    compared.score(ranking, group, value)
    for ranking in rankings
    for group in ranking.groups
    if any(run.workdir in workdirs for run in group.runs)
  ]
  found = [text for text in found if text != compared.DASH]
  return "\n".join(found) or compared.DASH
