"""The programs of a training step: what is compiled, and for which devices.

`make_step` turns a system's pure `train_step` into a function that makes one
step or several on all devices of a run; `map_step` is the `pmap` beneath it.
The state goes in and out unstacked: every device holds the same one, since
every device computes the same update.
"""

import ctypes
import functools
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental.compilation_cache import compilation_cache

from ganjax import data, parallel, processes
from ganjax.state import State
from ganjax.systems import System

Metrics: TypeAlias = Mapping[str, jax.Array]
# `(state, arrays, indices, key, step) -> (state, metrics)`, see `make_step`.
StepFunction: TypeAlias = Callable[
  [State, data.Arrays | None, Any, jax.Array, int], tuple[State, Metrics]
]
# `batch -> batch`, from what is stored to what networks see.
Prepare: TypeAlias = Callable[[data.Arrays], data.Arrays]

MAX_STEPS_PER_DISPATCH = 100
CACHE_BYTES = 4 * 2**30  # Of compiled programs on disk.


def make_step(
  system: System,
  prepare: Prepare,
  devices: Sequence[processes.Device],
  streams: bool = False,
  members: bool = False,
) -> "Step":
  """Returns `(state, arrays, indices, key, step) -> (state, metrics)`.

  `indices`, `[num_devices, num_steps, batches_per_step, n]`, choose the batches
  of the steps after the first `step` ones from `arrays`. With `streams`,
  `indices` is the batches themselves, and `arrays` is None. With `members`,
  `indices` has a population axis at position 2.

  Args:
    system: whose step it is.
    prepare: what networks see of a stored batch.
    devices: the devices to run on, of all processes.
    streams: whether batches are given in place of their indices.
    members: whether the state, the key and the metrics have a population axis
      in front, too.
  """
  return Step(system, prepare, devices, streams, members)


class Step:
  """A training step, and the programs that make it; see `make_step`.

  Several steps compile to one `lax.scan`. A single step is one program, except
  on a CPU where D is updated k times: there each distinct update is compiled
  once and called k times, since XLA is slow on the unrolled graph.
  """

  def __init__(
    self,
    system: System,
    prepare: Prepare,
    devices: Sequence[processes.Device],
    streams: bool,
    members: bool,
  ):
    """Takes the arguments of `make_step`; nothing is compiled yet."""
    self._system = system
    self._map = functools.partial(
      map_step,
      prepare=prepare,
      devices=devices,
      streams=streams,
      members=members,
    )
    self._streams = streams
    self._members = members
    self._updates = system.updates()
    distinct = {update.function for update in self._updates}
    repeats = len(distinct) < len(self._updates)
    self._apart = repeats and devices[0].platform == "cpu"
    self._compiled = functools.cache(self._program)

  def __call__(self, state, arrays, indices, key, step):
    """Makes the steps that `indices` choose batches for; see `make_step`."""
    if not self._streams and indices.shape[1] > 1:
      return self.several()(state, arrays, indices, key, step)
    indices = _take(indices, 0, axis=1)
    skip = self._system.skip(step)
    if self._apart:
      return self._update_by_update(state, arrays, indices, key, step, skip)
    return self.single(skip)(state, arrays, indices, key, step)

  def single(self, skip: tuple[str, ...]) -> Callable[..., Any]:
    """Returns the program of one step, without the parts in `skip`."""
    return self._compiled(self._system.train_step, skip)

  def several(self) -> Callable[..., Any]:
    """Returns the program of several steps in one dispatch."""
    return self._compiled(self._any_step, (), several=True)

  @functools.cached_property
  def _any_step(self) -> Callable[..., Any]:
    return _any_step(self._system)

  def _program(self, function, skip, several=False):
    if skip:
      function = functools.partial(function, skip=skip)
    return self._map(function, several=several)

  def _update_by_update(self, state, arrays, indices, key, step, skip):
    """Makes one step, each of its updates by a program of its own."""
    fold_in = jax.random.fold_in
    if self._members:
      fold_in = jax.vmap(fold_in, (0, None))
    key = fold_in(key, step)
    metrics = {}
    for i, update in enumerate(self._updates):
      function = self._compiled(update.function, skip)
      chosen = _take(indices, update.batch, axis=2 if self._members else 1)
      # The program folds `i` into the key, as the whole step would.
      state, new = function(state, arrays, chosen, key, i)
      metrics.update(new)
    return state, metrics


def _take(tree: Any, place: int, axis: int) -> Any:
  """Returns what stands at `place` of an axis of every leaf."""
  return jax.tree.map(lambda x: x.take(place, axis), tree)


def _any_step(system: System) -> Callable[..., Any]:
  """Returns a step that chooses on the device which lazy parts rest.

  Which ones rest repeats with the period of all their intervals, so the step
  looks up its place in that period.
  """
  period = math.lcm(*system.lazy.values())
  skips = [system.skip(i) for i in range(period)]
  choices = sorted(set(skips))
  if len(choices) == 1:
    return system.train_step
  branches = [functools.partial(system.train_step, skip=s) for s in choices]
  table = np.array([choices.index(skip) for skip in skips])

  def any_step(state, batch, key):
    choice = jnp.asarray(table)[state.step % period]
    return lax.switch(choice, branches, state, batch, key)

  return any_step


def map_step(
  train_step: Callable[..., Any],
  prepare: Prepare,
  devices: Sequence[processes.Device],
  several: bool = False,
  streams: bool = False,
  members: bool = False,
) -> Callable[..., Any]:
  """Maps a per-device step over `devices`, or several in one dispatch.

  Args:
    train_step: `(state, batch, key) -> (state, metrics)`, with collectives
      over `parallel.AXIS`.
    prepare: what networks see of a stored batch.
    devices: the devices to run on, of all processes.
    several: whether indices have an axis of steps, after that of devices. The
      steps become a `lax.scan`, in which convolutions are slow on CPU.
    streams: whether the batch itself is given in place of its indices.
    members: whether the state, the key and the metrics have a population axis
      in front, `parallel.MEMBERS`, and the indices one before that of
      `batches_per_step`.

  Returns:
    `(state, arrays, indices [num_devices, ...], key, step) -> (state,
    metrics)`, with the indices of this process's devices, and the metrics of
    the last step. The batch is gathered from `arrays`, which live on the
    device. `state` is donated: the caller's is not to be used again.
  """

  def choose(arrays, given):
    if streams:
      return prepare(given)
    # The indices are good: nothing needs to be put in place of bad ones.
    take = functools.partial(jnp.take, indices=given, axis=0, mode="clip")
    return prepare(jax.tree.map(take, arrays))

  def one_step(state, arrays, given, key, step):
    first = jax.tree.leaves(given)[0]
    if first.ndim == (3 if streams else 2):
      # Batch by batch: a TPU would make all of them and then cut them apart.
      parts = [_take(given, i, axis=0) for i in range(len(first))]
      chosen = [choose(arrays, part) for part in parts]
      batch = jax.tree.map(lambda *x: jnp.stack(x), *chosen)
    else:
      batch = choose(arrays, given)
    return train_step(state, batch, jax.random.fold_in(key, step))

  def several_steps(state, arrays, indices, key, step):
    def body(state, xs):
      return one_step(state, arrays, xs[0], key, xs[1])

    steps = step + jnp.arange(len(indices))
    state, rows = lax.scan(body, state, (indices, steps))
    return state, jax.tree.map(lambda x: x[-1], rows)

  function = several_steps if several else one_step
  if members:
    axes = (0, None, 1 if several else 0, 0, None)
    function = jax.vmap(function, axes, axis_name=parallel.MEMBERS)

  def for_devices(*args):
    with parallel.traced_for(devices[0].platform):
      return function(*args)

  mapped = jax.pmap(
    for_devices,
    axis_name=parallel.AXIS,
    in_axes=(None, None, 0, None, None),
    out_axes=None,  # pyright: ignore[reportArgumentType]
    donate_argnums=(0,),
    devices=devices,
  )

  def awaited(state, arrays, indices, key, step):
    return jax.block_until_ready(mapped(state, arrays, indices, key, step))

  # Fake devices of one CPU share its threads, and collectives of many queued
  # steps can starve each other for ever: there each step is awaited.
  fake = len(devices) > 1 and devices[0].platform == "cpu"
  return awaited if fake else mapped


def replicate(tree: Any, devices: Sequence[processes.Device]) -> Any:
  """Copies the leaves of `tree` to every device, laid out for `map_step`."""
  copy = jax.pmap(
    lambda tree, place: tree,
    # The name is that of `map_step`, or its second call would compile again.
    axis_name=parallel.AXIS,
    in_axes=(None, 0),
    out_axes=None,  # pyright: ignore[reportArgumentType]
    devices=devices,
  )
  return copy(tree, np.array(processes.own(devices)))


def local(tree: Any) -> Any:
  """Returns one device's copy of a state that every device holds."""
  if isinstance(tree, Member):
    return jax.tree.map(lambda x: x[tree.index], local(tree.stacked))
  return jax.tree.map(lambda x: x.addressable_data(0), tree)


class Member:
  """A member's part of a stacked state, cut out only when `local` reads it.

  Most steps read nothing, and slicing every leaf would take longer than a
  small step.

  Attributes:
    stacked: the state of all members, who have the first axis of each leaf.
    index: the member's place on that axis.
  """

  def __init__(self, stacked: Any, index: int):
    """Keeps both; nothing is computed."""
    self.stacked = stacked
    self.index = index


def shard(array: np.ndarray, num_devices: int, axis: int = -1) -> np.ndarray:
  """Splits `[..., batch_size]` into `[num_devices, ..., batch_size / n]`.

  Args:
    array: indices, or the batches themselves.
    num_devices: into how many parts.
    axis: where the batch is.
  """
  return np.stack(np.split(array, num_devices, axis=axis))


def steps_per_dispatch(
  wanted: int, intervals: Sequence[int], devices: Sequence[processes.Device]
) -> int:
  """Returns how many steps one dispatch makes.

  On GPU and TPU a small step is shorter than its dispatch from Python. What
  happens at intervals happens between dispatches, so their length divides all
  intervals.

  Args:
    wanted: a number of steps; 0 for 1 on CPU, and elsewhere for the largest
      that fits, up to `MAX_STEPS_PER_DISPATCH`.
    intervals: of logs, samples, evaluations and checkpoints, in steps.
    devices: the devices to run on.
  """
  if wanted:
    return wanted
  if devices[0].platform == "cpu":
    return 1
  common = math.gcd(*intervals)
  fitting = [n for n in range(1, MAX_STEPS_PER_DISPATCH + 1) if not common % n]
  return max(fitting)


def keep_memory() -> None:
  """Lets the process keep the memory of one step for the next, on CPU.

  XLA takes the memory of a step from the C library at each call. Where that is
  GNU's, large blocks go back to the system when they are freed, and every page
  of the next ones is a fault: a tenth of a step's time. Only the main thread
  can keep blocks of any size, so steps run there; that needs to be said before
  JAX looks for its devices, and has no effect later.
  """
  if not sys.platform.startswith("linux"):
    return
  mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
  if mallopt is None:  # Not every C library has it.
    return
  max_mapped = -4  # M_MMAP_MAX of <malloc.h>: no block is mapped by itself.
  trim_threshold = -1  # M_TRIM_THRESHOLD: nothing goes back to the system.
  mallopt(max_mapped, 0)
  mallopt(trim_threshold, 2**31 - 1)
  jax.config.update("jax_cpu_enable_async_dispatch", False)


def cache_compilations(folder: str) -> None:
  """Keeps what XLA compiles in `folder`, unless JAX was told of another one.

  A second start of the same program then compiles nothing. Beyond
  `CACHE_BYTES` what was used longest ago is deleted.
  """
  option = "jax_compilation_cache_dir"
  if getattr(jax.config, option) is not None:
    return
  jax.config.update("jax_compilation_cache_max_size", CACHE_BYTES)
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
  jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
  jax.config.update(option, folder)
  compilation_cache.reset_cache()  # JAX may have found before that it is off.
