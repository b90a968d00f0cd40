"""Fixed latents over time, one small PNG for each time of a run."""

import base64
import dataclasses
import io
import math
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ganjax.runs import plots
from ganjax.tools.compare.runs import Run


class Form(NamedTuple):
  """How much is shown of a run.

  Attributes:
    times: how many steps.
    count: how many samples at each.
    side: pixels of a sample's longer side.
  """

  times: int
  count: int
  side: int


# The first form whose pictures fit into the page is taken for all runs.
FORMS = (
  Form(times=11, count=36, side=48),
  Form(times=8, count=36, side=40),
  Form(times=6, count=25, side=32),
  Form(times=5, count=16, side=32),
  Form(times=4, count=9, side=32),
  Form(times=2, count=9, side=24),
  Form(times=1, count=4, side=16),
)
GAP = 1  # pixels between samples
GAP_COLOUR = 128
BINS = 96  # along each side of the histogram that points are drawn as


@dataclasses.dataclass(frozen=True)
class Frame:
  """A picture: samples of a run at a step.

  Attributes:
    step: of the run.
    count: how many samples the picture holds.
    size: width and height in pixels.
    address: the PNG as a `data:` address, which a page can hold.
  """

  step: int
  count: int
  size: tuple[int, int]
  address: str


def frames(runs: Sequence[Run], budget: int) -> list[list[Frame]]:
  """Returns the pictures of each run, in all at most `budget` letters.

  Runs without samples have none. If even the smallest form is too large, the
  last runs go without.
  """
  folders = [run.workdir / "samples" for run in runs]
  found: list[list[Frame]] = []
  for form in FORMS:
    # The last picture of each run says what the others are about to take:
    # encoding all of them in each form would take as often the time.
    found = [_of_run(folder, form._replace(times=1)) for folder in folders]
    if form.times * sum(map(_num_letters, found)) > budget:
      continue
    found = [_of_run(folder, form) for folder in folders]
    if sum(map(_num_letters, found)) <= budget:
      return found
  total = 0
  for i, pictures in enumerate(found):
    total += _num_letters(pictures)
    if total > budget:
      found[i] = []
  return found


def _num_letters(pictures: Sequence[Frame]) -> int:
  return sum(len(frame.address) for frame in pictures)


def _of_run(folder: pathlib.Path, form: Form) -> list[Frame]:
  """Returns the pictures of a run, its first and last step among them.

  The one picture of a form with a single time is that of the last step.
  """
  paths = sorted(f for f in folder.glob("*.npy") if f.stem.isdigit())
  picked = np.linspace(0, len(paths) - 1, min(form.times, len(paths)))
  if form.times == 1:
    picked = np.array([len(paths) - 1.0] if paths else [])
  result = []
  for i in picked.round().astype(int):
    step = int(paths[i].stem)
    try:
      images = np.load(paths[i], allow_pickle=False)
    except (OSError, ValueError, EOFError):  # Torn by a crash.
      continue
    if images.ndim == 2 and images.shape[1] == 2:
      result.append(_frame(step, len(images), histogram(images)))
    elif images.ndim == 4 and images.dtype == np.uint8 and len(images):
      some = images[: form.count]
      result.append(_frame(step, len(some), tiles(some, form.side)))
  return result


def tiles(images: np.ndarray, side: int) -> np.ndarray:
  """Returns uint8 `[N, H, W, C]` as one image, each at most `side` wide."""
  images = _reduced(images, side)
  num, height, width, channels = images.shape
  columns = math.ceil(math.sqrt(num))
  rows = -(-num // columns)
  shape = (rows * (height + GAP) + GAP, columns * (width + GAP) + GAP, channels)
  canvas = np.full(shape, GAP_COLOUR, np.uint8)
  for i, image in enumerate(images):
    row, column = divmod(i, columns)
    y = row * (height + GAP) + GAP
    x = column * (width + GAP) + GAP
    canvas[y : y + height, x : x + width] = image
  return canvas


def _reduced(images: np.ndarray, side: int) -> np.ndarray:
  """Returns `[N, H, W, C]` whose longer side is at most `side`."""
  from PIL import Image

  height, width = images.shape[1:3]
  scale = side / max(height, width)
  if scale >= 1:
    return images
  size = (max(1, round(width * scale)), max(1, round(height * scale)))
  small = [
    np.asarray(
      Image.fromarray(x[..., 0] if x.shape[2] == 1 else x).resize(size)
    )
    for x in images
  ]
  # Grey pictures have lost their one channel.
  return np.stack(small).reshape(len(small), size[1], size[0], -1)


def histogram(points: np.ndarray) -> np.ndarray:
  """Returns how densely points `[N, 2]` lie, dark on white `[h, w, 1]`.

  A bin of three points is black: 1,000 points of a mode fill many bins, and
  single points far from any mode have to be seen, too.
  """
  inside = points[np.isfinite(points).all(axis=1)]
  edges = np.linspace(-plots.LIMIT, plots.LIMIT, BINS + 1)
  # Rows of an image go down, so the second coordinate is turned over.
  counts = np.histogram2d(inside[:, 1], inside[:, 0], [edges, edges])[0][::-1]
  dark = np.minimum(1.0, counts / 3) if counts.any() else counts
  return (255 * (1 - dark[..., None])).astype(np.uint8)


def _frame(step: int, count: int, image: np.ndarray) -> Frame:
  """Returns uint8 `[h, w, C]` as a PNG in a `data:` address."""
  from PIL import Image

  grey = image.shape[2] == 1
  picture = Image.fromarray(image[..., 0] if grey else image)
  if not grey:
    # A third of the bytes; the other methods take forty times as long.
    picture = picture.quantize(255, method=Image.Quantize.FASTOCTREE)
  content = io.BytesIO()
  picture.save(content, "PNG")
  text = base64.b64encode(content.getvalue()).decode()
  return Frame(step, count, picture.size, f"data:image/png;base64,{text}")
