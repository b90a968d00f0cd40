"""Steps of many members at once: as one program, or each by itself."""

import functools
import json
import operator
import os
from collections.abc import Mapping
from concurrent import futures
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ganjax import parallel
from ganjax.runs import configs
from ganjax.training import dispatch, loop

LARGEST = 2**15  # Numbers of a kernel that gains from `vmap` on a CPU.


class Taker:
  """Takes the steps that members want.

  Attributes:
    mapping: "vmap", one program with an axis of members, or "loop", the
      members' own program for each, on a CPU as many at once as it has cores.
  """

  def __init__(
    self,
    whole: configs.Config,
    named: Mapping[str, configs.Config],
    parts: loop.Parts,
  ):
    """Chooses how.

    Args:
      whole: of the step of all, in which numbers may be an "of_member".
      named: name -> config of each member.
      parts: which the members share.
    """
    self.mapping = _mapping(whole, parts)
    self.names, self._parts = list(named), parts
    self._state: Any = None  # Of all members, stacked.
    self._keys: list[jax.Array] = []
    if self.mapping == "vmap":
      self._step = self._make(whole, members=True)
    self._single = self._programs(named)
    self._running: dict[str, futures.Future] = {}
    self._pool = None
    devices = parts.feed.devices
    # Collectives of several steps at once would wait for each other.
    alone = len(devices) == 1 and devices[0].platform == "cpu"
    if self.mapping == "loop" and alone:
      self._pool = futures.ThreadPoolExecutor(_cores())

  def _make(self, config: configs.Config, members: bool = False):
    arrays, feed = self._parts.feed.arrays, self._parts.feed
    system = configs.build(config, arrays.images.shape[1:], arrays.num_classes)
    return dispatch.make_step(
      system, self._parts.prepare, feed.devices, feed.streams, members
    )

  def _programs(self, named: Mapping[str, configs.Config]) -> dict[str, Any]:
    """Returns name -> step of a member by itself; other seeds share it."""
    made, result = {}, {}
    for name, member in named.items():
      key = json.dumps(member.to_dict() | dict(seed=0), sort_keys=True)
      made[key] = result[name] = made.get(key) or self._make(member)
    return result

  def __call__(
    self, wanted: Mapping[str, loop.Step]
  ) -> dict[str, tuple[Any, Any]]:
    """Returns name -> `(state, metrics)` of at least one of the steps.

    The others are to be asked for again. Where members wait for each other,
    those who are behind come first.
    """
    if self._pool:
      return self._first_of(wanted, self._pool)
    now = min(step.step for step in wanted.values())
    group = {k: wanted[k] for k in self.names if k in wanted}
    group = {k: step for k, step in group.items() if step.step == now}
    if self.mapping == "vmap" and len(group) == len(wanted):
      return self._together(group)
    return {name: self._alone(name, step) for name, step in group.items()}

  def _alone(self, name: str, step: loop.Step) -> tuple[Any, Any]:
    """Takes a member's step by itself."""
    return self._single[name](*step._replace(state=self._own(step.state)))

  def _first_of(self, wanted, pool):
    """Takes several steps at once; returns those that ended first."""
    running = self._running
    for name, step in wanted.items():
      if name not in running:
        running[name] = pool.submit(self._alone, name, step)
    done, _ = futures.wait(running.values(), None, futures.FIRST_COMPLETED)
    ended = [name for name in self.names if running.get(name) in done]
    return {name: running.pop(name).result() for name in ended}

  def _stacked(self, keys: list[jax.Array]) -> jax.Array:
    """Returns the keys as one array, made again only if one has changed."""
    if not all(map(operator.is_, keys, self._keys)) or not self._keys:
      self._keys, self._all_keys = keys, jnp.stack(keys)
    return self._all_keys

  def _own(self, state: Any) -> Any:
    """Returns a state for a step by itself."""
    if not isinstance(state, parallel.Member):
      return state
    return parallel.replicate(
      jax.device_get(parallel.local(state)), self._parts.feed.devices
    )

  def _together(self, wanted):
    """Takes one step for all; the places of members that ended run idle."""
    some = next(iter(wanted.values()))
    filled = [wanted.get(name, some) for name in self.names]
    stacked = [getattr(step.state, "stacked", None) for step in wanted.values()]
    if any(x is None or x is not self._state for x in stacked):
      states = [jax.device_get(parallel.local(step.state)) for step in filled]
      whole = jax.tree.map(lambda *x: np.stack(x), *states)
      self._state = parallel.replicate(whole, self._parts.feed.devices)
    indices = [step.indices for step in filled]
    self._state, metrics = self._step(
      self._state,
      some.arrays,
      jax.tree.map(lambda *x: np.stack(x, 2), *indices),
      self._stacked([step.key for step in filled]),
      some.step,
    )
    rows = Rows(metrics)
    return {
      name: (parallel.Member(self._state, i), Row(rows, i))
      for i, name in enumerate(self.names)
      if name in wanted
    }


def _mapping(config: configs.Config, parts: loop.Parts) -> str:
  """Returns how members take a step.

  A convolution over members is a grouped one, which is slow on a CPU; there an
  axis of members pays for small dense nets alone, and other members take their
  steps on a core each (results/population.md).
  """
  wanted = config.population.mapping
  if wanted != "auto":
    return wanted
  if parts.feed.devices[0].platform != "cpu":
    return "vmap"
  leaves = jax.tree.leaves(parts.like)
  small = all(x.ndim < 3 and x.size <= LARGEST for x in leaves)
  return "vmap" if small else "loop"


def _cores() -> int:
  """Returns how many cores this process may use."""
  affinity = getattr(os, "sched_getaffinity", None)  # Not on every system.
  return len(affinity(0)) if affinity else os.cpu_count() or 1


class Rows:
  """A step's metrics of all members, read from the device once."""

  def __init__(self, metrics: Any):
    """Takes name -> `[members]`, on a device."""
    self._metrics = metrics

  @functools.cached_property
  def host(self) -> dict[str, np.ndarray]:
    """Returns them as NumPy arrays."""
    return jax.device_get(self._metrics)


class Row(Mapping):
  """A member's metrics of a step: name -> number."""

  def __init__(self, rows: Rows, index: int):
    """Takes those of all members and this one's place."""
    self._rows, self._index = rows, index

  def __getitem__(self, name: str) -> Any:
    """Returns a number."""
    return self._rows.host[name][self._index]

  def __iter__(self):
    """Returns the names."""
    return iter(self._rows.host)

  def __len__(self) -> int:
    """Returns how many there are."""
    return len(self._rows.host)
