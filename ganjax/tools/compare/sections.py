"""What the page says beside scores and curves: health, configs, environment."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from ganjax.runs import curves as one_run
from ganjax.tools.compare import tables
from ganjax.tools.compare.groups import Comparison
from ganjax.tools.compare.runs import Run

# The diagnoses that have a colour; any other shares the one after them.
DIAGNOSES = tuple(one_run.DIAGNOSES)
# What an environment says of a person's machine.
PRIVATE = ("command", "platform")


@dataclasses.dataclass(frozen=True)
class Line:
  """A row of a table.

  Attributes:
    cells: a text for each column.
    group: the place of the setting that the row is about, or None.
  """

  cells: Sequence[str]
  group: int | None = None


@dataclasses.dataclass(frozen=True)
class Part:
  """A stretch of a bar, in percent of the bar.

  Attributes:
    look: the class of its colour in `page.css`.
    left: where it begins.
    width: how wide it is.
    title: what a pointer shows.
  """

  look: str
  left: float
  width: float
  title: str


@dataclasses.dataclass(frozen=True)
class Bar:
  """The health of a run over its steps.

  Attributes:
    group: the place of the run's setting.
    name: the run's name.
    description: the bar in words.
    width: in percent of the longest run.
    parts: the steps that were done, and above them what the log named.
  """

  group: int
  name: str
  description: str
  width: float
  parts: Sequence[Part]


def health(comparison: Comparison) -> list[Bar]:
  """Returns a bar for each run, with what its log named."""
  ends = {r.name: max(r.num_steps, r.steps, 1) for r in comparison.runs}
  longest = max(ends.values(), default=1)
  bars = []
  for i, group in enumerate(comparison.groups):
    for run in group.runs:
      end = ends[run.name]
      parts = [_part("done", 0, run.steps, end)]
      for name, start, stop in one_run.spans(run.rows):
        known = name in DIAGNOSES
        look = f"h{DIAGNOSES.index(name) if known else len(DIAGNOSES)}"
        title = f"{name} in steps {start:,} to {stop:,}"
        parts.append(_part(look, start, stop, end, title))
      said = "; ".join(part.title for part in parts[1:]) or "nothing"
      bars.append(
        Bar(
          group=i,
          name=run.name,
          description=f"{run.name}, {run.remark}: {said}",
          width=100 * end / longest,
          parts=parts,
        )
      )
  return bars


def _part(look: str, start: int, stop: int, end: int, title: str = "") -> Part:
  """Returns the stretch between two steps of a run with `end` steps."""
  return Part(
    look=look,
    left=100 * start / end,
    width=100 * (stop - start) / end,
    title=title,
  )


@dataclasses.dataclass(frozen=True)
class Configs:
  """The keys of all configs.

  Attributes:
    head: of the tables of keys that differ.
    differ: keys that all settings have, with other values.
    partial: keys that some settings lack.
    same: keys whose value all settings share.
  """

  head: Sequence[str]
  differ: Sequence[Line]
  partial: Sequence[Line]
  same: Sequence[Line]


def configs(comparison: Comparison) -> Configs:
  """Returns what differs between configs, and what does not."""
  differences = comparison.differences
  differ = []
  partial = []
  for name, row in differences.items():
    cells = [tables.DASH if text is None else text for text in row]
    (partial if None in row else differ).append(Line([name, *cells]))
  return Configs(
    head=["key", *(group.name for group in comparison.groups)],
    differ=differ,
    partial=partial,
    same=[
      Line([key, value])
      for key, value in comparison.groups[0].config.items()
      if key not in differences
    ],
  )


@dataclasses.dataclass(frozen=True)
class Environment:
  """Where runs were made.

  Attributes:
    shared: what is the same for all runs, in a line.
    head: of the table of what differs.
    rows: one for each run; none if nothing differs.
  """

  shared: str
  head: Sequence[str]
  rows: Sequence[Line]


def environment(runs: Sequence[Run]) -> Environment:
  """Returns where runs were made: what they share, and what differs."""
  facts = {run.name: _facts(run.environment) for run in runs}
  keys = dict.fromkeys(key for mine in facts.values() for key in mine)
  shared = {}
  differ = []
  for key in keys:
    values = {mine.get(key, tables.DASH) for mine in facts.values()}
    if len(values) == 1:
      shared[key] = values.pop()
    else:
      differ.append(key)
  rows = [
    Line([name, *(mine.get(key, tables.DASH) for key in differ)])
    for name, mine in facts.items()
  ]
  return Environment(
    shared=", ".join(f"{key} {value}" for key, value in shared.items()),
    head=["run", *differ],
    rows=rows if differ else [],
  )


def _facts(environment: Mapping[str, Any]) -> dict[str, str]:
  """Returns an environment, flat and without what is private."""
  known = {k: v for k, v in environment.items() if k not in PRIVATE}
  versions = known.pop("versions", {})
  if isinstance(versions, dict):  # Else the file was written by hand.
    known = {**versions, **known}
  return {key.replace("_", " "): str(value) for key, value in known.items()}
