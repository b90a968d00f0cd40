"""Parts of the page that stand below scores, curves and samples."""

import html
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ganjax.runs import curves as one_run
from ganjax.tools.compare import tables
from ganjax.tools.compare.groups import Comparison
from ganjax.tools.compare.runs import Run

STATES = tuple(one_run.DIAGNOSES)
# What an environment says of a person's machine.
PRIVATE = ("command", "platform")

esc = html.escape


def key(group: int) -> str:
  """Returns the piece of line that stands for a setting."""
  return f'<span class="key c{group % 8} d{group // 8 % 4}"></span>'


def table(
  head: Sequence[str], rows: Sequence[tuple[int | None, Sequence[str]]]
) -> str:
  """Returns a table of (place of the setting or None, cells as HTML)."""
  titles = "".join(f'<th scope="col">{esc(text)}</th>' for text in head)
  lines = []
  for place, (name, *cells) in rows:
    line, group = ("", "") if place is None else (key(place), f"g{place}")
    rest = "".join(f"<td>{cell}</td>" for cell in cells)
    first = f'<th scope="row">{line}{name}</th>'
    lines.append(f'<tr class="{group}">{first}{rest}</tr>')
  return (
    f'<div class="scroll"><table><thead><tr>{titles}</tr></thead>'
    f"<tbody>{''.join(lines)}</tbody></table></div>"
  )


def spans(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, int, int]]:
  """Returns (diagnosis, from step, to step) where one held.

  A row speaks of the steps since the row before it.
  """
  result, start = [], 0
  said = [row for row in rows if isinstance(row.get("diagnosis"), str)]
  for name, some in itertools.groupby(said, lambda row: row["diagnosis"]):
    stop = max(row["step"] for row in some)
    if name:
      result.append((name, start, stop))
    start = stop
  return result


def health(comparison: Comparison) -> Iterator[str]:
  """Yields a bar for each run, in the colours of what its log named."""
  ends = {r.name: max(r.num_steps, r.steps, 1) for r in comparison.runs}
  yield (
    '<p class="soft">What the log named, over the steps. Grey: nothing; a '
    "dashed frame without grey: steps that were not done.</p>"
  )
  names = "".join(
    f'<span><i class="swatch h{i}"></i>{esc(name)}</span>'
    for i, name in enumerate(STATES)
  )
  yield f'<p class="soft names">{names}</p><div class="health">'
  for i, group in enumerate(comparison.groups):
    for run in group.runs:
      end, words = ends[run.name], []
      bars = [f'<i class="done" style="{_at(0, run.steps, end)}"></i>']
      for name, start, stop in spans(run.rows):
        place = STATES.index(name) if name in STATES else len(STATES)
        words.append(f"{name} in steps {start:,} to {stop:,}")
        bars.append(
          f'<i class="h{place}" style="{_at(start, stop, end)}" '
          f'title="{esc(words[-1])}"></i>'
        )
      text = esc(f"{run.name}, {run.remark}: {'; '.join(words) or 'nothing'}")
      yield f'<div class="g{i}">{key(i)}{esc(run.name)}</div>'
      width = 100 * end / max(ends.values())
      yield (
        f'<div class="g{i}" role="img" aria-label="{text}"><div class="bar" '
        f'style="width:{width:.2f}%">'
        f"{''.join(bars)}</div></div>"
      )
  yield "</div>"


def _at(start: int, stop: int, end: int) -> str:
  return (
    f"left:{100 * start / end:.2f}%;width:{100 * (stop - start) / end:.2f}%"
  )


def configs(comparison: Comparison) -> Iterator[str]:
  """Yields what differs between configs, and folded what does not."""
  differences = comparison.differences
  if not differences:
    yield "<p>All runs have the same config but for their seed.</p>"
  head = ["key", *(group.name for group in comparison.groups)]
  parts: tuple[list, list] = [], []
  for name, row in differences.items():
    cells = [tables.DASH if text is None else text for text in row]
    parts[None in row].append((None, [*map(esc, (name, *cells))]))
  if parts[0]:
    yield table(head, parts[0])
  if parts[1]:
    title = f"{tables.count(parts[1], 'key')} that not all have"
    yield f"<details><summary>{title}</summary>"
    yield f"{table(head, parts[1])}</details>"
  same = {
    k: v for k, v in comparison.groups[0].config.items() if k not in differences
  }
  yield f"<details><summary>{len(same)} keys that all share</summary>"
  yield table(
    ["key", "value"], [(None, [esc(k), esc(v)]) for k, v in same.items()]
  )
  yield "</details>"


def environment(runs: Sequence[Run]) -> Iterator[str]:
  """Yields where runs were made: what they share, then what differs."""
  facts = {run.name: _facts(run.environment) for run in runs}
  keys = dict.fromkeys(key for mine in facts.values() for key in mine)
  shared = {}
  for key in keys:
    values = {mine.get(key, tables.DASH) for mine in facts.values()}
    if len(values) == 1:
      shared[key] = values.pop()
  if shared:
    text = ", ".join(f"{key} {value}" for key, value in shared.items())
    yield f"<p>All runs: {esc(text)}.</p>"
  differ = [key for key in keys if key not in shared]
  if differ:
    yield table(
      ["run", *differ],
      [
        (None, [esc(name), *(esc(mine.get(k, tables.DASH)) for k in differ)])
        for name, mine in facts.items()
      ],
    )


def _facts(environment: Mapping[str, Any]) -> dict[str, str]:
  """Returns an environment, flat and without what is private."""
  known = {k: v for k, v in environment.items() if k not in PRIVATE}
  versions = known.pop("versions", {})
  flat = {**(versions if isinstance(versions, dict) else {}), **known}
  return {k.replace("_", " "): str(v) for k, v in flat.items()}
