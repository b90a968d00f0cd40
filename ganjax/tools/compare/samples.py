"""Fixed latents over time, one small PNG for each time of a run."""

import base64
import dataclasses
import io
import math
import pathlib
from collections.abc import Sequence

import numpy as np

from ganjax.runs import plots
from ganjax.tools.compare.runs import Run

# Times of a run, samples at a time, pixels of a sample's longer side: the first
# form whose pictures fit into the page is taken.
FORMS = (
  (11, 36, 48),
  (8, 36, 40),
  (6, 25, 32),
  (5, 16, 32),
  (4, 9, 32),
  (2, 9, 24),
  (1, 4, 16),
)
GAP, GAP_COLOUR = 1, 128
BINS = 96  # of a side of the histogram that points are drawn as


@dataclasses.dataclass(frozen=True)
class Frame:
  """A picture: samples of a run at a step, as a `data:` address."""

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
  for times, count, side in FORMS:
    # The last picture says what the others are about to take.
    found = [_of_run(folder, 1, count, side) for folder in folders]
    if times * sum(map(_letters, found)) <= budget:
      found = [_of_run(folder, times, count, side) for folder in folders]
      if sum(map(_letters, found)) <= budget:
        return found
  total = 0
  for i, pictures in enumerate(found):
    total += _letters(pictures)
    found[i] = pictures if total <= budget else []
  return found


def _letters(pictures: Sequence[Frame]) -> int:
  return sum(len(frame.address) for frame in pictures)


def _of_run(
  folder: pathlib.Path, times: int, count: int, side: int
) -> list[Frame]:
  """Returns pictures of so many times, the first and the last among them."""
  files = sorted(f for f in folder.glob("*.npy") if f.stem.isdigit())
  picked = np.linspace(0, len(files) - 1, min(times, len(files)))
  if times == 1:
    picked = np.array([len(files) - 1.0] if files else [])
  result = []
  for i in picked.round().astype(int):
    step = int(files[i].stem)
    try:
      images = np.load(files[i], allow_pickle=False)
    except (OSError, ValueError, EOFError):  # Torn by a crash.
      continue
    if images.ndim == 2 and images.shape[1] == 2:
      result.append(_frame(step, len(images), histogram(images)))
    elif images.ndim == 4 and images.dtype == np.uint8 and len(images):
      some = images[:count]
      result.append(_frame(step, len(some), tiles(some, side)))
  return result


def tiles(images: np.ndarray, side: int) -> np.ndarray:
  """Returns uint8 `[N, H, W, C]` as one image, each at most `side` wide."""
  from PIL import Image

  height, width = images.shape[1:3]
  scale = min(1.0, side / max(height, width))
  if scale < 1:
    shape = max(1, round(width * scale)), max(1, round(height * scale))
    small = (
      Image.fromarray(x[..., 0] if x.shape[2] == 1 else x).resize(shape)
      for x in images
    )
    images = np.stack([np.asarray(x) for x in small])
    images = images.reshape(len(images), *shape[::-1], -1)
  num, height, width, channels = images.shape
  columns = math.ceil(math.sqrt(num))
  rows = -(-num // columns)
  shape = rows * (height + GAP) + GAP, columns * (width + GAP) + GAP, channels
  canvas = np.full(shape, GAP_COLOUR, np.uint8)
  for i, image in enumerate(images):
    y = i // columns * (height + GAP) + GAP
    x = i % columns * (width + GAP) + GAP
    canvas[y : y + height, x : x + width] = image
  return canvas


def histogram(points: np.ndarray) -> np.ndarray:
  """Returns how densely points `[N, 2]` lie, dark on white `[h, w, 1]`."""
  inside = points[np.isfinite(points).all(axis=1)]
  edges = np.linspace(-plots.LIMIT, plots.LIMIT, BINS + 1)
  counts = np.histogram2d(inside[:, 1], inside[:, 0], [edges, edges])[0][::-1]
  dark = np.minimum(1.0, counts / 3) if counts.any() else counts
  return (255 * (1 - dark[..., None])).astype(np.uint8)


def _frame(step: int, count: int, image: np.ndarray) -> Frame:
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
