"""Pictures of samples, and what all figures share; each is a small PNG.

Images are uint8 `[N, H, W, C]` with C of 1 or 3; points are float `[N, 2]`.
"""

from __future__ import annotations

import io
import math
import pathlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ganjax import files

if TYPE_CHECKING:  # Else they would be imported with every run.
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure
  from PIL import Image

TILE = 64  # pixels: an image is enlarged as often as it fits into this
GAP = 3
GAP_COLOUR = 170  # White strokes must not run into each other.
MAX_BYTES = 300_000
LIMIT = 1.2  # of both axes of a scatter: the toy sets lie within [-1, 1]
MAX_POINTS = 2000
DPI = 144

# Okabe and Ito 2008: told apart by colour-blind readers too.
BLUE = "#0072B2"
ORANGE = "#D55E00"
GREEN = "#009E73"
GREY = "#777777"
# Of D and G, of the real and the fake: what comes in pairs.
COLOURS = (BLUE, ORANGE)

# pixels of a scatter with its title and ticks
SCATTER_WIDTH = 360
SCATTER_HEIGHT = 380
TITLE_HEIGHT = 30  # pixels above a grid
GRID_GAP = 24  # pixels between two grids
STEP_WIDTH = 100  # pixels left of the rows of `over_time`
STEP_TOP = 4  # pixels above them


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
    panels = [(f"Step {step:,}", points) for step, points in times]
    _scatters(path, panels, columns=min(4, count))
    return
  columns = min(columns, len(times[0][1]))
  image = grid(np.concatenate([x[:columns] for _, x in times]), columns)
  width = image.shape[1] + STEP_WIDTH
  height = image.shape[0] + STEP_TOP
  page = figure(width, height)
  place(page, image, left=STEP_WIDTH, top=STEP_TOP)
  pitch = (image.shape[0] - GAP) / len(times)
  for i, (step, _) in enumerate(times):
    # Beside the middle of its row, from the top; a page counts from below.
    middle = STEP_TOP + GAP / 2 + (i + 0.5) * pitch
    page.text(
      (STEP_WIDTH - 8) / width,
      1 - middle / height,
      f"Step {step:,}" if i == 0 else f"{step:,}",
      ha="right",
      va="center",
    )
  save(path, page)


def grid(images: np.ndarray, columns: int) -> np.ndarray:
  """Tiles images row by row, enlarged by a whole factor.

  Args:
    images: uint8 `[N, H, W, C]`.
    columns: how many side by side.

  Returns:
    uint8 `[h, w, C]`.
  """
  images = np.asarray(images)
  # Pixels are repeated, not interpolated: what is seen is what was made.
  factor = max(1, TILE // max(images.shape[1:3]))
  images = images.repeat(factor, axis=1).repeat(factor, axis=2)
  num, height, width, channels = images.shape
  rows = -(-num // columns)
  canvas = np.full(
    (
      rows * (height + GAP) + GAP,
      columns * (width + GAP) + GAP,
      channels,
    ),
    255,
    np.uint8,
  )
  for i, image in enumerate(images):
    top = i // columns * (height + GAP) + GAP
    left = i % columns * (width + GAP) + GAP
    bottom = top + height
    right = left + width
    # A frame around each image, so that places without one stay white.
    canvas[top - GAP : bottom + GAP, left - GAP : right + GAP] = GAP_COLOUR
    canvas[top:bottom, left:right] = image
  return canvas


def figure(width: int, height: int) -> Figure:
  """Returns a white figure of so many pixels, outside pyplot's registry."""
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  page = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
  FigureCanvasAgg(page)  # It becomes the canvas of the page.
  return page


def style(axes: Axes, title: str) -> None:
  """Gives axes the look that all of ganjax's have, and a title."""
  axes.set_title(title, fontsize=9, loc="left")
  axes.tick_params(labelsize=7, width=0.6, length=3)
  axes.grid(color="#e8e8e8", linewidth=0.6)
  axes.set_axisbelow(True)
  for side, spine in axes.spines.items():
    spine.set(visible=side in ("left", "bottom"), linewidth=0.6)


def place(page: Figure, image: np.ndarray, left: int, top: int) -> None:
  """Draws uint8 `[h, w, C]` pixel by pixel, at (left, top) of a page."""
  width, height = page.get_size_inches() * DPI
  h, w = image.shape[:2]
  axes = page.add_axes(
    (left / width, 1 - (top + h) / height, w / width, h / height)
  )
  axes.imshow(image.repeat(3, axis=2) if image.shape[2] == 1 else image)
  axes.set_axis_off()


def save(path: str | pathlib.Path, page: Figure, flat: bool = False) -> None:
  """Writes a page of `figure`, as `save_png` does."""
  canvas = page.canvas
  canvas.draw()
  pixels = canvas.buffer_rgba()  # pyright: ignore[reportAttributeAccessIssue]
  save_png(path, np.asarray(pixels)[..., :3], flat)


def save_png(
  path: str | pathlib.Path, image: np.ndarray, flat: bool = False
) -> None:
  """Writes uint8 `[h, w, C]`, at once and complete, in under 300 kB.

  A picture that would be larger loses levels of each channel first, down to
  32, and then pixels.

  Args:
    path: of the PNG.
    image: the picture.
    flat: whether it is of lines and text. It gets 255 colours instead of fewer
      levels, since it has hardly more.
  """
  from PIL import Image

  full = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
  for scale in 0.8 ** np.arange(20):
    shape = [max(1, round(scale * side)) for side in full.size]
    small = full.resize(shape, Image.Resampling.LANCZOS)
    for picture in _versions(small, flat):
      content = io.BytesIO()
      picture.save(content, "PNG")
      if content.tell() < MAX_BYTES:
        files.write_bytes(path, content.getvalue())
        return


def _versions(picture: Image.Image, flat: bool) -> Iterator[Image.Image]:
  """Yields a picture and what it is with less in it, the best first."""
  from PIL import Image

  yield picture
  if flat:
    yield picture.quantize(255, dither=Image.Dither.NONE)
    return
  for step in (4, 8):
    # 64 levels, then 32, from 0 to 255: black and white stay what they are.
    levels = np.asarray(picture) // step * (255 / (255 // step))
    yield Image.fromarray(levels.round().astype(np.uint8))


def _panels(
  path: str | pathlib.Path, panels: Sequence[tuple[str, np.ndarray]]
) -> None:
  """Draws (title, images or points) side by side, as grids or scatters."""
  if np.ndim(panels[0][1]) == 2:
    _scatters(path, panels, columns=min(2, len(panels)))
    return
  grids = [grid(x, math.ceil(math.sqrt(len(x)))) for _, x in panels]
  if len(grids) == 1 and not panels[0][0]:
    save_png(path, grids[0])
    return
  width = sum(image.shape[1] + GRID_GAP for image in grids) - GRID_GAP
  height = max(len(image) for image in grids) + TITLE_HEIGHT
  page = figure(width, height)
  left = 0
  for (title, _), image in zip(panels, grids, strict=True):
    place(page, image, left=left, top=TITLE_HEIGHT)
    page.text(
      (left + image.shape[1] / 2) / width,
      1 - TITLE_HEIGHT / 2 / height,
      title,
      ha="center",
      va="center",
      fontsize=10,
    )
    left += image.shape[1] + GRID_GAP
  save(path, page)


def _scatters(
  path: str | pathlib.Path,
  panels: Sequence[tuple[str, np.ndarray]],
  columns: int,
) -> None:
  """Draws (title, points) as scatters with the same axes, in `columns`."""
  rows = -(-len(panels) // columns)
  page = figure(columns * SCATTER_WIDTH, rows * SCATTER_HEIGHT)
  for i, (title, points) in enumerate(panels):
    axes = page.add_subplot(rows, columns, i + 1)
    style(axes, title)
    points = np.asarray(points)[:MAX_POINTS]
    axes.scatter(*points.T, s=3, color=BLUE, alpha=0.5, linewidths=0)
    axes.set(xlim=(-LIMIT, LIMIT), ylim=(-LIMIT, LIMIT), aspect="equal")
    axes.set(xticks=[-1, 0, 1], yticks=[-1, 0, 1])
    # Counted as what is not inside, so that NaN is outside, too.
    outside = len(points) - (np.abs(points) <= LIMIT).all(axis=1).sum()
    if outside:
      text = f"{outside} of {len(points)} outside"
      note = axes.text(-1.15, 1.15, text, fontsize=7, color=ORANGE, va="top")
      note.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1})
  page.tight_layout()
  save(path, page)
