"""A comparison as tables: for a terminal, as Markdown, as CSV."""

import csv
import io
import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ganjax.evaluation import metrics, table
from ganjax.tools.compare.groups import ALPHA, Comparison, Group, Ranking, Stat
from ganjax.tools.compare.runs import BEST, LAST

MAX_NAME = 34  # letters of a setting beside its values in a terminal
MARK = "★"
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
  """A table of texts, and lines above and below it."""

  title: str
  head: list[str]
  rows: list[list[str]]
  notes: list[str]


def sheets(comparison: Comparison) -> list[Sheet]:
  """Returns the tables of a comparison: the settings, then their scores."""
  rows = [_facts(group) for group in comparison.groups]
  head = ["setting", "seeds", "steps", "real images", "minutes", "state"]
  title = f"{count(comparison.runs, 'run')}, "
  title += count(comparison.groups, "setting")
  result = [Sheet(title, head, rows, [TIME, *comparison.notes])]
  many = len(comparison.rankings) > 1
  for i, ranking in enumerate(comparison.rankings):
    title = f"Scores, table {i + 1}" if many else "Scores"
    result.append(_scores(ranking, title))
  return result


def _scores(ranking: Ranking, title: str) -> Sheet:
  """Returns the table of a ranking."""
  arrows = (ARROWS[metrics.better(value)] for value in ranking.values)
  names = map(_title, ranking.values)
  head = ["setting", *map(" ".join, zip(names, arrows, strict=True))]
  rows = [
    [group.name, *(score(ranking, group, v) for v in ranking.values)]
    for group in ranking.groups
  ]
  if ranking.real:
    reals = [_number(ranking.real.get(v), v) for v in ranking.values]
    rows.append(["held-out real images", *reals])
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
  key = group.name, value
  if (*key, LAST) not in ranking.stats:
    return DASH
  last, best = (ranking.stats[*key, which] for which in (LAST, BEST))
  return f"{_stat(last, value)}\nbest {_stat(best, value)}"


def _stat(stat: Stat, value: str) -> str:
  """Returns mean and spread, and of how many seeds if not of all or of one."""
  text, count = _number(stat.mean, value), len(stat.numbers)
  if stat.spread is not None:
    text += f" ± {_number(stat.spread, value)}"
  if count < stat.runs:
    text += f" ({count} of {stat.runs} seeds)"
  elif count == 1:
    text += " (1 seed)"
  return text + f" {MARK}" * stat.marked


def _number(number: float | None, value: str) -> str:
  # A mean of counts is no count.
  form = table.form(value).replace(".0f", ".3g")
  if number is not None and abs(number) >= 999.5:
    form = "{:,.0f}"
  return DASH if number is None else form.format(number)


def _title(value: str) -> str:
  return value.removesuffix("_mean").replace("_", " ")


def _facts(group: Group) -> list[str]:
  """Returns what a setting cost, and what became of its runs."""
  runs = group.runs
  minutes = [run.seconds / 60 for run in runs if run.seconds is not None]
  states: dict[str, list[str]] = {}
  for run in runs:
    states.setdefault(run.remark, []).append(str(run.seed))
  if len(states) == 1:
    state = next(iter(states))
  else:
    state = "\n".join(f"{k} (seed {', '.join(v)})" for k, v in states.items())
  return [
    group.name,
    str(len(runs)),
    _range([run.steps for run in runs]),
    _range([run.images for run in runs]),
    f"{statistics.fmean(minutes):.3g}" if minutes else DASH,
    state,
  ]


def _range(numbers: Sequence[int]) -> str:
  low, high = min(numbers), max(numbers)
  return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def count(things: Sequence[Any], name: str) -> str:
  """Returns how many there are, with their name."""
  return f"{len(things)} {name}" + "s" * (len(things) != 1)


def protocol_lines(ranking: Ranking) -> list[str]:
  """Returns by what scores were measured: what all share, then each metric."""
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
    name = min(MAX_NAME, max(len(row[0]) for row in sheet.rows))
    for columns in _parts(sheet, out.width - name - 2):
      grid = grids.Table(box=box.SIMPLE_HEAD, pad_edge=False)
      grid.add_column(sheet.head[0], max_width=name, overflow="fold")
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
  """Returns the columns of each part, so that no cell is broken if it fits."""
  parts, room = [[]], width
  for i in range(1, len(sheet.head)):
    cells = [sheet.head[i], *(row[i] for row in sheet.rows)]
    need = 2 + max(len(line) for c in cells for line in c.split("\n") or [""])
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
    lines += [f"## {sheet.title}", ""]
    lines += [_row(sheet.head), "|" + "---|" * len(sheet.head)]
    lines += [_row(row) for row in sheet.rows]
    lines += ["", *(f"- {_plain(note)}" for note in sheet.notes), ""]
  differences = comparison.differences
  if differences:
    head = ["config key", *(group.name for group in comparison.groups)]
    lines += ["## Differences of the configs", "", _row(head)]
    lines.append("|" + "---|" * len(head))
    for key, row in differences.items():
      lines.append(_row([key, *(DASH if v is None else v for v in row)]))
    lines.append("")
  return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
  return "| " + " | ".join(map(_plain, cells)) + " |"


def _plain(text: str) -> str:
  """Returns a text in which Markdown sees neither marks nor HTML."""
  text = re.sub(r"([\\`*_\[\]|#~<>&!])", r"\\\1", text)
  return "<br>".join(text.splitlines())


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
        facts: list[Any] = [i + 1, group.name, run.name, run.seed, run.state]
        facts += [run.steps, run.images, minutes]
        scores: Mapping[str, Any] = run.scores()
        for value, found in scores.items():
          numbers = [found.last, found.best, found.best_step]
          writer.writerow([*facts, value, metrics.better(value), *numbers])
        if not scores:
          writer.writerow([*facts, "", "", "", "", ""])
  return out.getvalue()
