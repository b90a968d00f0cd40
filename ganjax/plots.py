"""Pictures of a run: sample grids and training curves, each a small PNG.

Images are uint8 `[N, H, W, C]` with C of 1 or 3; points are float `[N, 2]`.
"""

import io
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

TILE = 64  # pixels: an image is enlarged as often as it fits into this
GAP = 3
GAP_COLOUR = 170  # White strokes must not run into each other.
MAX_BYTES = 300_000
LIMIT = 1.2  # of both axes of a scatter: the toy sets lie within [-1, 1]
MAX_POINTS = 2000
DPI = 144

# Okabe and Ito 2008: told apart by colour-blind readers too.
COLOURS = BLUE, ORANGE = "#0072B2", "#D55E00"
GREY = "#777777"
# The panels of `curves` that have their own form: title -> key -> label.
PANELS = {
  "Loss": {"d_loss": "D", "g_loss": "G"},
  "Accuracy of D": {
    "d_real_accuracy": "real",
    "d_fake_accuracy": "fake",
  },
  "Fréchet distance": {"frechet": ""},
  "Classes covered": {"classes_covered": "samples"},
  "KL of class shares (nats)": {"class_kl": ""},
}
FROM_ZERO = {"Fréchet distance", "Classes covered", "Images / s"}


def grid(images: np.ndarray, columns: int) -> np.ndarray:
  """Tiles images row by row, enlarged by a whole factor.

  Args:
    images: uint8 `[N, H, W, C]`.
    columns: how many side by side.

  Returns:
    uint8 `[h, w, C]`.
  """
  images = np.asarray(images)
  factor = max(1, TILE // max(images.shape[1:3]))
  images = images.repeat(factor, axis=1).repeat(factor, axis=2)
  num, height, width, channels = images.shape
  rows = -(-num // columns)
  height, width = height + GAP, width + GAP
  canvas = np.full(
    (rows * height + GAP, columns * width + GAP, channels), 255, np.uint8
  )
  for i, image in enumerate(images):
    y, x = i // columns * height + GAP, i % columns * width + GAP
    canvas[y - GAP : y + height, x - GAP : x + width] = GAP_COLOUR
    canvas[y : y + height - GAP, x : x + width - GAP] = image
  return canvas


def save_png(path: str | pathlib.Path, image: np.ndarray) -> None:
  """Writes uint8 `[h, w, C]`, at once and complete, in under 300 kB.

  A picture that would be larger gets fewer levels a channel, as few as 32,
  and if that does not do, fewer pixels.
  """
  from PIL import Image

  full = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
  for size in 0.8 ** np.arange(20):
    shape = [max(1, round(size * side)) for side in full.size]
    pixels = np.asarray(full.resize(shape, Image.Resampling.LANCZOS))
    for step in (1, 4, 8):
      content = io.BytesIO()
      levels = pixels // step * (255 / (255 // step))
      picture = Image.fromarray(levels.round().astype(np.uint8))
      picture.save(content, "PNG", optimize=True)
      if content.tell() < MAX_BYTES:
        path = pathlib.Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.write_bytes(content.getvalue())
        os.replace(temporary, path)
        return


def samples(
  path: str | pathlib.Path, images: np.ndarray, title: str = ""
) -> None:
  """Draws images as a nearly square grid, or points as a scatter."""
  _panels(path, [(title, images)])


def beside_real(
  path: str | pathlib.Path, fake: np.ndarray, real: np.ndarray
) -> None:
  """Draws samples at the left and as many real ones at the right."""
  _panels(path, [("Samples", fake), ("Real", real[: len(fake)])])


def over_time(
  path: str | pathlib.Path,
  snapshots: Sequence[tuple[int, np.ndarray]],
  max_times: int = 8,
  columns: int = 12,
) -> None:
  """Draws what fixed latents become during training.

  Args:
    path: of the PNG.
    snapshots: (step, images or points) of the same latents, in order. Images
      make one row for a time and one column for a latent; points make one
      scatter for a time.
    max_times: how many times to draw, evenly chosen with the first and last.
    columns: how many latents to draw.
  """
  count = min(max_times, len(snapshots))
  chosen = np.linspace(0, len(snapshots) - 1, count).round().astype(int)
  times = [snapshots[i] for i in chosen]
  if np.ndim(times[0][1]) == 2:
    return _panels(path, [(f"Step {s:,}", x) for s, x in times], columns=4)
  columns = min(columns, len(times[0][1]))
  image = grid(np.concatenate([x[:columns] for _, x in times]), columns)
  height, width = image.shape[:2]
  left, top = 100, 4
  figure = _figure(width + left, height + top)
  _place(figure, image, left, top)
  pitch = (height - GAP) / len(times)
  for i, (step, _) in enumerate(times):
    text = f"Step {step:,}" if i == 0 else f"{step:,}"
    y = 1 - (top + GAP / 2 + (i + 0.5) * pitch) / (height + top)
    figure.text((left - 8) / (width + left), y, text, ha="right", va="center")
  _save(path, figure)


def curves(
  path: str | pathlib.Path,
  history: Sequence[Mapping[str, Any]],
  log2: bool = False,
) -> None:
  """Draws the rows of `metrics.jsonl` over the steps.

  One panel for the losses of both players, one for D's accuracy, one for
  every other metric, and the speed last. Where there are many rows the raw
  values are faint behind their running mean. What is missing or not finite is
  left out.

  Args:
    path: of the PNG.
    history: dicts with `step` and any of the metrics.
    log2: whether to mark log 2 among the losses, where those of a
      non-saturating GAN would stand if D could tell nothing.
  """
  known = set("step classes images_per_sec".split()).union(*PANELS.values())
  others = dict.fromkeys(k for row in history for k in row if k not in known)
  panels = PANELS | {key.replace("_", " "): {key: ""} for key in others}
  panels["Images / s"] = {"images_per_sec": ""}
  series = [
    (title, [(label, *_series(history, key)) for key, label in keys.items()])
    for title, keys in panels.items()
  ]
  drawn = [s for s in series if any(len(steps) for _, steps, _ in s[1])]
  columns = min(3, max(1, len(drawn)))
  rows = max(1, -(-len(drawn) // columns))
  figure = _figure(columns * 420, rows * 320)
  for i, (title, lines) in enumerate(drawn):
    axes = figure.add_subplot(rows, columns, i + 1)
    _style(axes, title)
    for (label, steps, values), colour in zip(lines, COLOURS, strict=False):
      _line(axes, steps, values, label, colour)
    if title == "Loss" and log2:
      axes.axhline(math.log(2), color=GREY, lw=0.8, ls="--", label="log 2")
    if title == "Accuracy of D":
      axes.axhline(0.5, color=GREY, lw=0.8, ls="--")
      axes.set_ylim(-0.03, 1.03)
    if title == "Classes covered":
      for count in set(_series(history, "classes")[1]):
        axes.axhline(count, color=GREY, lw=0.8, ls="--", label="all")
    if title in FROM_ZERO:
      axes.set_ylim(0, 1.05 * axes.get_ylim()[1])
    if axes.get_legend_handles_labels()[1]:
      # Beside the title, where it hides no curve.
      legend = {"loc": "lower right", "bbox_to_anchor": (1.02, 0.97)}
      small = {"handlelength": 1.0, "columnspacing": 1, "fontsize": 7}
      axes.legend(ncols=3, frameon=False, **legend, **small)
    axes.set_xlabel("Step", fontsize=8)
    axes.locator_params(axis="x", integer=True, nbins=7)
  figure.tight_layout()
  _save(path, figure)


def _series(
  history: Sequence[Mapping[str, Any]], key: str
) -> tuple[np.ndarray, np.ndarray]:
  """Returns steps and values `[n]` of the finite values of `key`."""
  pairs = []
  for row in history:
    value = row.get(key)
    # A row as it stands in the file has strings for what is not finite.
    if isinstance(value, (int, float)) and math.isfinite(value):
      pairs.append((row["step"], value))
  steps, values = np.array(pairs, float).reshape(-1, 2).T
  return steps, values


def _line(axes, steps, values, label: str, colour: str) -> None:
  """Draws a series; a long one faint, with its running mean above."""
  window = len(values) // 30
  if window < 2:
    line = axes.plot(steps, values, color=colour, lw=1.3, label=label)[0]
    line.set(marker="o" if len(values) < 15 else "", markersize=3)
    return
  axes.plot(steps, values, color=colour, lw=0.6, alpha=0.3)
  # Centred, and of fewer values at the ends: no lag, no edge effect.
  kernel = np.ones(2 * window + 1)
  count = np.convolve(np.ones_like(values), kernel, "same")
  mean = np.convolve(values, kernel, "same") / count
  axes.plot(steps, mean, color=colour, lw=1.4, label=label)


def _panels(
  path: str | pathlib.Path,
  panels: Sequence[tuple[str, np.ndarray]],
  columns: int = 2,
) -> None:
  """Draws titled grids side by side, or titled scatters in `columns`."""
  if np.ndim(panels[0][1]) == 2:
    return _scatters(path, panels, min(columns, len(panels)))
  grids = [grid(x, math.ceil(math.sqrt(len(x)))) for _, x in panels]
  if len(grids) == 1 and not panels[0][0]:
    return save_png(path, grids[0])
  top, gap = 30, 24
  width = sum(image.shape[1] + gap for image in grids) - gap
  height = max(len(image) for image in grids) + top
  figure, left = _figure(width, height), 0
  for (title, _), image in zip(panels, grids, strict=True):
    _place(figure, image, left, top)
    x, y = (left + image.shape[1] / 2) / width, 1 - top / 2 / height
    figure.text(x, y, title, ha="center", va="center", fontsize=10)
    left += image.shape[1] + gap
  _save(path, figure)


def _scatters(path, panels, columns: int) -> None:
  rows = -(-len(panels) // columns)
  figure = _figure(columns * 360, rows * 380)
  for i, (title, points) in enumerate(panels):
    axes = figure.add_subplot(rows, columns, i + 1)
    _style(axes, title)
    points = np.asarray(points)[:MAX_POINTS]
    axes.scatter(*points.T, s=3, color=BLUE, alpha=0.5, linewidths=0)
    axes.set(xlim=(-LIMIT, LIMIT), ylim=(-LIMIT, LIMIT), aspect="equal")
    axes.set(xticks=[-1, 0, 1], yticks=[-1, 0, 1])
    outside = len(points) - (np.abs(points) <= LIMIT).all(axis=1).sum()
    if outside:
      text = f"{outside} of {len(points)} outside"
      note = axes.text(-1.15, 1.15, text, fontsize=7, color=ORANGE, va="top")
      note.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1})
  figure.tight_layout()
  _save(path, figure)


def _figure(width: int, height: int):
  """Returns a white figure of so many pixels, outside pyplot's registry."""
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
  FigureCanvasAgg(figure)
  return figure


def _place(figure, image: np.ndarray, left: int, top: int) -> None:
  """Draws uint8 `[h, w, C]` pixel by pixel, at (left, top) of the figure."""
  width, height = figure.get_size_inches() * DPI
  h, w = image.shape[:2]
  box = (left / width, 1 - (top + h) / height, w / width, h / height)
  axes = figure.add_axes(box)
  axes.imshow(image.repeat(3, axis=2) if image.shape[2] == 1 else image)
  axes.set_axis_off()


def _style(axes, title: str) -> None:
  axes.set_title(title, fontsize=9, loc="left")
  axes.tick_params(labelsize=7, width=0.6, length=3)
  axes.grid(color="#e8e8e8", linewidth=0.6)
  axes.set_axisbelow(True)
  for side, spine in axes.spines.items():
    spine.set(visible=side in ("left", "bottom"), linewidth=0.6)


def _save(path: str | pathlib.Path, figure) -> None:
  figure.canvas.draw()
  save_png(path, np.asarray(figure.canvas.buffer_rgba())[..., :3])
