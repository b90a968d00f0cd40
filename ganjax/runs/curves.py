"""The curves of a run: a page of small panels over the steps."""

import dataclasses
import itertools
import math
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from ganjax.runs import plots

# The rows of `metrics.jsonl`.
History: TypeAlias = Sequence[Mapping[str, Any]]

COLUMNS = 3
WIDTH, HEIGHT, LEGEND = 420, 320, 44  # pixels: of a panel, of the last line
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
PENALTY = "penalty_"  # What its keys start with.


@dataclasses.dataclass(frozen=True)
class Panel:
  """What one panel shows.

  Attributes:
    title: above it.
    keys: of a row -> label in the legend.
    bounds: of the axis; None for those of the data.
    log: whether the axis is logarithmic, where the values allow it.
    line: where a dashed line is, and what the legend says of it.
    all_key: of the count that is the most there can be: another such line.
  """

  title: str
  keys: Mapping[str, str]
  bounds: tuple[float, float | None] | None = None
  log: bool = False
  line: tuple[float, str] | None = None
  all_key: str = ""


SHARE, FROM_0 = (-0.03, 1.03), (0.0, None)
HALF = (0.5, "")
# In the order of the page; a panel without values is left out. Then come the
# keys that no panel knows, one by one, and `LAST`.
PANELS = (
  Panel("Loss", {"d_loss": "D", "g_loss": "G"}),
  Panel(
    "Accuracy of D",
    {"d_real_accuracy": "real", "d_fake_accuracy": "fake"},
    SHARE,
    line=HALF,
  ),
  Panel(
    "Mean output of D", {"d_real": "real", "d_fake": "fake"}, SHARE, line=HALF
  ),
  Panel("Logit gap", {"logit_gap": ""}),
  Panel("Gradient norm", {"d_grad_norm": "D", "g_grad_norm": "G"}, log=True),
  Panel(
    "Share of gradient lost", {"d_saturation": "D", "g_saturation": "G"}, SHARE
  ),
  Panel("Top singular value", {"d_sigma_max": "D", "g_sigma_max": "G"}),
  Panel("Penalties", {}, log=True),  # Its keys are those of the history.
  Panel("Augmentation probability", {"augment_p": ""}, SHARE),
  Panel("Spread of samples / real", {"spread": ""}, log=True, line=(1.0, "")),
  Panel("Fréchet distance", {"frechet": ""}, FROM_0),
  Panel(
    "Classes covered", {"classes_covered": "samples"}, FROM_0, all_key="classes"
  ),
  Panel("KL of class shares (nats)", {"class_kl": ""}, FROM_0),
  Panel("Modes covered", {"modes_covered": "samples"}, FROM_0, all_key="modes"),
  Panel("High-quality share", {"high_quality": ""}, SHARE),
  Panel("KL of mode shares (nats)", {"mode_kl": ""}, FROM_0),
)
LAST = Panel("Images / s", {"images_per_sec": ""}, FROM_0)


def draw(
  path: str | pathlib.Path, history: History, log2: bool = False
) -> None:
  """Draws the rows of `metrics.jsonl` over the steps.

  One panel for what belongs together, such as the losses of both players;
  one for each metric that is not known, and the speed last. Where there are
  many rows the raw values are faint behind their running mean. What is
  missing or not a finite number is left out. Where rows have a `diagnosis`,
  a strip above every panel has its colour.

  Args:
    path: of the PNG.
    history: dicts with `step` and any of the metrics.
    log2: whether to mark log 2 among the losses, where those of a
      non-saturating GAN would stand if D could tell nothing.
  """
  plots.save(path, _page(history, log2), flat=True)


def _page(history: History, log2: bool):
  candidates = [(p, _lines(history, p)) for p in _panels(history, log2)]
  drawn = [(panel, lines) for panel, lines in candidates if lines]
  last_step = max((row["step"] for row in history), default=0)
  strips = list(_strips(history))
  columns = min(COLUMNS, max(1, len(drawn)))
  rows = max(1, -(-len(drawn) // columns))
  height = rows * HEIGHT + LEGEND * bool(strips)
  page = plots.figure(columns * WIDTH, height)
  for i, (panel, lines) in enumerate(drawn):
    axes = page.add_subplot(rows, columns, i + 1)
    plots.style(axes, panel.title)
    log = panel.log and _is_log(lines)
    for label, colour, steps, values in lines:
      _line(axes, steps, values, label, colour, log)
    counts = _series(history, panel.all_key)[1]
    marks = [(count, "all") for count in counts[-1:]]
    marks += [panel.line] if panel.line else []
    for value, label in marks:
      axes.axhline(value, color=plots.GREY, lw=0.8, ls="--", label=label)
    if log:
      _log_axis(axes)
    axes.yaxis.set_major_formatter("{x:g}")  # No factor in the title's place.
    if panel.bounds:
      low, high = panel.bounds
      axes.set_ylim(low, high or 1.05 * axes.get_ylim()[1])
    _legend(axes)
    _step_axis(axes, last_step, labelled=i + columns >= len(drawn))
    _strip(axes, strips)
  _explain(page, {name for _, name in strips})
  page.tight_layout(rect=(0, 1 - rows * HEIGHT / height, 1, 1))
  return page


def _panels(history: History, log2: bool) -> Iterator[Panel]:
  """Yields what the page may show, in order."""
  keys = list(dict.fromkeys(key for row in history for key in row))
  penalties = [key for key in keys if key.startswith(PENALTY)]
  known = {"step", *LAST.keys, *penalties}
  for panel in PANELS:
    known |= {*panel.keys, panel.all_key}
    if panel.title == "Penalties":
      labels = {k: k[len(PENALTY) :].replace("_", " ") for k in penalties}
      panel = dataclasses.replace(panel, keys=labels)
    if panel.title == "Loss" and log2:
      panel = dataclasses.replace(panel, line=(math.log(2), "log 2"))
    yield panel
  for key in keys:
    if key not in known:
      yield Panel(key.replace("_", " "), {key: ""})
  yield LAST


def _lines(
  history: History, panel: Panel
) -> list[tuple[str, str, np.ndarray, np.ndarray]]:
  """Returns label, colour, steps and values of what has values at all."""
  pairs = zip(panel.keys.items(), itertools.cycle(COLOURS), strict=False)
  lines = [(label, c, *_series(history, key)) for (key, label), c in pairs]
  return [line for line in lines if len(line[2])]


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


def _line(axes, steps, values, label: str, colour: str, log: bool) -> None:
  """Draws a series; a long one faint, with its running mean above."""
  window = len(values) // 30
  if window < 2:
    line = axes.plot(steps, values, color=colour, lw=1.3, label=label)[0]
    line.set(marker="o" if len(values) < 15 else "", markersize=3)
    return
  axes.plot(steps, values, color=colour, lw=0.6, alpha=0.3)
  # The geometric mean on a logarithmic axis: it lies amid its values there.
  if log:
    values = np.log(np.maximum(values, values[values > 0].min()))
  # Centred, and of fewer values at the ends: no lag, no edge effect.
  kernel = np.ones(2 * window + 1)
  count = np.convolve(np.ones_like(values), kernel, "same")
  mean = np.convolve(values, kernel, "same") / count
  mean = np.exp(mean) if log else mean
  axes.plot(steps, mean, color=colour, lw=1.4, label=label)


def _is_log(lines) -> bool:
  """Says whether a logarithmic axis would hide next to nothing."""
  return all(
    values.min() >= 0 and np.mean(values > 0) > 0.9 for *_, values in lines
  )


def _log_axis(axes) -> None:
  """Makes the axis logarithmic, with readable ticks over any range."""
  from matplotlib import ticker

  axes.set_yscale("log")
  low, high = axes.get_ylim()
  if high < 10 * low:  # At least a decade: a flat curve looks flat.
    middle = math.sqrt(low) * math.sqrt(high)
    low, high = middle / 10**0.5, middle * 10**0.5
    axes.set_ylim(low, high)
  decades = math.log10(high / low)
  subs = (1, 2, 5) if decades < 2 else (1, 3) if decades < 4 else (1,)
  axes.yaxis.set_major_locator(ticker.LogLocator(subs=subs, numticks=7))
  axes.yaxis.set_minor_locator(ticker.NullLocator())


def _step_axis(axes, last_step: int, labelled: bool) -> None:
  """Gives all panels the same steps, so that they can be read together."""
  room = 0.03 * max(last_step, 1)
  axes.set_xlim(-room, last_step + room)
  axes.locator_params(axis="x", integer=True, nbins=6)
  unit, name = (1e6, "M") if last_step >= 1e6 else (1e3, "k")
  if last_step >= 1e4:
    text = lambda x, _: f"{x / unit:g}{name}" if x else "0"
    axes.xaxis.set_major_formatter(text)
  if labelled:
    axes.set_xlabel("Step", fontsize=8)


def _legend(axes) -> None:
  """Explains the lines beside the title, where no curve is hidden."""
  labels = axes.get_legend_handles_labels()[1]
  place: dict[str, Any] = {"loc": "lower right", "ncols": 3, "frameon": False}
  place["bbox_to_anchor"] = (1.02, 1.01)
  # In letters; the short line before each label is about four wide.
  room = 38 - len(axes.get_title(loc="left"))
  if sum(len(label) + 4 for label in labels) > room:
    place = {"loc": "best", "edgecolor": "none", "framealpha": 0.6}
  if labels:
    axes.legend(handlelength=1.0, columnspacing=1, fontsize=7, **place)


def _strips(history: History) -> Iterator[tuple[tuple[int, int], str]]:
  """Yields ((from step, to step), diagnosis) where one held.

  A row speaks of the steps since the row before it.
  """
  rows = [row for row in history if isinstance(row.get("diagnosis"), str)]
  start = 0
  for name, group in itertools.groupby(rows, lambda row: row["diagnosis"]):
    *_, last = group
    if name:
      yield (start, last["step"]), name
    start = last["step"]


def _strip(axes, strips) -> None:
  """Draws the diagnoses just above the axes, where they hide no curve."""
  from matplotlib import collections

  lines = [[(start, 1.012), (stop, 1.012)] for (start, stop), _ in strips]
  colours = [DIAGNOSES.get(name, plots.GREY) for _, name in strips]
  where: Any = axes.get_xaxis_transform()
  bars = collections.LineCollection(
    lines, colors=colours, lw=2.2, transform=where, clip_on=False
  )
  bars.set_capstyle("butt")
  axes.add_collection(bars)


def _explain(page, names: set[str]) -> None:
  """Names the colours of the strips once, below all panels."""
  from matplotlib import patches

  found = [name for name in DIAGNOSES if name in names]
  found += sorted(names - DIAGNOSES.keys())
  handles = [
    patches.Patch(color=DIAGNOSES.get(name, plots.GREY), label=name)
    for name in found
  ]
  if handles:
    page.legend(
      handles=handles,
      loc="lower center",
      ncols=len(handles),
      frameon=False,
      fontsize=8,
      handlelength=1.2,
    )
