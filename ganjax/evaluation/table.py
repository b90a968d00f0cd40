"""Records as a table that people read, with flags and protocol below it."""

import pathlib
from collections.abc import Mapping
from typing import TypeAlias

from rich import box, console
from rich import table as rich_table

from ganjax import files
from ganjax.evaluation import metrics
from ganjax.evaluation.evaluator import Evaluator

# Metric -> record, of one who was scored.
Records: TypeAlias = Mapping[str, metrics.Record]

# More values than this stand below each other, not beside.
MAX_COLUMNS = 6


def show(rows: Mapping[str, Records], evaluator: Evaluator) -> None:
  """Prints who was scored beside how, with what the numbers stand for.

  Args:
    rows: who -> metric -> record.
    evaluator: that scored them.
  """
  out = console.Console(highlight=False)
  texts = {
    _title(who, records): cells(records) for who, records in rows.items()
  }
  titles = list(dict.fromkeys(t for row in texts.values() for t in row))
  if len(titles) > MAX_COLUMNS:
    grid = rich_table.Table("", *texts, box=box.SIMPLE_HEAD)
    for title in titles:
      grid.add_row(title, *(row.get(title, "") for row in texts.values()))
  else:
    grid = rich_table.Table("", *titles, box=box.SIMPLE_HEAD)
    for who, row in texts.items():
      grid.add_row(who, *(row.get(title, "") for title in titles))
  out.print(grid)
  for line in (*flags(rows), protocol(rows, evaluator)):
    out.print(line, soft_wrap=True)


def write(path: pathlib.Path, rows: Mapping[str, Records]) -> None:
  """Writes who -> metric -> record as JSON."""
  plain = {
    who: {name: record.to_dict() for name, record in records.items()}
    for who, records in rows.items()
  }
  files.write_json(path, plain)


def cells(records: Records) -> dict[str, str]:
  """Returns what stands for some records in a table: title -> text.

  The text of a value has its spread behind it, a count has the largest
  possible count, and a star says that the record has flags.
  """
  numbers: dict[str, float] = {}
  flagged: set[str] = set()
  for record in records.values():
    numbers.update(record.values)
    if record.flags:
      flagged.update(record.values)
  beside = {metrics.spread_of(name) for name in numbers}
  beside.update(metrics.total_of(name) for name in numbers)
  result = {}
  for name, number in numbers.items():
    if name in beside:
      continue
    text = form(name, number).format(number)
    spread = metrics.spread_of(name)
    if spread in numbers:
      text += f" ± {form(name, numbers[spread]).format(numbers[spread])}"
    total = metrics.total_of(name)
    if total in numbers:  # A count says little without how many there are.
      text += f" of {form(name, numbers[total]).format(numbers[total])}"
    if name in flagged:
      text += "*"
    title = name.removesuffix("_mean").replace("_", " ")
    result[title] = text
  return result


def form(value: str, number: float = 0.0) -> str:
  """Returns the format of a value's number, such as "{:.3g}".

  Args:
    value: its name.
    number: large ones are written out: 2,533, not 2.53e+03.
  """
  declared = metrics.format_of(value)
  if not declared and abs(number) >= 999.5:
    return "{:,.0f}"
  return f"{{:{declared or '.3g'}}}"


def flags(rows: Mapping[str, Records]) -> list[str]:
  """Returns a line for each flagged record: what the stars mean."""
  return [
    f"* {who}, {name}: {', '.join(record.flags)}"
    for who, records in rows.items()
    for name, record in records.items()
    if record.flags
  ]


def protocol(rows: Mapping[str, Records], evaluator: Evaluator) -> str:
  """Returns what the numbers are measured against, and in what."""
  text, beside = evaluator.describe()
  for records in rows.values():
    for record in records.values():
      if record.protocol["extractor"] != "none":
        return text + _features(record.protocol) + beside
  return text + beside


def _features(facts: Mapping[str, object]) -> str:
  """Returns in whose features a record with this protocol is measured."""
  notes = []
  if "resize" in facts:
    notes.append(f"{facts['resize']} resize")
  accuracy = facts.get("extractor_accuracy")
  if isinstance(accuracy, float):
    notes.append(f"test accuracy {100 * accuracy:.1f} %")
  text = f", in the features of {facts['extractor']}"
  return text + (f" ({', '.join(notes)})" if notes else "")


def _title(who: str, records: Records) -> str:
  """Returns what stands in the table for the row `who`."""
  for record in records.values():
    if "step" in record.protocol:
      return f"{who} (step {record.protocol['step']})"
  return who
