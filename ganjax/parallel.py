"""Devices: the `pmap` boundary, and what a step says across it.

A step is written for one device. What it must say to the others goes through
`mean`, `gather` and `example_keys`, which ask JAX whether the step is mapped
over devices at all, and do nothing where it is not. The state goes in and out
unstacked: every device holds the same one, since every device computes the same
update.
"""

import ctypes
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental.compilation_cache import compilation_cache

from ganjax import processes

AXIS = "devices"
MEMBERS = "members"  # Of a population, see `population`.


def axis_is_bound(axis_name: str = AXIS) -> bool:
  """Returns whether the code that is traced now is mapped over an axis.

  JAX knows it, so that nobody has to be told: the same function is a device's
  share of a step inside of `pmap`, and the whole of it outside.
  """
  try:
    lax.axis_size(axis_name)
  except NameError:  # What JAX raises for an axis that is not bound.
    return False
  return True


def mean(tree: Any, axis_name: Any = None) -> Any:
  """Averages every leaf of `tree` over the devices."""
  del axis_name
  return lax.pmean(tree, AXIS) if axis_is_bound() else tree


def gather(x: jax.Array, axis_name: Any = None) -> jax.Array:
  """Returns the global batch `[N, ...]` of the local ones `[n, ...]`.

  A loss of gathered logits is the same number on every device. Its gradient
  through `gather` counts each device's copy of it, and `mean` of the gradients
  takes that factor out again: together they are the global batch's gradient.
  """
  del axis_name
  return lax.all_gather(x, AXIS, tiled=True) if axis_is_bound() else x


def example_keys(
  key: jax.Array, num_examples: int, axis_name: Any = None
) -> jax.Array:
  """Returns a key for each of this device's examples, `[num_examples]`.

  The key belongs to the example's place in the global batch, so noise does not
  depend on how many devices share the batch.
  """
  del axis_name
  first = lax.axis_index(AXIS) * num_examples if axis_is_bound() else 0
  places = first + jnp.arange(num_examples)
  return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, places)


def map_step(
  train_step: Callable,
  prepare: Callable,
  devices: Sequence[Any],
  several: bool = False,
  streams: bool = False,
  members: bool = False,
) -> Callable:
  """Maps a per-device step over `devices`, or several in one dispatch.

  Args:
    train_step: `(state, batch, key) -> (state, metrics)`, with collectives
      over `AXIS`.
    prepare: `batch -> batch`, from what is stored to what networks see.
    devices: the devices to run on, of all processes.
    several: whether indices have an axis of steps, after that of devices. They
      become a `lax.scan`, in which convolutions are slow on CPU.
    streams: whether the batch itself stands in place of its indices.
    members: whether the state, the key, the metrics and the indices (before
      `batches_per_step`) have an axis of members, `MEMBERS`.

  Returns:
    `(state, arrays, indices [num_devices, ...], key, step) -> (state,
    metrics)`, with the indices of this process's devices, and the metrics of
    the last step. The batch is gathered from `arrays`, which live on the
    device. `state` is donated: the one given is not to be used again.
  """

  def one_step(state, arrays, indices, key, step):
    batch = indices
    if not streams:
      batch = jax.tree.map(lambda x: jnp.take(x, indices, axis=0), arrays)
    return train_step(state, prepare(batch), jax.random.fold_in(key, step))

  def several_steps(state, arrays, indices, key, step):
    def body(state, xs):
      return one_step(state, arrays, xs[0], key, xs[1])

    steps = step + jnp.arange(len(indices))
    state, rows = lax.scan(body, state, (indices, steps))
    return state, jax.tree.map(lambda x: x[-1], rows)

  function = several_steps if several else one_step
  if members:
    axes = (0, None, 1 if several else 0, 0, None)
    function = jax.vmap(function, axes, axis_name=MEMBERS)
  mapped = jax.pmap(
    function,
    axis_name=AXIS,
    in_axes=(None, None, 0, None, None),
    out_axes=None,  # pyright: ignore[reportArgumentType]
    donate_argnums=(0,),
    devices=devices,
  )
  # Fake devices of one CPU share its threads, and collectives of many queued
  # steps can starve each other for ever: there each step is awaited.
  if len(devices) > 1 and devices[0].platform == "cpu":
    return lambda *args: jax.block_until_ready(mapped(*args))
  return mapped


def replicate(tree: Any, devices: Sequence[Any]) -> Any:
  """Copies the leaves of `tree` to every device, laid out for `map_step`."""
  copy = jax.pmap(
    lambda tree, place: tree,
    axis_name=AXIS,  # as in `map_step`, or its second call compiles again
    in_axes=(None, 0),
    out_axes=None,  # pyright: ignore[reportArgumentType]
    devices=devices,
  )
  return copy(tree, np.array(processes.own(devices)))


def shard(array: np.ndarray, num_devices: int, axis: int = -1) -> np.ndarray:
  """Splits `[..., batch_size]` into `[num_devices, ..., batch_size / n]`.

  With an `axis` that is where the batch is.
  """
  return np.stack(np.split(array, num_devices, axis=axis))


def steps_per_dispatch(
  wanted: int, intervals: Sequence[int], devices: Sequence[Any]
) -> int:
  """Returns how many steps one dispatch makes.

  On GPU and TPU a small step is shorter than its dispatch from Python. What
  happens at intervals happens between dispatches, so their length divides all
  intervals.

  Args:
    wanted: a number of steps; 0 for 1 on CPU, and elsewhere for the largest
      that fits, up to 100.
    intervals: of logs, samples, evaluations and checkpoints, in steps.
    devices: the devices to run on.
  """
  if wanted or devices[0].platform == "cpu":
    return wanted or 1
  common = math.gcd(*intervals)
  return max(n for n in range(1, 101) if not common % n)


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
  if mallopt is not None:  # Not so in every C library.
    max_mapped, trim_threshold = -4, -1
    mallopt(max_mapped, 0)
    mallopt(trim_threshold, 2**31 - 1)
    jax.config.update("jax_cpu_enable_async_dispatch", False)


def cache_compilations(folder: str) -> None:
  """Keeps what XLA compiles in `folder`, unless JAX was told of another one.

  A second start of the same program then compiles nothing. Beyond 4 GB what
  was used longest ago is deleted.
  """
  option = "jax_compilation_cache_dir"
  if getattr(jax.config, option) is None:
    jax.config.update("jax_compilation_cache_max_size", 4 * 2**30)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    jax.config.update(option, folder)
    compilation_cache.reset_cache()  # It may have been found to be off.


def local(tree: Any) -> Any:
  """Returns one device's copy of a state that every device holds."""
  if isinstance(tree, Member):
    return jax.tree.map(lambda x: x[tree.index], local(tree.stacked))
  return jax.tree.map(lambda x: x.addressable_data(0), tree)


class Member:
  """A member's part of a stacked tree, taken when it is read (`local`).

  Most steps read nothing, and slices of all leaves would take longer.
  """

  def __init__(self, stacked: Any, index: int):
    """Takes the tree, and the member's place on the first axis."""
    self.stacked, self.index = stacked, index
