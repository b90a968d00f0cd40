"""Curves over seeds: mean and standard deviation at each step, as charts."""

import dataclasses
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from ganjax.evaluation import metrics
from ganjax.runs import curves as one_run
from ganjax.tools.compare.groups import Comparison
from ganjax.tools.compare.runs import Row

# A curve has at most so many points, all curves of a chart so many: the page
# holds every number twice over, and a chart is a few hundred pixels wide.
MAX_POINTS = 80
MAX_ALL = 800
DIGITS = 4  # of the numbers that the page holds
# A band of deviations may widen the axis by so much of the range of the means.
ROOM_FOR_BANDS = 0.5
MARGIN = 0.04  # of the axis, above and below what it shows

# Steps and values, `[n]` each.
Series: TypeAlias = tuple[np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Curve:
  """What a setting did.

  Attributes:
    group: the setting's place among the comparison's.
    steps: `[n]`.
    mean: `[n]`, over the runs that were there at that step.
    spread: `[n]`, the standard deviation (n - 1); NaN of a single run.
  """

  group: int
  steps: np.ndarray
  mean: np.ndarray
  spread: np.ndarray


@dataclasses.dataclass(frozen=True)
class Axis:
  """The vertical axis of a chart: its ends, and whether it is logarithmic."""

  low: float
  high: float
  log: bool


@dataclasses.dataclass(frozen=True)
class Chart:
  """One key of the rows, over the steps.

  Attributes:
    title: what is shown.
    key: the key of the rows.
    curves: those of the settings that have the key.
    panel: the panel of a run's own page on which the key stands; it says the
      scale, bounds and a line to mark.
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
  keys = dict.fromkeys(
    key for run in comparison.runs for row in run.rows for key in row
  )
  groups = comparison.groups
  num_points = max(10, min(MAX_POINTS, MAX_ALL // len(groups)))
  scores: list[Chart] = []
  others: list[Chart] = []
  for title, key, panel in _keys(keys):
    if not metrics.better(key):
      curves = _curves(comparison, key, range(len(groups)), num_points)
      others.append(Chart(title, key, curves, panel))
      continue
    for i, ranking in enumerate(comparison.rankings):
      places = [groups.index(group) for group in ranking.groups]
      curves = _curves(comparison, key, places, num_points)
      many = len(comparison.rankings) > 1
      numbered = f"{title}, table {i + 1}" if many else title
      scores.append(Chart(numbered, key, curves, panel))
  return [chart for chart in (*scores, *others) if _is_drawn(chart)]


def _is_drawn(chart: Chart) -> bool:
  # One point is no curve, and stands in the table if it is a score.
  return any(len(curve.steps) > 1 for curve in chart.curves)


def _curves(
  comparison: Comparison, key: str, places: Sequence[int], num_points: int
) -> list[Curve]:
  """Returns the curves of a key, of those of some settings that have it."""
  found = []
  for i in places:
    series = [_series(run.rows, key) for run in comparison.groups[i].runs]
    curve = over_seeds(i, [s for s in series if len(s[0])], num_points)
    if curve is not None:
      found.append(curve)
  return found


def _keys(keys: Collection[str]) -> Iterator[tuple[str, str, one_run.Panel]]:
  """Yields (title, key, panel) of what may be drawn, speed last.

  Args:
    keys: all that rows have, in the order of the rows.
  """
  start = one_run.PENALTY
  penalties = {k: k[len(start) :] for k in keys if k.startswith(start)}
  known = {"step", "diagnosis", *one_run.LAST.keys}
  for panel in one_run.PANELS:
    known.update(panel.keys, [panel.all_key])
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


def _series(rows: Sequence[Row], key: str) -> Series:
  """Returns steps and values `[n]` where the values are finite numbers."""
  found = {}  # A step that a file has twice counts once.
  for row in rows:
    value = row.get(key)
    if isinstance(value, (int, float)) and math.isfinite(value):
      found[row["step"]] = value
  steps = sorted(found)
  return np.array(steps, float), np.array([found[s] for s in steps], float)


def over_seeds(
  group: int, series: Sequence[Series], num_points: int
) -> Curve | None:
  """Returns mean and spread of some runs, or None without any.

  A run counts between its first and last step. Between two of its own steps
  its values are taken as on a straight line, where other runs logged at other
  steps. Of many steps several neighbours make one point. Each run gives its own
  mean over them first: so the spread is that between runs, not that of a noisy
  loss within one.

  Args:
    group: the place of the setting.
    series: (steps, values) of each run, neither of them empty.
    num_points: how many points the curve has at most.
  """
  if not series:
    return None
  steps = np.unique(np.concatenate([s for s, _ in series]))
  values = np.stack(
    [np.interp(steps, s, v, left=np.nan, right=np.nan) for s, v in series]
  )
  blocks = np.array_split(np.arange(len(steps)), min(num_points, len(steps)))
  values = np.stack([_mean(values[:, b]) for b in blocks], axis=1)
  steps = np.array([steps[b].mean() for b in blocks])
  counts = np.isfinite(values).sum(axis=0)
  mean = _mean(values.T)
  # The variance of a sample. Of one run it would be 0 / 0, which says the same
  # as NaN but warns.
  squares = np.nansum(np.square(values - mean[None]), axis=0)
  spread = np.sqrt(squares / np.where(counts > 1, counts - 1, np.nan))
  return Curve(group=group, steps=steps, mean=mean, spread=spread)


def _mean(values: np.ndarray) -> np.ndarray:
  """Returns the mean of the finite numbers in each row of `[n, m]`, `[n]`."""
  counts = np.isfinite(values).sum(axis=1)
  return np.nansum(values, axis=1) / np.where(counts, counts, np.nan)


def axis(chart: Chart) -> Axis:
  """Returns an axis on which the means of all settings can be told apart.

  Neither a wide band nor single points far outside may flatten the curves.
  """
  means = np.concatenate([curve.mean for curve in chart.curves])
  spreads = np.concatenate([curve.spread for curve in chart.curves])
  low, high = _bulk(means)
  if chart.panel.log and means.min() > 0:
    if high < 10 * low:  # At least a decade: a flat curve looks flat.
      middle = math.sqrt(low) * math.sqrt(high)
      low = middle / math.sqrt(10)
      high = middle * math.sqrt(10)
    return Axis(low / 1.1, high * 1.1, log=True)
  if chart.panel.bounds:
    low, top = chart.panel.bounds
    high = _with_bands(means, spreads)[1] if top is None else top
  else:
    low, high = _with_bands(means, spreads)
  # A flat curve has no range: the margin is then of its value.
  margin = MARGIN * (high - low) or MARGIN * max(abs(high), 1e-6)
  if chart.panel.bounds:  # The lower bound is meant exactly, such as 0.
    return Axis(low, high + margin, log=False)
  return Axis(low - margin, high + margin, log=False)


def _with_bands(means: np.ndarray, spreads: np.ndarray) -> tuple[float, float]:
  """Returns the ends of the means' bulk, and of bands that are not too wide."""
  low, high = _bulk(means)
  room = ROOM_FOR_BANDS * (high - low)
  bands = np.nan_to_num(spreads)
  return (
    max(float((means - bands).min()), low - room),
    min(float((means + bands).max()), high + room),
  )


def _bulk(means: np.ndarray) -> tuple[float, float]:
  """Returns the ends of all means, without single ones that stand far out.

  Far is more than twice the range between the 2nd and 98th percentile.
  """
  low = float(np.quantile(means, 0.02))
  high = float(np.quantile(means, 0.98))
  reach = 2 * (high - low)
  return (
    max(float(means.min()), low - reach),
    min(float(means.max()), high + reach),
  )


def describe(chart: Chart, names: Sequence[str]) -> str:
  """Returns in words what a chart shows, for those who do not see it."""
  ends = [
    f"{names[curve.group]} {curve.mean[-1]:.3g}" for curve in chart.curves
  ]
  return f"{chart.title} over steps; at the end: {'; '.join(ends)}"


def plain(chart: Chart) -> dict[str, object]:
  """Returns a chart as JSON can hold it: curves, axis, and a line to mark."""
  ends = axis(chart)
  line = chart.panel.line
  return dict(
    curves=[_plain_curve(curve) for curve in chart.curves],
    range=[ends.low, ends.high],
    log=ends.log,
    mark=line[0] if line and ends.low <= line[0] <= ends.high else None,
  )


def _plain_curve(curve: Curve) -> Mapping[str, object]:
  return dict(
    group=curve.group,
    steps=[round(float(step), 1) for step in curve.steps],
    mean=[_short(value) for value in curve.mean],
    spread=[_short(value) for value in curve.spread],
  )


def _short(value: float) -> float | None:
  """Returns a value with few digits; None, which JSON has, for NaN."""
  return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
