"""Pictures of samples, and what all figures share; each is a small PNG.

Images are uint8 `[N, H, W, C]` with C of 1 or 3; points are float `[N, 2]`.
"""

import io
import math
import pathlib
from collections.abc import Sequence

import numpy as np

from ganjax import files

TILE = 64  # pixels: an image is enlarged as often as it fits into this
GAP = 3
GAP_COLOUR = 170  # White strokes must not run into each other.
MAX_BYTES = 300_000
LIMIT = 1.2  # of both axes of a scatter: the toy sets lie within [-1, 1]
MAX_POINTS = 2000
DPI = 144

# Okabe and Ito 2008: told apart by colour-blind readers too.
COLOURS = BLUE, ORANGE = "#0072B2", "#D55E00"
GREEN = "#009E73"
GREY = "#777777"


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


def save_png(
  path: str | pathlib.Path, image: np.ndarray, flat: bool = False
) -> None:
  """Writes uint8 `[h, w, C]`, at once and complete, in under 300 kB.

  A picture that would be larger gets fewer levels a channel, as few as 32,
  or if it is `flat`, of lines and text, 255 colours; and if that does not do,
  fewer pixels.
  """
  from PIL import Image

  full = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
  for size in 0.8 ** np.arange(20):
    shape = [max(1, round(size * side)) for side in full.size]
    small = full.resize(shape, Image.Resampling.LANCZOS)
    for picture in _versions(small, flat):
      content = io.BytesIO()
      picture.save(content, "PNG")
      if content.tell() < MAX_BYTES:
        files.write_bytes(path, content.getvalue())
        return


def _versions(picture, flat: bool):
  """Yields a picture and what it is with less in it, the best first."""
  from PIL import Image

  yield picture
  if flat:
    yield picture.quantize(255, dither=Image.Dither.NONE)
    return
  for step in (4, 8):
    levels = np.asarray(picture) // step * (255 / (255 // step))
    yield Image.fromarray(levels.round().astype(np.uint8))


def samples(
  path: str | pathlib.Path, images: np.ndarray, title: str = ""
) -> None:
  """Draws images as a nearly square grid, or points as a scatter."""
  _panels(path, [(title, images)])


def beside_real(
  path: str | pathlib.Path,
  fake: np.ndarray,
  real: np.ndarray,
  title: str = "Samples",
) -> None:
  """Draws samples at the left and as many real ones at the right."""
  _panels(path, [(title, fake), ("Real", real[: len(fake)])])


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
  page = figure(width + left, height + top)
  place(page, image, left, top)
  pitch = (height - GAP) / len(times)
  for i, (step, _) in enumerate(times):
    text = f"Step {step:,}" if i == 0 else f"{step:,}"
    y = 1 - (top + GAP / 2 + (i + 0.5) * pitch) / (height + top)
    page.text((left - 8) / (width + left), y, text, ha="right", va="center")
  save(path, page)


def figure(width: int, height: int):
  """Returns a white figure of so many pixels, outside pyplot's registry."""
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  page = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
  FigureCanvasAgg(page)
  return page


def style(axes, title: str) -> None:
  """Gives axes the look that all of ganjax's have, and a title."""
  axes.set_title(title, fontsize=9, loc="left")
  axes.tick_params(labelsize=7, width=0.6, length=3)
  axes.grid(color="#e8e8e8", linewidth=0.6)
  axes.set_axisbelow(True)
  for side, spine in axes.spines.items():
    spine.set(visible=side in ("left", "bottom"), linewidth=0.6)


def save(path: str | pathlib.Path, page, flat: bool = False) -> None:
  """Writes a page of `figure`, as `save_png` does."""
  page.canvas.draw()
  save_png(path, np.asarray(page.canvas.buffer_rgba())[..., :3], flat)


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
  page, left = figure(width, height), 0
  for (title, _), image in zip(panels, grids, strict=True):
    place(page, image, left, top)
    x, y = (left + image.shape[1] / 2) / width, 1 - top / 2 / height
    page.text(x, y, title, ha="center", va="center", fontsize=10)
    left += image.shape[1] + gap
  save(path, page)


def _scatters(path, panels, columns: int) -> None:
  rows = -(-len(panels) // columns)
  page = figure(columns * 360, rows * 380)
  for i, (title, points) in enumerate(panels):
    axes = page.add_subplot(rows, columns, i + 1)
    style(axes, title)
    points = np.asarray(points)[:MAX_POINTS]
    axes.scatter(*points.T, s=3, color=BLUE, alpha=0.5, linewidths=0)
    axes.set(xlim=(-LIMIT, LIMIT), ylim=(-LIMIT, LIMIT), aspect="equal")
    axes.set(xticks=[-1, 0, 1], yticks=[-1, 0, 1])
    outside = len(points) - (np.abs(points) <= LIMIT).all(axis=1).sum()
    if outside:
      text = f"{outside} of {len(points)} outside"
      note = axes.text(-1.15, 1.15, text, fontsize=7, color=ORANGE, va="top")
      note.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1})
  page.tight_layout()
  save(path, page)


def place(page, image: np.ndarray, left: int, top: int) -> None:
  """Draws uint8 `[h, w, C]` pixel by pixel, at (left, top) of a page."""
  width, height = page.get_size_inches() * DPI
  h, w = image.shape[:2]
  box = (left / width, 1 - (top + h) / height, w / width, h / height)
  axes = page.add_axes(box)
  axes.imshow(image.repeat(3, axis=2) if image.shape[2] == 1 else image)
  axes.set_axis_off()
