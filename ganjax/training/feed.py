"""Where the batches of a run come from: arrays on the devices, or a stream."""

import contextlib
import dataclasses
import functools
import math
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import jax
import numpy as np

from ganjax import data, errors, parallel, processes
from ganjax.data import sources, streaming
from ganjax.runs import configs
from ganjax.training import program

MODES = ("auto", "always", "never", "files")
# So many examples of streamed data are enough to initialise a system.
NUM_FIRST = 4096

# `(step, count) -> (arrays, indices)` of `count` steps, see `make_step`.
Batches: TypeAlias = Callable[[int, int], tuple[Any, Any]]


def load(
  config: configs.Config, devices: Sequence[processes.Device]
) -> tuple[sources.Source | None, data.Arrays]:
  """Returns the source of a stream, or None, and the training set's arrays.

  A training set is streamed if it takes more than `config.stream.share` of a
  device's memory; `config.stream.mode` "always" or "never" decides it
  otherwise. With "files" nothing is prepared: files or records are decoded
  when a batch needs them, and the arrays are the first `NUM_FIRST` examples.

  Raises:
    UserError: no such mode, or the dataset has no files.
  """
  memory = _memory(devices[processes.own(devices)[0]])
  if config.stream.mode == "files":
    source = file_opener(config)()
    return source, _examples(source, range(min(NUM_FIRST, len(source))))
  arrays = configs.load_data(config, "train")
  if is_streamed(config, arrays.images.nbytes, memory):
    return sources.Rows(arrays), arrays
  return None, arrays


def is_streamed(config: configs.Config, size: int, memory: int) -> bool:
  """Returns whether a training set is streamed.

  Args:
    config: of the run.
    size: bytes of the images.
    memory: bytes of a device.

  Raises:
    UserError: no such mode.
  """
  mode = config.stream.mode
  if mode not in MODES:
    raise errors.unknown("config.stream.mode", mode, MODES)
  if mode == "auto":
    return size > config.stream.share * memory
  return mode != "never"


def file_opener(config: configs.Config) -> Callable[[], sources.Source]:
  """Returns what opens the dataset's files as a source.

  Raises:
    UserError: the dataset has none, or classes are to be left out: a class is
      known only when its file is decoded.
  """
  spec = config.dataset.to_dict()
  name = spec.pop("name")
  find = getattr(data.find(name), "source", None)
  why = ""
  if find is None:
    why = f"dataset {name!r}, which has no files"
  elif len(config.leave_out):
    why = "config.leave_out"
  if find is None or why:
    raise errors.UserError(
      f"config.stream.mode='files' does not go with {why}; set it to 'always'"
    )
  return functools.partial(find, "train", **spec)


def _examples(source: sources.Source, numbers: Any) -> data.Arrays:
  """Returns examples by their numbers, without those that are corrupt."""
  found = []
  for i in numbers:
    with contextlib.suppress(sources.Corrupt):
      found.append(source[int(i)])
  images = np.stack([image for image, _ in found])
  if not source.num_classes:
    return data.Arrays(images)
  labels = np.array([label for _, label in found], np.int32)
  return data.Arrays(images, labels, source.num_classes)


def _memory(device: processes.Device) -> int:
  """Returns the bytes of a device; those of the machine where it is a CPU."""
  found = device.memory_stats() or {}
  if "bytes_limit" in found:
    return found["bytes_limit"]
  return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@dataclasses.dataclass(frozen=True, eq=False)
class Feed:
  """Gives the batches of runs: from arrays on the devices, or from a stream.

  Both ways give the same batches, those of `places`. Runs with other seeds
  share a feed.

  Attributes:
    source: what a stream reads, or None.
    arrays: the training set, or some of it if a stream decodes files.
    shape: of a step's batches, `(batches_per_step, batch_size)`.
    devices: the devices that share each batch, of all processes.
    workers: how many processes read a stream; 0 for threads of this one.
  """

  source: sources.Source | None
  arrays: data.Arrays
  shape: tuple[int, int]
  devices: Sequence[processes.Device]
  workers: int = 0

  def __len__(self) -> int:
    """Returns how many examples there are."""
    return len(self.arrays.images if self.source is None else self.source)

  @property
  def streams(self) -> bool:
    """Whether batches are read while a step computes."""
    return self.source is not None

  def first_examples(self) -> data.Arrays:
    """Returns what a system is initialised from."""
    if not self.streams:
      return self.arrays
    return jax.tree.map(lambda x: np.asarray(x[:NUM_FIRST]), self.arrays)

  def batch(self, seed: int, step: int) -> data.Arrays:
    """Returns the examples `[prod(shape), ...]` of the step after `step`."""
    found = places(seed, step, 1, self.shape, len(self)).ravel()
    if self.source is not None:
      return _examples(self.source, found)
    return jax.tree.map(lambda x: x[found], self.arrays)

  @contextlib.contextmanager
  def open(self, seed: int, start: int) -> Iterator[Batches]:
    """Opens the batches of a run.

    Args:
      seed: of the run.
      start: the first step that will be asked for; a stream then gives the
        steps one after another, whatever it is asked for.
    """
    if self.source is None:
      yield self.resident(seed)
      return

    # Workers get a pickled `order`: it must hold neither arrays nor devices.
    num_examples = len(self)

    def order(start, count):
      return data.batch_indices(seed, start, count, num_examples)

    num_own = len(processes.own(self.devices))

    def split(x):
      # Axes of devices and of steps in front: a stream gives a step at a time.
      return program.shard(x, num_own, axis=1)[:, None]

    with streaming.batches(
      self.source,
      order,
      start * math.prod(self.shape),
      self.shape,
      part=processes.part(self.devices),
      workers=self.workers,
    ) as stream:

      def read(step, count):
        del step, count
        return None, jax.tree.map(split, rows(next(stream), axes=2))

      yield read

  def resident(self, seed: int) -> Batches:
    """Returns the batches of a run from arrays that stay on the devices."""
    own = processes.own(self.devices)
    arrays = self._on_devices

    def choose(step, count):
      found = places(seed, step, count, self.shape, len(self))
      return arrays, program.shard(found, len(self.devices))[own]

    return choose

  def at_rest(self, arrays: data.Arrays) -> data.Arrays:
    """Returns the training set, or its shapes, as it lies on a device."""
    on_tpu = self.devices[0].platform == "tpu"
    return rows(arrays, multiple=parallel.LANES if on_tpu else 1)

  @functools.cached_property
  def _on_devices(self) -> data.Arrays:
    """The training set on every device, copied once for all runs."""
    return program.replicate(self.at_rest(self.arrays), self.devices)


def rows(arrays: data.Arrays, axes: int = 1, multiple: int = 1) -> data.Arrays:
  """Returns examples as they lie on a device: images are rows of numbers.

  A TPU keeps the last two axes of an array in tiles of 8 x 128 numbers or more.
  To gather images whose last axis has three channels, or rows that fill no
  whole tiles, its compiler would first copy the whole training set into another
  layout, at every step.

  Args:
    arrays: examples, or their shapes.
    axes: how many there are before those of an example.
    multiple: zeros behind each row fill it up to a multiple of so many numbers.
  """
  images: Any = arrays.images
  size = math.prod(images.shape[axes:])
  more = -size % multiple
  shape = (*images.shape[:axes], size)
  if isinstance(images, jax.ShapeDtypeStruct):
    shape = (*shape[:-1], size + more)
    return dataclasses.replace(
      arrays, images=jax.ShapeDtypeStruct(shape, images.dtype)
    )
  flat = images.reshape(shape)
  if more:
    flat = np.pad(flat, [(0, 0)] * axes + [(0, more)])
  return dataclasses.replace(arrays, images=flat)


def places(
  seed: int, step: int, count: int, shape: tuple[int, int], num_examples: int
) -> np.ndarray:
  """Returns which examples `count` steps see, int32 `[count, *shape]`.

  Args:
    seed: of the run.
    step: how many steps were made before.
    count: how many steps.
    shape: of a step's batches, `(batches_per_step, batch_size)`.
    num_examples: the size of the training set.
  """
  per_step = math.prod(shape)
  found = data.batch_indices(
    seed, step * per_step, count * per_step, num_examples
  )
  return found.reshape(count, *shape)
