"""The curves of a run: a page of small panels over the steps."""

from __future__ import annotations

import dataclasses
import itertools
import math
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from ganjax.runs import plots

if TYPE_CHECKING:  # Else matplotlib would be imported, which takes a second.
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

# The rows of `metrics.jsonl`.
History: TypeAlias = Sequence[Mapping[str, Any]]

COLUMNS = 3
WIDTH = 420  # pixels of a panel
HEIGHT = 320
LEGEND = 44  # pixels: the height of the last line, if there is one
# Okabe and Ito 2008, as far as they can be told apart as thin lines.
COLOURS = (*plots.COLOURS, "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
# Of the strips. Black is no line's colour, and no state is worse.
DIAGNOSES = {
  "equilibrium": "#009E73",
  "discriminator saturated": "#E69F00",
  "generator collapsed": "#CC79A7",
  "diverged": "#D55E00",
  "not finite": "#000000",
}
# What the keys of penalties start with.
PENALTY = "penalty_"
# A series of so many rows is shown by its running mean over a thirtieth of
# them to either side; a shorter one is smooth enough.
MIN_SMOOTHED = 60
MEANS = 30
# Up to so many rows, each is marked by a point.
MAX_POINTS = 14


@dataclasses.dataclass(frozen=True)
class Panel:
  """What one panel shows.

  Attributes:
    title: above it.
    keys: key of a row -> label in the legend.
    bounds: lowest and highest value of the axis, where a highest of None is
      that of the data; None where both are.
    log: whether the axis is logarithmic, where the values allow it.
    line: where a dashed line is, and what the legend says of it.
    all_key: key of the largest number that there can be, as of classes:
      another dashed line.
  """

  title: str
  keys: Mapping[str, str]
  bounds: tuple[float, float | None] | None = None
  log: bool = False
  line: tuple[float, str] | None = None
  all_key: str = ""


class Span(NamedTuple):
  """The steps over which a diagnosis held.

  Attributes:
    diagnosis: as the log named it.
    start: the last step before.
    stop: the last step of them.
  """

  diagnosis: str
  start: int
  stop: int


class _Line(NamedTuple):
  """A series in a panel.

  Attributes:
    label: in the legend.
    colour: of the line.
    steps: `[n]`.
    values: `[n]`, all finite.
  """

  label: str
  colour: str
  steps: np.ndarray
  values: np.ndarray


SHARE = (-0.03, 1.03)  # A line at 0 or 1 does not lie on the frame.
FROM_0 = (0.0, None)
HALF = (0.5, "")
# In the order of the page; a panel without values is left out. Then come the
# keys that no panel knows, one by one, and `LAST`.
PANELS = (
  Panel("Loss", {"d_loss": "D", "g_loss": "G"}),
  Panel(
    "Accuracy of D",
    {"d_real_accuracy": "real", "d_fake_accuracy": "fake"},
    bounds=SHARE,
    line=HALF,
  ),
  Panel(
    "Mean output of D",
    {"d_real": "real", "d_fake": "fake"},
    bounds=SHARE,
    line=HALF,
  ),
  Panel("Logit gap", {"logit_gap": ""}),
  Panel("Gradient norm", {"d_grad_norm": "D", "g_grad_norm": "G"}, log=True),
  Panel(
    "Share of gradient lost",
    {"d_saturation": "D", "g_saturation": "G"},
    bounds=SHARE,
  ),
  Panel("Top singular value", {"d_sigma_max": "D", "g_sigma_max": "G"}),
  Panel("Penalties", {}, log=True),  # Its keys are those of the history.
  Panel("Augmentation probability", {"augment_p": ""}, bounds=SHARE),
  Panel("Spread of samples / real", {"spread": ""}, log=True, line=(1.0, "")),
  Panel("Fréchet distance", {"frechet": ""}, bounds=FROM_0),
  Panel(
    "Classes covered",
    {"classes_covered": "samples"},
    bounds=FROM_0,
    all_key="classes",
  ),
  Panel("KL of class shares (nats)", {"class_kl": ""}, bounds=FROM_0),
  Panel(
    "Modes covered",
    {"modes_covered": "samples"},
    bounds=FROM_0,
    all_key="modes",
  ),
  Panel("High-quality share", {"high_quality": ""}, bounds=SHARE),
  Panel("KL of mode shares (nats)", {"mode_kl": ""}, bounds=FROM_0),
)
LAST = Panel("Images / s", {"images_per_sec": ""}, bounds=FROM_0)


def draw(
  path: str | pathlib.Path, history: History, log2: bool = False
) -> None:
  """Draws the rows of `metrics.jsonl` over the steps.

  One panel shows what belongs together, such as the losses of both players.
  Each metric that no panel knows has one of its own, and the speed stands
  last. Where there are many rows, raw values are faint behind their running
  mean. A value that is missing or not a finite number is left out. Where rows
  have a `diagnosis`, a strip above every panel has its colour.

  Args:
    path: of the PNG.
    history: dicts with `step` and any of the metrics.
    log2: whether to mark log 2 among the losses, where those of a
      non-saturating GAN would stand if D could tell nothing.
  """
  plots.save(path, _page(history, log2), flat=True)


def spans(history: History) -> list[Span]:
  """Returns the diagnoses of a run, each with the steps over which it held.

  A row speaks of the steps since the row before it. Rows without a diagnosis,
  such as those of scores alone, say nothing; one that is "" says that there
  was nothing to name.

  Args:
    history: dicts with `step`, and some with `diagnosis`.
  """
  speaking = [row for row in history if isinstance(row.get("diagnosis"), str)]
  found = []
  start = 0
  for name, rows in itertools.groupby(speaking, lambda row: row["diagnosis"]):
    stop = max(row["step"] for row in rows)
    if name:
      found.append(Span(name, start, stop))
    start = stop
  return found


def _page(history: History, log2: bool) -> Figure:
  """Returns the page as a figure."""
  drawn = []
  for panel in _panels(history, log2):
    lines = _lines(history, panel)
    if lines:
      drawn.append((panel, lines))
  last_step = max((row["step"] for row in history), default=0)
  strips = spans(history)
  columns = min(COLUMNS, max(1, len(drawn)))
  rows = max(1, -(-len(drawn) // columns))
  height = rows * HEIGHT + (LEGEND if strips else 0)
  page = plots.figure(columns * WIDTH, height)
  for i, (panel, lines) in enumerate(drawn):
    axes = page.add_subplot(rows, columns, i + 1)
    _draw_panel(axes, panel, lines, _series(history, panel.all_key)[1])
    _step_axis(axes, last_step, labelled=i + columns >= len(drawn))
    _draw_strip(axes, strips)
  _explain(page, {strip.diagnosis for strip in strips})
  page.tight_layout(rect=(0, 1 - rows * HEIGHT / height, 1, 1))
  return page


def _panels(history: History, log2: bool) -> Iterator[Panel]:
  """Yields what the page may show, in order."""
  # Each key once, in the order of the rows.
  keys = list(dict.fromkeys(key for row in history for key in row))
  penalties = [key for key in keys if key.startswith(PENALTY)]
  known = {"step", *LAST.keys, *penalties}
  for panel in PANELS:
    known.update(panel.keys, [panel.all_key])
    if panel.title == "Penalties":
      labels = {
        key: key.removeprefix(PENALTY).replace("_", " ") for key in penalties
      }
      panel = dataclasses.replace(panel, keys=labels)
    if panel.title == "Loss" and log2:
      panel = dataclasses.replace(panel, line=(math.log(2), "log 2"))
    yield panel
  for key in keys:
    if key not in known:
      yield Panel(key.replace("_", " "), {key: ""})
  yield LAST


def _lines(history: History, panel: Panel) -> list[_Line]:
  """Returns the series of a panel that have values at all."""
  found = []
  for i, (key, label) in enumerate(panel.keys.items()):
    steps, values = _series(history, key)
    if len(values):
      # By its place in the panel, so that D and G keep their colours.
      colour = COLOURS[i % len(COLOURS)]
      found.append(_Line(label, colour, steps, values))
  return found


def _series(history: History, key: str) -> tuple[np.ndarray, np.ndarray]:
  """Returns steps and values `[n]` of the finite values of `key`."""
  pairs = []
  for row in history:
    value = row.get(key)
    # A row as it stands in the file has strings for what is not finite.
    if isinstance(value, (int, float)) and math.isfinite(value):
      pairs.append((row["step"], value))
  steps, values = np.array(pairs, float).reshape(-1, 2).T
  return steps, values


def _draw_panel(
  axes: Axes, panel: Panel, lines: Sequence[_Line], counts: np.ndarray
) -> None:
  """Draws all of a panel but its steps and its strip.

  Args:
    axes: of the panel.
    panel: what it shows.
    lines: its series, at least one.
    counts: the values of its `all_key`, perhaps none.
  """
  plots.style(axes, panel.title)
  log = panel.log and _may_be_log(lines)
  for line in lines:
    _draw_line(axes, line, log)
  marks = []
  if len(counts):
    marks.append((counts[-1], "all"))
  if panel.line:
    marks.append(panel.line)
  for value, label in marks:
    axes.axhline(value, color=plots.GREY, lw=0.8, ls="--", label=label)
  if log:
    _log_axis(axes)
  axes.yaxis.set_major_formatter("{x:g}")  # No factor in the title's place.
  if panel.bounds:
    low, high = panel.bounds
    if high is None:
      high = 1.05 * axes.get_ylim()[1]
    axes.set_ylim(low, high)
  _legend(axes)


def _draw_line(axes: Axes, line: _Line, log: bool) -> None:
  """Draws a series; a long one faint, with its running mean above."""
  count = len(line.values)
  if count < MIN_SMOOTHED:
    axes.plot(
      line.steps,
      line.values,
      color=line.colour,
      lw=1.3,
      label=line.label,
      marker="o" if count <= MAX_POINTS else "",
      markersize=3,
    )
    return
  axes.plot(line.steps, line.values, color=line.colour, lw=0.6, alpha=0.3)
  mean = _running_mean(line.values, count // MEANS, log)
  axes.plot(line.steps, mean, color=line.colour, lw=1.4, label=line.label)


def _running_mean(values: np.ndarray, window: int, log: bool) -> np.ndarray:
  """Returns the mean of each value and `window` more to either side.

  It is centred, and of fewer values at the ends: no lag and no edge effect.

  Args:
    values: `[n]`.
    window: how many to either side.
    log: whether the mean is geometric. It lies amid its values on a
      logarithmic axis, as the arithmetic one does on a linear axis.
  """
  if log:
    # A zero has no logarithm: it counts as the smallest value above it.
    values = np.log(np.maximum(values, values[values > 0].min()))
  kernel = np.ones(2 * window + 1)
  count = np.convolve(np.ones_like(values), kernel, "same")
  mean = np.convolve(values, kernel, "same") / count
  return np.exp(mean) if log else mean


def _may_be_log(lines: Sequence[_Line]) -> bool:
  """Returns whether a logarithmic axis would hide next to nothing."""
  return all(
    line.values.min() >= 0 and np.mean(line.values > 0) > 0.9 for line in lines
  )


def _log_axis(axes: Axes) -> None:
  """Makes the axis logarithmic, with readable ticks over any range."""
  from matplotlib import ticker

  axes.set_yscale("log")
  low, high = axes.get_ylim()
  if high < 10 * low:  # At least a decade: a flat curve looks flat.
    # Roots first: the product of two tiny numbers would be 0.
    middle = math.sqrt(low) * math.sqrt(high)
    low = middle / 10**0.5
    high = middle * 10**0.5
    axes.set_ylim(low, high)
  decades = math.log10(high / low)
  # Between powers of ten, ticks as dense as there is room.
  if decades < 2:
    multiples = (1, 2, 5)
  elif decades < 4:
    multiples = (1, 3)
  else:
    multiples = (1,)
  axes.yaxis.set_major_locator(ticker.LogLocator(subs=multiples, numticks=7))
  axes.yaxis.set_minor_locator(ticker.NullLocator())


def _step_axis(axes: Axes, last_step: int, labelled: bool) -> None:
  """Gives all panels the same steps, so that they can be read together."""
  room = 0.03 * max(last_step, 1)
  axes.set_xlim(-room, last_step + room)
  axes.locator_params(axis="x", integer=True, nbins=6)
  unit = 1e6 if last_step >= 1e6 else 1e3
  suffix = "M" if last_step >= 1e6 else "k"

  def text_of(step: float, place: float) -> str:
    del place
    return f"{step / unit:g}{suffix}" if step else "0"

  if last_step >= 1e4:
    axes.xaxis.set_major_formatter(text_of)
  if labelled:
    axes.set_xlabel("Step", fontsize=8)


def _legend(axes: Axes) -> None:
  """Explains the lines beside the title, where no curve is hidden."""
  labels = axes.get_legend_handles_labels()[1]
  if not labels:
    return
  place: dict[str, Any] = {
    "loc": "lower right",
    "bbox_to_anchor": (1.02, 1.01),
    "ncols": 3,
    "frameon": False,
  }
  # In letters; the short line before each label is about four wide.
  room = 38 - len(axes.get_title(loc="left"))
  if sum(len(label) + 4 for label in labels) > room:
    place = {"loc": "best", "edgecolor": "none", "framealpha": 0.6}
  axes.legend(handlelength=1.0, columnspacing=1, fontsize=7, **place)


def _draw_strip(axes: Axes, strips: Sequence[Span]) -> None:
  """Draws the diagnoses just above the axes, where they hide no curve."""
  from matplotlib import collections

  height = 1.012  # In units of the axes' height; steps are in data units.
  bars = collections.LineCollection(
    [[(strip.start, height), (strip.stop, height)] for strip in strips],
    colors=[DIAGNOSES.get(strip.diagnosis, plots.GREY) for strip in strips],
    lw=2.2,
    transform=axes.get_xaxis_transform(),  # pyright: ignore
    clip_on=False,
  )
  bars.set_capstyle("butt")
  axes.add_collection(bars)


def _explain(page: Figure, names: set[str]) -> None:
  """Names the colours of the strips once, below all panels."""
  from matplotlib import patches

  if not names:
    return
  # In the order of the table, then what it does not know.
  found = [name for name in DIAGNOSES if name in names]
  found += sorted(names - DIAGNOSES.keys())
  page.legend(
    handles=[
      patches.Patch(color=DIAGNOSES.get(name, plots.GREY), label=name)
      for name in found
    ],
    loc="lower center",
    ncols=len(found),
    frameon=False,
    fontsize=8,
    handlelength=1.2,
  )
