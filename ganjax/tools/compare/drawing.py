"""Charts as SVG: lines above bands, in the colours of the page."""

import html
import itertools
import math
from collections.abc import Sequence

import numpy as np

from ganjax.tools.compare.curves import Chart, Curve

# Units of the drawing: of the chart and of the plot's edges in it.
WIDTH, HEIGHT = 400, 230
LEFT, RIGHT, TOP, BOTTOM = 46, 382, 8, 206
ROOM = 0.5  # A band may widen the axis by so much of the means' range.


def svg(chart: Chart, names: Sequence[str], last_step: float) -> str:
  """Returns the drawing of a chart.

  Args:
    chart: to be drawn.
    names: of the settings.
    last_step: where the axis ends.
  """
  low, high, log = _scale(chart)
  to_y = lambda v: _place(v, low, high, log, BOTTOM, TOP)
  to_x = lambda s: _place(s, 0, last_step, False, LEFT, RIGHT)
  parts = [
    f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
    f'aria-label="{html.escape(_described(chart, names))}">'
  ]
  for tick in _ticks(low, high, log):
    y = to_y(tick)
    parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{RIGHT}"/>')
    text = f'x="{LEFT - 5}" y="{y + 3.5:.1f}" text-anchor="end"'
    parts.append(f"<text {text}>{_tick(tick)}</text>")
  for tick in _ticks(0, last_step, False):
    text = f'x="{to_x(tick):.1f}" y="{BOTTOM + 15}" text-anchor="middle"'
    parts.append(f"<text {text}>{_tick(tick)}</text>")
  if chart.panel.line and low <= chart.panel.line[0] <= high:
    y = to_y(chart.panel.line[0])
    parts.append(f'<path class="mark" d="M{LEFT} {y:.1f}H{RIGHT}"/>')
  parts += [_drawn(curve, to_x, to_y) for curve in chart.curves]
  parts.append(f'<path class="axis" d="M{LEFT} {TOP}V{BOTTOM}H{RIGHT}"/>')
  parts.append(f'<path class="cursor" d="M{LEFT} {TOP}V{BOTTOM}"/></svg>')
  return "".join(parts)


def _drawn(curve: Curve, to_x, to_y) -> str:
  """Returns a curve above its band."""
  points = zip(curve.steps, curve.mean, curve.spread, strict=True)
  upper, lower, line = [], [], []
  for step, mean, spread in points:
    x = f"{to_x(step):.1f}"
    line.append(f"{x} {to_y(mean):.1f}")
    if math.isfinite(spread):
      upper.append(f"{x} {to_y(mean + spread):.1f}")
      lower.append(f"{x} {to_y(mean - spread):.1f}")
  parts = [f'<g class="g{curve.group} of c{curve.group % 8}">']
  if len(upper) > 1:
    parts.append(f'<path class="band" d="M{"L".join(upper + lower[::-1])}Z"/>')
  dash = f" d{curve.group // 8 % 4}"
  parts.append(f'<path class="line{dash}" d="M{"L".join(line)}"/>')
  if len(line) < 15:
    dots = (p.split() for p in line)
    parts += [f'<circle cx="{x}" cy="{y}" r="2"/>' for x, y in dots]
  return "".join(parts) + "</g>"


def _scale(chart: Chart) -> tuple[float, float, bool]:
  """Returns the ends of the axis, and whether it is logarithmic."""
  means = np.concatenate([curve.mean for curve in chart.curves])
  spreads = np.concatenate([curve.spread for curve in chart.curves])
  log = chart.panel.log and means.min() > 0
  low, high = _inner(means)
  if log:
    if high < 10 * low:  # At least a decade: a flat curve looks flat.
      middle = math.sqrt(low) * math.sqrt(high)
      low, high = middle / 10**0.5, middle * 10**0.5
    return low / 1.1, high * 1.1, True
  room = ROOM * (high - low)
  bands = np.nan_to_num(spreads)
  low = max(float((means - bands).min()), low - room)
  high = min(float((means + bands).max()), high + room)
  if chart.panel.bounds:
    low, top = chart.panel.bounds
    high = high if top is None else top
  margin = 0.04 * (high - low) or 0.04 * max(abs(high), 1e-6)
  return (low if chart.panel.bounds else low - margin), high + margin, False


def _inner(means: np.ndarray) -> tuple[float, float]:
  """Returns the ends of all means but for single ones that stand far out."""
  low, high = (float(q) for q in np.quantile(means, (0.02, 0.98)))
  reach = 2 * (high - low)
  return max(float(means.min()), low - reach), min(
    float(means.max()), high + reach
  )


def _place(
  value: float, low: float, high: float, log: bool, start: int, end: int
) -> float:
  """Returns where a value stands, at the edge if it is outside."""
  if log:
    value, low, high = (math.log(max(v, 1e-300)) for v in (value, low, high))
  share = (value - low) / (high - low) if high > low else 0.5
  return start + (end - start) * min(1.0, max(0.0, share))


def _ticks(low: float, high: float, log: bool) -> list[float]:
  """Returns about five round numbers between two."""
  if log:
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)))
    stride = -(-len(exponents) // 5)
    subs = (1, 3) if len(exponents) <= 2 else (1,)
    found = [s * 10.0**e for e in exponents[::stride] for s in subs]
    found.append(10.0**exponents.stop)
    return [t for t in found if low <= t <= high]
  step = 10 ** math.floor(math.log10(max(high - low, 1e-12) / 5))
  step *= next(f for f in (1, 2, 5, 10) if (high - low) / 5 <= f * step * 1.001)
  first = math.ceil(low / step)
  whole = itertools.takewhile(
    lambda t: t <= high, (n * step for n in itertools.count(first))
  )
  return list(whole)


def _tick(value: float) -> str:
  for size, name in (1e6, "M"), (1e3, "k"):
    if abs(value) >= 10 * 1e3 and abs(value) >= size:
      return f"{value / size:.4g}{name}"
  return f"{0.0 if abs(value) < 1e-12 else value:.4g}"


def _described(chart: Chart, names: Sequence[str]) -> str:
  """Returns what a chart shows, for those who do not see it."""
  ends = [
    f"{names[curve.group]} {curve.mean[-1]:.3g}" for curve in chart.curves
  ]
  return f"{chart.title} over steps; at the end: {'; '.join(ends)}"
