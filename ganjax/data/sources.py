"""Examples by their number: what a stream reads, one at a time.

The sources of `folder` and `tfds` decode an example when it is wanted; `Rows`
takes it from arrays that are prepared.
"""

import mmap
import os
from typing import NamedTuple, Protocol

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
  """Rows of arrays, best of memory-mapped ones: others are held in memory."""

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
    """Pickles the place of a mapped array instead of its values."""
    images = _closed(self.arrays.images)
    labels = _closed(self.arrays.labels)
    return _rows, (images, labels, self.num_classes)


class _File(NamedTuple):
  """Where a mapped array is. A worker maps it again, instead of a copy."""

  name: str | os.PathLike[str]
  dtype: np.dtype
  offset: int
  shape: tuple[int, ...]


def _closed(array: np.ndarray | None) -> np.ndarray | _File | None:
  """Returns where a mapped array is; any other array as it is."""
  # A part of a map does not know where in the file it begins.
  if not isinstance(array, np.memmap) or not isinstance(array.base, mmap.mmap):
    return array
  if array.filename is None or not array.flags.c_contiguous:
    return array
  return _File(
    name=array.filename,
    dtype=array.dtype,
    offset=array.offset,
    shape=array.shape,
  )


def _opened(array: np.ndarray | _File | None) -> np.ndarray | None:
  """Returns the array that `_closed` was given."""
  if not isinstance(array, _File):
    return array
  return np.memmap(
    array.name,
    dtype=array.dtype,
    mode="r",
    offset=array.offset,
    shape=array.shape,
  )


def _rows(
  images: np.ndarray | _File, labels: np.ndarray | _File | None, num: int
) -> Rows:
  """Returns the `Rows` that were pickled."""
  return Rows(data.Arrays(_opened(images), _opened(labels), num))
