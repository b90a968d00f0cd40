"""Datasets: each file `data/<name>.py` registers a `load` under its name.

A `load` takes the name of a split and options, and returns `Arrays`:

    @data.register(name="stripes")
    def load(split: str = "train", width: int = 2) -> data.Arrays:
      ...

Such a function may stand in any file. There it is named `module:attribute`,
e.g. `my_data:load` or `path/to/my_data.py:load`, or "stripes" once its module
is imported.

Images are uint8 `[N, H, W, C]` with int32 labels `[N]`; the toy sets are
float32 points `[N, 2]`. Nothing here imports JAX's devices, a config, or
TensorFlow, which is needed to prepare a TFDS image dataset and then no more.
"""

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, overload

import flax.struct
import numpy as np

from ganjax import errors, registry

if TYPE_CHECKING:
  from ganjax.data import sources

DATASETS = registry.Registry(
  "dataset",
  __name__,
  helpers=("cache", "npz", "scaling", "sources", "streaming"),
)


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


Load: TypeAlias = Callable[..., Arrays]
OpenSource: TypeAlias = Callable[..., "sources.Source"]
AnyLoad = TypeVar("AnyLoad", bound=Load)


@overload
def register(load: AnyLoad) -> AnyLoad: ...


@overload
def register(
  *, name: str = "", source: OpenSource | None = None
) -> Callable[[AnyLoad], AnyLoad]: ...


def register(
  load: Load | None = None,
  *,
  name: str = "",
  source: OpenSource | None = None,
) -> Any:
  """Registers how a dataset is loaded; use as a decorator.

  Args:
    load: `(split="train", **options) -> Arrays`.
    name: of the dataset in configs; that of the function if empty.
    source: opens the same examples for a stream, which decodes them when they
      are wanted: `(split, **options) -> Source`. Without it a stream reads
      from what `load` returns.

  Returns:
    The function as it is, or a decorator if called without one.
  """

  def decorate(load: Load) -> Load:
    setattr(load, "source", source)  # noqa: B010
    return DATASETS.register(load, name=name)

  return decorate if load is None else decorate(load)


def find(name: str) -> Load:
  """Returns what loads the dataset `name`, or that of `module:attribute`.

  Raises:
    UserError: there is no such dataset.
  """
  return DATASETS.find(name)


def find_source(name: str) -> OpenSource | None:
  """Returns what opens the dataset `name` for a stream; None without that."""
  return getattr(find(name), "source", None)


def names() -> list[str]:
  """Returns the names of the datasets that there are."""
  return DATASETS.names()


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
  num = arrays.num_classes
  if not set(classes) <= set(range(num)):
    text = f"has classes from 0 to {num - 1}" if num else "has no labels"
    raise errors.UserError(
      f"config.leave_out={tuple(classes)}: this dataset {text}"
    )
  kept = ~np.isin(arrays.labels, list(classes))
  if not kept.any():
    raise errors.UserError(
      f"config.leave_out={tuple(classes)} leaves nothing to train on"
    )
  return Arrays(arrays.images[kept], arrays.labels[kept], num)


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
  order = _orders(seed, num_examples)
  parts = []
  while count > 0:
    epoch, offset = divmod(start, num_examples)
    part = order(epoch)[offset : offset + count]
    parts.append(part)
    start += len(part)
    count -= len(part)
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
