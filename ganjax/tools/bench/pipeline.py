"""How fast streams are by themselves: no step waits for the batches."""

import math
import pathlib
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from PIL import Image

from ganjax import data, errors
from ganjax.data import folder, sources, streaming
from ganjax.runs import configs
from ganjax.tools.bench import measure

NUM_FILES = 1000
WORKERS = (0, 1, 2)  # processes; 0 stands for threads of this one
# Batches before the clock runs: more than those that wait, read ahead.
NUM_FIRST = 32


def run(
  config: configs.Config,
  arrays: data.Arrays,
  num_batches: int,
) -> dict[str, Any]:
  """Measures streams of the batches that `config` trains with.

  The sources are written anew, so they are read from the page cache: a slow
  disk, or a network, is not measured. The PNG files are of noise, the
  largest that there are.

  Args:
    config: of an experiment, resolved.
    arrays: random images like those of the dataset.
    num_batches: how many steps' batches are timed for each row.

  Returns:
    The record; its "rows" have source, workers, images_per_sec, and open_s,
    the seconds to the first batch.

  Raises:
    UserError: `arrays` are not images.
  """
  if arrays.images.ndim != 4 or arrays.images.dtype != np.uint8:
    raise errors.UserError("--pipeline needs a dataset of images")
  shape = arrays.images.shape[1:]
  system = configs.build(config, shape, arrays.num_classes)
  sizes = (system.batches_per_step, config.batch_size)
  rows = []
  with tempfile.TemporaryDirectory() as place:
    for name, source in _sources(pathlib.Path(place), arrays):
      for workers in WORKERS:
        opened, rate = _rate(source, sizes, num_batches, workers)
        rows.append(
          dict(source=name, workers=workers, images_per_sec=rate, open_s=opened)
        )
  return dict(
    image_shape=shape,
    sizes=sizes,
    batches=num_batches,
    rows=rows,
    **measure.where(jax.local_devices()),
  )


def _sources(
  place: pathlib.Path, arrays: data.Arrays
) -> Iterator[tuple[str, sources.Source]]:
  """Writes `arrays` in each form that is streamed; yields names and sources."""
  mapped = {}
  for name in ("images", "labels"):
    if getattr(arrays, name) is not None:
      np.save(place / f"{name}.npy", getattr(arrays, name))
      mapped[name] = np.load(place / f"{name}.npy", mmap_mode="r")
  rows = data.Arrays(num_classes=arrays.num_classes, **mapped)
  yield "mapped rows", sources.Rows(rows)
  (place / "files").mkdir()
  height, _, channels = arrays.images.shape[1:]
  for i, image in enumerate(arrays.images[:NUM_FILES]):
    pixels = Image.fromarray(image[..., 0] if channels == 1 else image)
    pixels.save(place / "files" / f"{i:04}.png")
  files = folder.source("all", str(place / "files"), height, channels)
  yield f"{len(files):,} PNG files", files


def _rate(
  source: sources.Source, sizes: tuple[int, ...], count: int, workers: int
) -> tuple[float, float]:
  """Times a stream.

  Args:
    source: what is streamed.
    sizes: of the batches of a step, `(batches, images)`.
    count: how many steps' batches are timed.
    workers: processes that read; 0 for threads of this one.

  Returns:
    The seconds to the first batch, and the images a second of the others.
  """

  def order(start: int, number: int) -> np.ndarray:
    return data.batch_indices(0, start, number, len(source))

  start = time.perf_counter()
  with streaming.batches(source, order, 0, sizes, workers=workers) as stream:
    next(stream)
    opened = time.perf_counter() - start
    for _ in range(NUM_FIRST):
      next(stream)
    start = time.perf_counter()
    for _ in range(count):
      next(stream)
    seconds = time.perf_counter() - start
  return opened, count * math.prod(sizes) / seconds
