"""A comparison as tables: for a terminal, as Markdown, as CSV."""

import csv
import io
import statistics
from collections.abc import Sequence, Sized
from typing import NamedTuple

from ganjax.evaluation import metrics, table
from ganjax.tools import markdown as md
from ganjax.tools.compare.groups import ALPHA, Comparison, Group, Ranking, Stat
from ganjax.tools.compare.runs import BEST, LAST

MAX_NAME = 34  # letters of a setting beside its values in a terminal
MARK = "★"  # beside what is better than all others
ARROWS = {"lower": "↓", "higher": "↑"}
DASH = "–"
EXPLAINED = (
  "Mean ± standard deviation over seeds of the last state; below it of the "
  "best scored state of each run, chosen by the value itself. "
  f"{MARK}: better than all others, Welch's t-test p < {ALPHA:g} against each; "
  "none where a setting has one seed."
)
TIME = "Minutes are of training alone, from the speeds that the runs logged."


class Sheet(NamedTuple):
  """A table of texts, with what stands above and below it.

  Attributes:
    title: above the table.
    head: the title of each column.
    rows: a text for each column; it may have several lines.
    notes: lines below the table.
  """

  title: str
  head: list[str]
  rows: list[list[str]]
  notes: list[str]


def sheets(comparison: Comparison) -> list[Sheet]:
  """Returns the tables of a comparison: the settings, then their scores."""
  first = Sheet(
    title=f"{count(comparison.runs, 'run')}, "
    + count(comparison.groups, "setting"),
    head=["setting", "seeds", "steps", "real images", "minutes", "state"],
    rows=[_facts(group) for group in comparison.groups],
    notes=[TIME, *comparison.notes],
  )
  result = [first]
  many = len(comparison.rankings) > 1
  for i, ranking in enumerate(comparison.rankings):
    title = f"Scores, table {i + 1}" if many else "Scores"
    result.append(_scores(ranking, title))
  return result


def _scores(ranking: Ranking, title: str) -> Sheet:
  """Returns the table of a ranking."""
  head = ["setting"]
  for value in ranking.values:
    title_of_value = value.removesuffix("_mean").replace("_", " ")
    head.append(f"{title_of_value} {ARROWS[metrics.better(value)]}")
  rows = [
    [group.name, *(score(ranking, group, v) for v in ranking.values)]
    for group in ranking.groups
  ]
  if ranking.real:
    # What samples could reach at best: real images against other real ones.
    real = [_number(ranking.real.get(v), v) for v in ranking.values]
    rows.append(["held-out real images", *real])
  notes = []
  if ranking.reason:
    notes.append(f"Not ranked with the first table: {ranking.reason}.")
  if ranking.values:
    notes.append(f"Protocol. {'; '.join(protocol_lines(ranking))}.")
  else:
    notes.append("No run here is over and scored.")
  for group in ranking.groups:
    for run in group.runs:
      for name, record in run.records.get(LAST, {}).items():
        if record.flags:
          notes.append(f"{run.name}, {name}: {', '.join(record.flags)}")
  return Sheet(title, head, rows, notes)


def score(ranking: Ranking, group: Group, value: str) -> str:
  """Returns a cell: the last state's scores, below them the best states'."""
  if (group.name, value, LAST) not in ranking.stats:
    return DASH
  last = ranking.stats[group.name, value, LAST]
  best = ranking.stats[group.name, value, BEST]
  return f"{_stat(last, value)}\nbest {_stat(best, value)}"


def _stat(stat: Stat, value: str) -> str:
  """Returns mean and spread, and the number of seeds if few have the value."""
  text = _number(stat.mean, value)
  num = len(stat.numbers)
  if stat.spread is not None:
    text += f" ± {_number(stat.spread, value)}"
  if num < stat.runs:
    text += f" ({num} of {stat.runs} seeds)"
  elif num == 1:
    text += " (1 seed)"
  if stat.marked:
    text += f" {MARK}"
  return text


def _number(number: float | None, value: str) -> str:
  """Returns a number as a reader wants it: three digits, no exponent."""
  if number is None:
    return DASH
  if abs(number) >= 999.5:
    return f"{number:,.0f}"
  # Counts have no digits after the point, but the mean of counts may.
  form = table.form(value).replace(".0f", ".3g")
  return form.format(number)


def _facts(group: Group) -> list[str]:
  """Returns what a setting cost, and what became of its runs."""
  runs = group.runs
  minutes = [run.seconds / 60 for run in runs if run.seconds is not None]
  seeds_of: dict[str, list[str]] = {}
  for run in runs:
    seeds_of.setdefault(run.remark, []).append(str(run.seed))
  if len(seeds_of) == 1:
    state = runs[0].remark
  else:
    state = "\n".join(
      f"{remark} (seed {', '.join(seeds)})"
      for remark, seeds in seeds_of.items()
    )
  return [
    group.name,
    str(len(runs)),
    _range([run.steps for run in runs]),
    _range([run.images for run in runs]),
    f"{statistics.fmean(minutes):.3g}" if minutes else DASH,
    state,
  ]


def _range(numbers: Sequence[int]) -> str:
  low = min(numbers)
  high = max(numbers)
  return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def count(things: Sized, name: str) -> str:
  """Returns how many there are, with their name in its number."""
  return f"{len(things)} {name}" + ("" if len(things) == 1 else "s")


def protocol_lines(ranking: Ranking) -> list[str]:
  """Returns how scores were measured: what all metrics share, then each."""
  # The runs of a ranking agree in the protocol of a metric, so the first run
  # that has the metric speaks for all.
  found: dict[str, dict[str, str]] = {}
  for run in (run for group in ranking.groups for run in group.runs):
    for name, protocol in run.protocols.items():
      facts = {
        k: f"{v:.4g}" if isinstance(v, float) else str(v)
        for k, v in protocol.items()
        if k != "step"
      }
      found.setdefault(name, facts)
  first, *others = found.values()
  shared = {
    k: v for k, v in first.items() if all(o.get(k) == v for o in others)
  }
  lines = {"all": shared}
  for name, facts in found.items():
    lines[name] = {k: v for k, v in facts.items() if k not in shared}
  return [
    f"{name}: {', '.join(f'{k} {v}' for k, v in facts.items())}"
    for name, facts in lines.items()
    if facts
  ]


def show(comparison: Comparison) -> None:
  """Prints the tables, each in as many parts as the terminal's width asks."""
  from rich import box, console, text
  from rich import table as grids

  out = console.Console(highlight=False)
  for sheet in sheets(comparison):
    out.print(text.Text(sheet.title, style="bold"))
    # Names of settings may be long; they are folded to leave room for values.
    name_width = min(MAX_NAME, max(len(row[0]) for row in sheet.rows))
    for columns in _parts(sheet, out.width - name_width - 2):
      grid = grids.Table(box=box.SIMPLE_HEAD, pad_edge=False)
      grid.add_column(sheet.head[0], max_width=name_width, overflow="fold")
      for i in columns:
        grid.add_column(text.Text(sheet.head[i]))
      for row in sheet.rows:
        grid.add_row(*(text.Text(row[i]) for i in (0, *columns)))
      out.print(grid)
    for line in sheet.notes:
      out.print(line, soft_wrap=True, markup=False)
    out.print()
  if any(ranking.values for ranking in comparison.rankings):
    out.print(EXPLAINED, markup=False)


def _parts(sheet: Sheet, width: int) -> list[list[int]]:
  """Splits the columns into parts so that no cell is broken if it fits.

  Args:
    sheet: the table; its first column is repeated in each part.
    width: letters that are left beside the first column.

  Returns:
    The indices of the columns of each part.
  """
  parts: list[list[int]] = [[]]
  room = width
  for i in range(1, len(sheet.head)):
    cells = [sheet.head[i], *(row[i] for row in sheet.rows)]
    longest = max(len(line) for cell in cells for line in cell.split("\n"))
    need = longest + 2  # with the space between columns
    if parts[-1] and need > room:
      parts.append([])
      room = width
    parts[-1].append(i)
    room -= need
  return parts


def markdown(comparison: Comparison) -> str:
  """Returns the tables as Markdown."""
  lines = ["# Comparison of runs", "", EXPLAINED, ""]
  for sheet in sheets(comparison):
    lines += [f"## {sheet.title}", "", *md.table(sheet.head, sheet.rows), ""]
    lines += [*(f"- {md.escape(note)}" for note in sheet.notes), ""]
  differences = comparison.differences
  if differences:
    head = ["config key", *(group.name for group in comparison.groups)]
    rows = [
      [key, *(DASH if text is None else text for text in row)]
      for key, row in differences.items()
    ]
    lines += ["## Differences of the configs", "", *md.table(head, rows), ""]
  return "\n".join(lines)


def csv_text(comparison: Comparison) -> str:
  """Returns a line for each run and value; a run without scores has one."""
  out = io.StringIO()
  writer = csv.writer(out)
  writer.writerow(
    "ranking setting run seed state steps real_images minutes value better "
    "last best best_step".split()
  )
  for i, ranking in enumerate(comparison.rankings):
    for group in ranking.groups:
      for run in group.runs:
        minutes = "" if run.seconds is None else round(run.seconds / 60, 4)
        facts = [i + 1, group.name, run.name, run.seed, run.state]
        facts += [run.steps, run.images, minutes]
        scores = run.scores()
        for value, found in scores.items():
          numbers = [found.last, found.best, found.best_step]
          writer.writerow([*facts, value, metrics.better(value), *numbers])
        if not scores:
          writer.writerow([*facts, "", "", "", "", ""])
  return out.getvalue()
