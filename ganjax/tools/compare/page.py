"""A comparison as one HTML file that needs nothing beside itself.

The folder `web` has what the file is made of: a jinja2 template, a style, a
script, and uPlot (MIT licence), which draws the charts. All of it is written
into the file, so the page works from a disk, without a network and behind a
policy that forbids to load anything.
"""

import functools
import importlib.resources
from collections.abc import Iterator, Sequence
from typing import Any

import jinja2
import markupsafe

from ganjax.tools.compare import curves, samples, sections, tables
from ganjax.tools.compare.groups import Comparison
from ganjax.tools.compare.sections import Line

WEB = importlib.resources.files("ganjax.tools.compare") / "web"
MAX_BYTES = 4_800_000  # of the page; samples get what the rest leaves
# The share of the room for samples that their pictures may take themselves;
# the rest is for the tags around them.
SHARE = 0.96


def html(comparison: Comparison) -> str:
  """Returns the page. All names and values in it are escaped."""
  charts = curves.charts(comparison)
  last = max((run.steps for run in comparison.runs), default=0) or 1
  names = [group.name for group in comparison.groups]
  title = (
    f"Comparison of {tables.count(comparison.runs, 'run')} in "
    f"{tables.count(comparison.groups, 'setting')}"
  )
  # Names of the page's parts, as `web/page.html` calls them.
  parts: dict[str, Any] = dict(
    title=title,
    names=names,
    mark=tables.MARK,
    explained=tables.EXPLAINED,
    sheets=_sheets(comparison),
    each_run=_each_run(comparison),
    charts=[
      dict(title=chart.title, description=curves.describe(chart, names))
      for chart in charts
    ],
    times=[],
    shots=[],
    diagnoses=sections.DIAGNOSES,
    bars=sections.health(comparison),
    configs=sections.configs(comparison),
    environment=sections.environment(comparison.runs),
    count=tables.count,
    data=dict(
      names=names,
      charts=[curves.plain(chart) for chart in charts],
      last=last,
      times=[],
    ),
  )
  # Samples are the one part whose size can be chosen: everything else is
  # written first, to see how much room is left for them.
  room = MAX_BYTES - len(_render(parts).encode())
  frames = samples.frames(comparison.runs, max(0, int(SHARE * room)))
  if not any(frames):
    return _render(parts)
  times = sorted({frame.step for pictures in frames for frame in pictures})
  return _render(
    {
      **parts,
      "times": times,
      "shots": _shots(comparison, iter(frames)),
      "data": {**parts["data"], "times": times},
    }
  )


def _render(parts: dict[str, Any]) -> str:
  return _template().render(parts)


@functools.cache
def _template() -> jinja2.Template:
  environment = jinja2.Environment(
    loader=jinja2.FunctionLoader(_read),
    autoescape=True,  # Names of runs are written by anyone.
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  # NaN is no JSON: no number of the data may be one.
  environment.policies["json.dumps_kwargs"] = {"allow_nan": False}
  environment.globals["file"] = lambda name: markupsafe.Markup(_read(name))
  return environment.get_template("page.html")


def _read(name: str) -> str:
  return (WEB / name).read_text(encoding="utf-8")


def _sheets(comparison: Comparison) -> list[dict[str, Any]]:
  """Returns the tables of scores, then that of settings and their cost."""
  places = {group.name: i for i, group in enumerate(comparison.groups)}
  settings, *scores = tables.sheets(comparison)
  return [
    dict(
      title=sheet.title,
      head=sheet.head,
      rows=[Line(row, places.get(row[0])) for row in sheet.rows],
      notes=sheet.notes,
    )
    for sheet in (*scores, settings._replace(title="Runs and budgets"))
  ]


def _each_run(comparison: Comparison) -> dict[str, Any]:
  """Returns the table of single runs: seed, state and scores of each."""
  rows = []
  for i, group in enumerate(comparison.groups):
    for run in group.runs:
      scores = [
        f"{value} {score.last:.4g}, best {score.best:.4g} at "
        f"{score.best_step:,}"
        for value, score in run.scores().items()
      ]
      cells = [run.name, str(run.seed), run.remark, "\n".join(scores)]
      rows.append(Line(cells, i))
  return dict(head=["run", "seed", "state", "scores"], rows=rows)


def _shots(
  comparison: Comparison, frames: Iterator[Sequence[samples.Frame]]
) -> list[dict[str, Any]]:
  """Returns the settings with (run, its pictures) of each run."""
  return [
    dict(name=group.name, runs=[(run, next(frames)) for run in group.runs])
    for group in comparison.groups
  ]
