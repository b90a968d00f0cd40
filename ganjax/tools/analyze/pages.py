"""Pages of images: blocks of them side by side, with words around."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ganjax.runs import plots

# In pixels: the room above blocks, the gap between them, the height of a line
# of their titles, and about how wide a letter is.
TOP = 38
GAP = 26
LINE = 22
LETTER = 8.6
SMALL = 8  # points: the size of the letters


class Block(NamedTuple):
  """Images that stand together.

  Attributes:
    title: stands above the images.
    images: uint8 `[N, H, W, C]`.
    columns: how many images stand side by side.
    left: a text for each row, at its left.
    right: a text for each row, at its right.
  """

  title: str
  images: np.ndarray
  columns: int
  left: Sequence[str] = ()
  right: Sequence[str] = ()


def blocks(parts: Sequence[Block], beside: int = 0):
  """Returns a page with blocks side by side, and their width.

  Images are enlarged as in `plots.grid`; those larger than one of its tiles
  are reduced, since there are many.

  Args:
    parts: the blocks, from left to right.
    beside: how many pixels stay free at their right.

  Returns:
    A page of `plots.figure`, and how many pixels wide the blocks are.
  """
  grids = [plots.grid(reduced(part.images), part.columns) for part in parts]
  rooms = [
    _room(part, image.shape[1])
    for part, image in zip(parts, grids, strict=True)
  ]
  top = TOP + LINE * max(part.title.count("\n") for part in parts)
  width = sum(map(sum, rooms)) + sum(image.shape[1] for image in grids)
  width += GAP * (len(parts) - 1)
  page = plots.figure(width + beside, top + max(map(len, grids)))
  x = 0
  for part, image, (left, right) in zip(parts, grids, rooms, strict=True):
    x += left
    end = x + image.shape[1]
    plots.place(page, image, x, top)
    write(page, (x + end) / 2, top - 8, part.title, ha="center", va="bottom")
    rows = -(-len(part.images) // part.columns)
    pitch = (len(image) - plots.GAP) / rows  # of rows, in pixels
    for texts, edge, ha in (
      (part.left, x - 8, "right"),
      (part.right, end + 8, "left"),
    ):
      for i, text in enumerate(texts):
        y = top + plots.GAP / 2 + (i + 0.5) * pitch
        write(page, edge, y, text, ha=ha, va="center")
    x = end + right + GAP
  return page, width


def write(page, x: float, y: float, text: str, **place: Any) -> None:
  """Writes at (x, y), in pixels from the upper left corner of a page."""
  width, height = page.get_size_inches() * plots.DPI
  place = {"fontsize": SMALL, **place}
  page.text(x / width, 1 - y / height, text, **place)


def axes_at(page, left: float, top: float, width: float, height: float):
  """Returns axes that fill a box, in pixels from the upper left corner."""
  full_width, full_height = page.get_size_inches() * plots.DPI
  box = (
    left / full_width,
    1 - (top + height) / full_height,
    width / full_width,
    height / full_height,
  )
  return page.add_axes(box)


def legend(axes, **where: Any) -> None:
  """Explains the lines in the style of all figures."""
  axes.legend(frameon=False, fontsize=7, handlelength=1.6, **where)


def reduced(images: np.ndarray) -> np.ndarray:
  """Returns uint8 `[N, H, W, C]` no larger than about two tiles of a grid.

  By a whole factor: each pixel is the mean of a square of them.
  """
  factor = max(images.shape[1:3]) // plots.TILE
  if factor < 2:
    return images
  num, height, width, channels = images.shape
  height, width = height // factor, width // factor
  images = images[:, : height * factor, : width * factor]
  shape = (num, height, factor, width, factor, channels)
  return images.reshape(shape).mean(axis=(2, 4)).round().astype(np.uint8)


def scatter(axes, points: np.ndarray, colour: str, **look: Any) -> None:
  """Scatters points `[N, 2]` within the limits of all pictures of them."""
  look = {"s": 3, "linewidths": 0, "alpha": 0.5, **look}
  axes.scatter(*points.T, color=colour, **look)
  limits = (-plots.LIMIT, plots.LIMIT)
  axes.set(xlim=limits, ylim=limits, aspect="equal")
  axes.set(xticks=[-1, 0, 1], yticks=[-1, 0, 1])


def _room(part: Block, width: int) -> tuple[int, int]:
  """Returns how many pixels the words of a block take left and right of it."""
  # A title is centred above the images: what is wider stands out at both sides.
  rooms = []
  title = LETTER * max(map(len, part.title.split("\n")))
  for texts in (part.left, part.right):
    longest = max(map(len, texts), default=0)
    room = LETTER * longest + 16 if longest else 0
    rooms.append(math.ceil(max(room, (title - width) / 2, 0)))
  return rooms[0], rooms[1]
