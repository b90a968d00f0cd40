"""Examples by their number: what a stream reads, one at a time.

`folder.source` and `tfds.source` decode theirs when they are wanted; `Rows`
are of arrays that are prepared.
"""

import mmap
from typing import Any, NamedTuple, Protocol

import numpy as np

from ganjax import data


class Corrupt(Exception):
  """A record is there and cannot be read; the text names it and says why."""


class Source(Protocol):
  """Examples by their number, as workers read them.

  Attributes:
    image_shape: of one image, `(H, W, C)`.
    dtype: of the images.
    num_classes: of the labels; 0 where there are none.
  """

  image_shape: tuple[int, ...]
  dtype: np.dtype
  num_classes: int

  def __len__(self) -> int:
    """Returns how many examples there are, corrupt ones included."""
    ...

  def __getitem__(self, i: int) -> tuple[np.ndarray, int | None]:
    """Returns an image and its label, or None; may raise `Corrupt`."""
    ...


class Rows:
  """Rows of arrays, which are best memory-mapped: the others are in memory."""

  def __init__(self, arrays: data.Arrays):
    """Keeps `arrays`, of which nothing is read yet."""
    self.arrays = arrays
    self.image_shape = tuple(arrays.images.shape[1:])
    self.dtype = np.dtype(arrays.images.dtype)
    self.num_classes = arrays.num_classes

  def __len__(self) -> int:
    """Returns how many rows there are."""
    return len(self.arrays.images)

  def __getitem__(self, i: int) -> tuple[np.ndarray, int | None]:
    """Returns a row, a view of the images, and its label."""
    labels = self.arrays.labels
    return self.arrays.images[i], None if labels is None else int(labels[i])

  def __reduce__(self):
    """Pickles where the arrays are, if they are mapped."""
    arrays = self.arrays
    kept = _closed(arrays.images), _closed(arrays.labels)
    return _rows, (*kept, arrays.num_classes)


class _File(NamedTuple):
  """Where a mapped array is: pickled for a worker, it would become a copy."""

  name: Any
  dtype: np.dtype
  offset: int
  shape: tuple[int, ...]


def _closed(array: Any) -> Any:
  # A part of a map does not know where in the file it begins.
  whole = isinstance(array, np.memmap) and isinstance(array.base, mmap.mmap)
  if not whole or not array.flags.c_contiguous:
    return array
  return _File(array.filename, array.dtype, array.offset, array.shape)


def _rows(images: Any, labels: Any, num_classes: int) -> Rows:
  return Rows(data.Arrays(_opened(images), _opened(labels), num_classes))


def _opened(array: Any) -> Any:
  if not isinstance(array, _File):
    return array
  return np.memmap(array.name, array.dtype, "r", array.offset, array.shape)
