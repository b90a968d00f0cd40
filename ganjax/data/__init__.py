"""Datasets: each file `data/<name>.py` has `load(split, ...) -> Arrays`.

Images are uint8 `[N, H, W, C]` with int32 labels `[N]`; the toy sets are
float32 points `[N, 2]`. Nothing here imports JAX's devices, a config, or (but
for preparing a TFDS image dataset) TensorFlow.
"""

import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any

import flax.struct
import numpy as np

from ganjax import errors, registry

HELPERS = ("cache", "npz", "records", "scaling", "sources", "streaming")


@flax.struct.dataclass
class Arrays:
  """A split of a dataset, or a batch of it: a pytree of its two arrays.

  Attributes:
    images: uint8 `[N, H, W, C]` in [0, 255], or float32 points `[N, 2]`.
    labels: int32 `[N]` in [0, num_classes), or None.
    num_classes: 0 where there are no labels.
  """

  images: Any
  labels: Any = None
  num_classes: int = flax.struct.field(pytree_node=False, default=0)


def find(name: str):
  """Returns the module of the dataset `name`; its `load` makes `Arrays`."""
  return registry.find_module(sys.modules[__name__], name, "dataset", HELPERS)


def names() -> list[str]:
  """Returns the names of the datasets that there are."""
  return registry.module_names(sys.modules[__name__], HELPERS)


def without(arrays: Arrays, classes: Sequence[int]) -> Arrays:
  """Returns `arrays` without the examples of some classes, numbered as before.

  Args:
    arrays: a split.
    classes: to leave out; none is fine without labels, too.

  Raises:
    UserError: there are no such classes, or nothing would be left.
  """
  if not len(classes):
    return arrays
  num, wrong = arrays.num_classes, set(classes) - {*range(arrays.num_classes)}
  if wrong:
    text = f"has classes from 0 to {num - 1}" if num else "has no labels"
    raise errors.UserError(
      f"config.leave_out={tuple(classes)}: this dataset {text}"
    )
  kept = ~np.isin(arrays.labels, list(classes))
  if not kept.any():
    raise errors.UserError(
      f"config.leave_out={tuple(classes)} leaves nothing to train on"
    )
  images, labels = arrays.images[kept], arrays.labels[kept]
  return Arrays(images, labels, arrays.num_classes)


def batch_indices(
  seed: int, start: int, count: int, num_examples: int
) -> np.ndarray:
  """Returns which examples stand at `start .. start + count` of the stream.

  The stream is one permutation of the dataset after another. The permutation
  of an epoch depends on (seed, epoch) alone, so a resumed run needs to know
  only how many examples it has used.

  Args:
    seed: the run's seed.
    start: how many examples were used before.
    count: how many are wanted; may cross the end of an epoch.
    num_examples: the size of the dataset.

  Returns:
    int32 `[count]`.
  """
  parts, order = [], _orders(seed, num_examples)
  while count > 0:
    epoch, offset = divmod(start, num_examples)
    part = order(epoch)[offset : offset + count]
    parts.append(part)
    start, count = start + len(part), count - len(part)
  return np.concatenate(parts)


@functools.cache
def _orders(seed: int, num_examples: int) -> Callable[[int], np.ndarray]:
  """Returns epoch -> order; each of a population's seeds keeps its last two."""

  @functools.lru_cache(maxsize=2)
  def order(epoch: int) -> np.ndarray:
    # RandomState's stream is frozen for ever (NEP 19), that of the newer
    # generators is not: an order must not change with the version of NumPy.
    found = np.random.RandomState([seed, epoch]).permutation(num_examples)
    return found.astype(np.int32)

  return order
