"""Curves over seeds: mean and standard deviation at each step."""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ganjax.evaluation import metrics
from ganjax.runs import curves as one_run
from ganjax.tools.compare.groups import Comparison

# A curve has at most so many points, all curves of a chart so many.
MAX_POINTS, MAX_ALL = 80, 800
DIGITS = 4  # of the numbers that a pointer shows


@dataclasses.dataclass(frozen=True)
class Curve:
  """What a setting did.

  Attributes:
    group: its place among the comparison's.
    steps: `[n]`.
    mean: `[n]`, over the runs that were there at that step.
    spread: `[n]`, the standard deviation (n - 1); NaN of a single run.
  """

  group: int
  steps: np.ndarray
  mean: np.ndarray
  spread: np.ndarray


@dataclasses.dataclass(frozen=True)
class Chart:
  """A key of the rows, over the steps.

  Attributes:
    title: what is shown.
    key: of the rows.
    curves: of the settings that have it.
    panel: of `ganjax.curves` that it stands in: scale, bounds, a line.
  """

  title: str
  key: str
  curves: list[Curve]
  panel: one_run.Panel


def charts(comparison: Comparison) -> list[Chart]:
  """Returns a chart for each number that rows have: scores, then the others.

  A score has a chart for each ranking: what may not be ranked does not stand
  on one axis.
  """
  groups = comparison.groups
  keys = dict.fromkeys(
    k for run in comparison.runs for r in run.rows for k in r
  )
  points = max(10, min(MAX_POINTS, MAX_ALL // len(groups)))
  everyone = tuple(range(len(groups)))
  scores, others = [], []
  for title, key, panel in _keys(keys):
    if not metrics.better(key):
      others += _charts(comparison, title, key, panel, everyone, points)
      continue
    for i, ranking in enumerate(comparison.rankings):
      many = f", table {i + 1}" * (len(comparison.rankings) > 1)
      places = [groups.index(group) for group in ranking.groups]
      scores += _charts(comparison, title + many, key, panel, places, points)
  return [*scores, *others]


def _charts(
  comparison: Comparison, title, key, panel, places: Sequence[int], points: int
) -> list[Chart]:
  """Returns the chart of a key for some settings, or none without a curve."""
  drawn = []
  for i in places:
    series = [_series(run.rows, key) for run in comparison.groups[i].runs]
    if curve := over_seeds(i, [s for s in series if len(s[0])], points):
      drawn.append(curve)
  # One point is no curve, and stands in the table if it is a score.
  found = any(len(curve.steps) > 1 for curve in drawn)
  return [Chart(title, key, drawn, panel)] if found else []


def _keys(keys: Mapping[str, Any]) -> Iterator[tuple[str, str, one_run.Panel]]:
  """Yields (title, key, panel) of what may be drawn, speed last."""
  start = one_run.PENALTY
  penalties = {k: k[len(start) :] for k in keys if k.startswith(start)}
  known = {"step", "diagnosis", *one_run.LAST.keys}
  for panel in one_run.PANELS:
    known |= {panel.all_key} | panel.keys.keys()
    labels = penalties if panel.title == "Penalties" else panel.keys
    for key in (key for key in labels if key in keys):
      label = labels[key].replace("_", " ")
      title = f"{panel.title}: {label}" if len(labels) > 1 else panel.title
      yield title, key, panel
  for key in keys:
    if key not in known and key not in penalties:
      title = key.replace("_", " ")
      yield title, key, one_run.Panel(title, {key: ""})
  for key in one_run.LAST.keys:
    yield one_run.LAST.title, key, one_run.LAST


def _series(rows, key: str) -> tuple[np.ndarray, np.ndarray]:
  """Returns steps and values `[n]`, where they are finite numbers."""
  found = {}  # A step that a file has twice counts once.
  for row in rows:
    value = row.get(key)
    if isinstance(value, (int, float)) and math.isfinite(value):
      found[row["step"]] = value
  steps = sorted(found)
  return np.array(steps, float), np.array([found[s] for s in steps], float)


def over_seeds(
  group: int, series: Sequence[tuple[np.ndarray, np.ndarray]], points: int
) -> Curve | None:
  """Returns mean and spread of some runs, or None without any.

  A run counts between its first and last step. Between two of its own it is
  taken as straight, where others logged at other steps. Of many steps several
  neighbours make one point, each run by its mean first.

  Args:
    group: the place of the setting.
    series: (steps, values) of each run, neither of them empty.
    points: at most so many.
  """
  if not series:
    return None
  steps = np.unique(np.concatenate([s for s, _ in series]))
  values = np.stack(
    [np.interp(steps, s, v, left=np.nan, right=np.nan) for s, v in series]
  )
  blocks = np.array_split(np.arange(len(steps)), min(points, len(steps)))
  values = np.stack([_mean(values[:, b]) for b in blocks], axis=1)
  steps = np.array([steps[b].mean() for b in blocks])
  counts = np.isfinite(values).sum(0)
  mean = _mean(values.T)
  squares = np.nansum(np.square(values - mean[None]), 0)
  spread = np.sqrt(squares / np.where(counts > 1, counts - 1, np.nan))
  return Curve(group, steps, mean, spread)


def _mean(values: np.ndarray) -> np.ndarray:
  """Returns the means of the rows of `[n, m]`, of what is there."""
  counts = np.isfinite(values).sum(1)
  return np.nansum(values, 1) / np.where(counts, counts, np.nan)


def numbers(chart: Chart) -> list[dict[str, Any]]:
  """Returns the curves of a chart as JSON can hold them."""
  return [
    dict(
      group=curve.group,
      steps=[round(float(s), 1) for s in curve.steps],
      mean=[_short(v) for v in curve.mean],
      spread=[_short(v) for v in curve.spread],
    )
    for curve in chart.curves
  ]


def _short(value: float) -> float | None:
  return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
