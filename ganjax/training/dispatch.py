"""What each dispatch of a step is, and where its batches come from."""

import contextlib
import dataclasses
import functools
import math
import os
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ganjax import data, errors, parallel, processes
from ganjax.data import sources, streaming
from ganjax.runs import configs

MODES = ("auto", "always", "never", "files")
# From so many examples a system of streamed data is initialised.
NUM_SOME = 4096


def load(config: configs.Config, devices) -> tuple[Any, data.Arrays]:
  """Returns the source of a stream, or None, and the training set's arrays.

  Streamed is what takes more than `config.stream.share` of a device's memory,
  or by `config.stream.mode` "always" or "never". With "files" nothing is
  prepared: files or records are decoded when they are wanted, and the arrays
  are the first `NUM_SOME` examples.

  Raises:
    UserError: no such mode, or the dataset has no files.
  """
  mode, share = config.stream.mode, config.stream.share
  if mode not in MODES:
    raise errors.unknown("config.stream.mode", mode, MODES)
  if mode == "files":
    source = _files(config)
    return source, _examples(source, range(min(NUM_SOME, len(source))))
  arrays = configs.load_data(config, "train")
  device = devices[processes.own(devices)[0]]
  too_large = arrays.images.nbytes > share * _memory(device)
  streams = mode == "always" or (mode == "auto" and too_large)
  return sources.Rows(arrays) if streams else None, arrays


def _files(config: configs.Config):
  spec = config.dataset.to_dict()
  name = spec.pop("name")
  find = data.find_source(name)
  if find is None or len(config.leave_out):
    why = (
      "config.leave_out" if find else f"dataset {name!r}, which has no files"
    )
    raise errors.UserError(
      f"config.stream.mode='files' does not go with {why}; set it to 'always'"
    )
  return find("train", **spec)


def _examples(source: sources.Source, numbers) -> data.Arrays:
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


def _memory(device) -> int:
  """Returns the bytes of a device; those of the machine where it is a CPU."""
  found = device.memory_stats() or {}
  if "bytes_limit" in found:
    return found["bytes_limit"]
  return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@dataclasses.dataclass(frozen=True)
class Feed:
  """Where batches come from: arrays on the devices, or a stream of `source`.

  Both give the same batches: those of `places`.

  Attributes:
    source: of the stream, or None.
    arrays: the training set, or some of it if a stream decodes files.
    config: of the run.
    shape: `(batches_per_step, batch_size)`.
    devices: that share each batch.
    placed: the arrays on the devices, once they are there; a copy made with
      `dataclasses.replace` shares them.
  """

  source: Any
  arrays: data.Arrays
  config: configs.Config
  shape: tuple[int, int]
  devices: Any
  placed: list[Any] = dataclasses.field(default_factory=list)

  def __len__(self) -> int:
    """Returns how many examples there are."""
    return len(self.arrays.images if self.source is None else self.source)

  @property
  def streams(self) -> bool:
    """Whether batches are read while a step computes."""
    return self.source is not None

  def some(self) -> data.Arrays:
    """Returns what a system is initialised from."""
    if not self.streams:
      return self.arrays
    return jax.tree.map(lambda x: np.asarray(x[:NUM_SOME]), self.arrays)

  def batch(self, step: int) -> data.Arrays:
    """Returns the examples `[prod(shape), ...]` after `step` steps."""
    found = places(self.config.seed, step, 1, self.shape, len(self)).ravel()
    if self.streams:
      return _examples(self.source, found)
    return jax.tree.map(lambda x: x[found], self.arrays)

  @contextlib.contextmanager
  def open(self, start: int) -> Iterator[Callable[[int, int], tuple]]:
    """Opens `(step, count) -> (arrays, indices)`, see `make_step`.

    Args:
      start: the first step that will be asked for; a stream gives one after
        another.
    """
    seed, num, own = self.config.seed, len(self), processes.own(self.devices)
    if not self.streams:
      if not self.placed:
        self.placed.append(parallel.replicate(self.arrays, self.devices))

      def chosen(step, count):
        found = places(seed, step, count, self.shape, num)
        return self.placed[0], parallel.shard(found, len(self.devices))[own]

      yield chosen
      return

    def order(start, count):
      return data.batch_indices(seed, start, count, num)

    first, workers = start * math.prod(self.shape), self.config.stream.workers
    part = processes.part(self.devices)
    with streaming.batches(
      self.source, order, first, self.shape, part=part, workers=workers
    ) as stream:

      def read(step, count):
        del step, count
        split = functools.partial(parallel.shard, num_devices=len(own), axis=1)
        batch = jax.tree.map(lambda x: split(x)[:, None], next(stream))
        return None, batch

      yield read


def places(seed: int, step: int, count: int, shape, num_examples: int):
  """Returns which examples `count` steps see, int32 `[count, *shape]`."""
  per_step = math.prod(shape)
  found = data.batch_indices(
    seed, step * per_step, count * per_step, num_examples
  )
  return found.reshape(count, *shape)


def _at(indices: Any, place: int, axis: int = 1) -> Any:
  """Returns what stands at `place` of an axis."""
  return jax.tree.map(lambda x: x.take(place, axis), indices)


def make_step(system, prepare, devices, streams=False, members=False):
  """Returns `(state, arrays, indices, key, step) -> (state, metrics)`.

  `indices [num_devices, num_steps, batches_per_step, n]` choose the batches;
  if the step `streams`, they are the batches, and `arrays` is None. If it is
  one of `members`, they have an axis more, the third.
  Several steps are one program. A single step is one, too, on which lazy parts
  rest; but where it repeats an update on CPU, each kind of update is a program:
  it compiles once, and updates do not fight for the cores.
  """

  @functools.cache
  def mapped(function, skip, several=False):
    step = functools.partial(function, skip=skip) if skip else function
    how = dict(several=several, streams=streams, members=members)
    return parallel.map_step(step, prepare, devices, **how)

  any_step = _any_step(system)
  updates = [update for update, _ in system.updates]
  repeats = len(set(updates)) < len(updates)
  apart = repeats and devices[0].platform == "cpu"

  def call(state, arrays, indices, key, step):
    if not streams and indices.shape[1] > 1:
      step_fn = mapped(any_step, (), several=True)
      return step_fn(state, arrays, indices, key, step)
    skip, indices = system.skip(step), _at(indices, 0)
    if not apart:
      step_fn = mapped(system.train_step, skip)
      return step_fn(state, arrays, indices, key, step)
    fold, metrics = jax.random.fold_in, {}
    key = jax.vmap(fold, (0, None))(key, step) if members else fold(key, step)
    for i, (update, place) in enumerate(system.updates):
      step_fn = mapped(update, skip)
      state, new = step_fn(
        state, arrays, _at(indices, place, 1 + members), key, i
      )
      metrics |= new
    return state, metrics

  return call


def _any_step(system):
  """Returns a step that chooses on the device which lazy parts rest."""
  period = math.lcm(*system.lazy.values())
  skips = [system.skip(i) for i in range(period)]
  choices = sorted(set(skips))
  if len(choices) == 1:
    return system.train_step
  branches = [functools.partial(system.train_step, skip=s) for s in choices]
  table = np.array([choices.index(skip) for skip in skips])

  def any_step(state, batch, key):
    choice = jnp.asarray(table)[state.step % period]
    return jax.lax.switch(choice, branches, state, batch, key)

  return any_step
