"""A comparison as one HTML file that needs nothing beside itself."""

import html as markup
import json
from collections.abc import Iterator, Sequence
from typing import Any

from ganjax.tools.compare import (
  curves,
  drawing,
  look,
  samples,
  sections,
  tables,
)
from ganjax.tools.compare.groups import Comparison
from ganjax.tools.compare.runs import Run

MAX_BYTES = 4_800_000  # of the page; samples get what the rest leaves
POLICY = (
  "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
  "script-src 'unsafe-inline'"
)

esc = markup.escape


def html(comparison: Comparison) -> str:
  """Returns the page. All names and values in it are escaped."""
  charts = curves.charts(comparison)
  last = max((run.steps for run in comparison.runs), default=0) or 1
  body = [
    _section("scores", "Scores", _scores(comparison)),
    _section("curves", "Curves", _curves(comparison, charts, last)),
    "",  # Samples.
    _section("health", "Health", sections.health(comparison)),
    _section("configs", "Configs", sections.configs(comparison)),
    _section(
      "environment", "Environment", sections.environment(comparison.runs)
    ),
  ]
  data: dict[str, Any] = dict(
    names=[group.name for group in comparison.groups],
    charts=[curves.numbers(chart) for chart in charts],
    last=last,
    left=drawing.LEFT,
    right=drawing.RIGHT,
    width=drawing.WIDTH,
    times=[],
  )
  room = MAX_BYTES - len(_page(comparison, body, data).encode())
  # Each picture has some letters around it.
  frames = samples.frames(comparison.runs, max(0, int(0.96 * room)))
  if any(frames):
    steps = {frame.step for pictures in frames for frame in pictures}
    data["times"] = sorted(steps)
    body[2] = _section("samples", "Samples", _samples(comparison, frames))
  return _page(comparison, body, data)


def _page(comparison: Comparison, body: Sequence[str], data: Any) -> str:
  """Returns the whole file."""
  groups, runs = comparison.groups, comparison.runs
  title = f"Comparison of {tables.count(runs, 'run')}"
  title += f" in {tables.count(groups, 'setting')}"
  names = "Scores Curves Samples Health Configs Environment".split()
  links = [x for x, part in zip(names, body, strict=True) if part]
  labels = "".join(
    f'<label class="c{i % 8}"><input type="checkbox" value="{i}" checked> '
    f"{sections.key(i)}{esc(group.name)}</label>"
    for i, group in enumerate(groups)
  )
  plain = json.dumps(data, allow_nan=False).replace("<", "\\u003c")
  return "\n".join(
    [
      '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">',
      '<meta name="viewport" content="width=device-width, initial-scale=1">',
      f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
      f"<title>{title}</title><style>{look.CSS}</style></head><body>",
      f"<header><h1>{title}</h1><nav>",
      *(f'<a href="#{x.lower()}">{x}</a>' for x in links),
      "</nav></header><main>",
      f"<fieldset disabled><legend>Settings shown</legend>{labels}</fieldset>",
      *body,
      '</main><div id="tip"></div>',
      f'<script type="application/json" id="data">{plain}</script>',
      f"<script>{look.JS}</script></body></html>\n",
    ]
  )


def _section(name: str, title: str, parts: Iterator[str]) -> str:
  content = "\n".join(parts)
  return f'<section id="{name}"><h2>{title}</h2>\n{content}</section>'


def _scores(comparison: Comparison) -> Iterator[str]:
  places = {group.name: i for i, group in enumerate(comparison.groups)}
  # Settings and their cost stand below what they reached.
  first, *others = tables.sheets(comparison)
  yield f'<p class="soft">{esc(tables.EXPLAINED)}</p>'
  for sheet in (*others, first._replace(title="Runs and budgets")):
    rows = [
      (places.get(row[0]), [_cell(text) for text in row]) for row in sheet.rows
    ]
    yield f"<h3>{esc(sheet.title)}</h3>"
    yield sections.table(sheet.head, rows)
    for note in sheet.notes:
      yield f'<p class="note">{esc(note)}</p>'
  yield "<details><summary>Each run</summary>"
  rows = []
  for group in comparison.groups:
    for run in group.runs:
      texts = [run.name, str(run.seed), run.remark]
      for value, score in run.scores().items():
        texts.append(f"{value} {score.last:.4g}, best {score.best:.4g}")
        texts[-1] += f" at {score.best_step:,}"
      rows.append((places[group.name], [*map(esc, texts[:3])]))
      rows[-1][1].append("<br>".join(map(esc, texts[3:])))
  yield sections.table(["run", "seed", "state", "scores"], rows)
  yield "</details>"


def _cell(text: str) -> str:
  """Returns the cell of a sheet: what is best is small, what is marked bold."""
  lines = []
  for line in text.split("\n"):
    part = esc(line)
    part = f"<b>{part}</b>" if tables.MARK in line else part
    lines.append(f"<small>{part}</small>" if line.startswith("best") else part)
  return "<br>".join(lines)


def _curves(
  comparison: Comparison, charts: Sequence[curves.Chart], last: int
) -> Iterator[str]:
  names = [group.name for group in comparison.groups]
  if not charts:
    yield "<p>No rows are logged yet.</p>"
  yield (
    '<p class="soft">Mean over seeds, the band is one standard deviation; '
    "a setting of one seed has none. A run that ended earlier counts until "
    "there. Where there are many rows a point is the mean of several. "
    "Single points far outside the axis stand at its edge.</p>"
  )
  yield '<div class="charts">'
  for chart in charts:
    yield f"<figure><h3>{esc(chart.title)}</h3>"
    yield f"{drawing.svg(chart, names, last)}</figure>"
  yield "</div>"


def _samples(
  comparison: Comparison, frames: Sequence[Sequence[samples.Frame]]
) -> Iterator[str]:
  last = len({frame.step for pictures in frames for frame in pictures}) - 1
  yield '<p class="soft">The same latents of each run at all its steps.</p>'
  pictures = iter(frames)
  yield '<div class="blocks">'
  for i, group in enumerate(comparison.groups):
    yield f'<div class="g{i}"><h3>{sections.key(i)}{esc(group.name)}</h3>'
    yield '<div class="shots">'
    for run in group.runs:
      yield _figure(run, next(pictures))
    yield "</div></div>"
  yield "</div>"
  yield (
    '<div class="time"><label for="step">Step</label><input type="range" '
    f'id="step" min="0" max="{last}" value="{last}" disabled>'
    "<output>the last</output></div>"
  )


def _figure(run: Run, pictures: Sequence[samples.Frame]) -> str:
  """Returns the pictures of a run, the last of them shown."""
  if not pictures:
    return (
      f"<figure><figcaption>{esc(run.name)}: no samples</figcaption></figure>"
    )
  images = "".join(
    f'<img src="{frame.address}" width="{frame.size[0]}" '
    f'height="{frame.size[1]}" data-step="{frame.step}" '
    f'alt="{frame.count} samples of {esc(run.name)} at step {frame.step}"'
    f"{' hidden' * (frame is not pictures[-1])}>"
    for frame in pictures
  )
  where = f'step <span class="at">{pictures[-1].step:,}</span>'
  text = f"{esc(run.name)}<br>seed {run.seed}, {where}"
  return f"<figure>{images}<figcaption>{text}</figcaption></figure>"
