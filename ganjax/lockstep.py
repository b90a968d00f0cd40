"""Steps of many members at once: as one program, or one after another."""

import functools
import json
import operator
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ganjax import configs, dispatch, loop, parallel

LARGEST = 2**16  # Numbers of a kernel that gains from `vmap` on a CPU.


class Taker:
  """Takes the steps that members want.

  Attributes:
    mapping: "vmap", one program with an axis of members, or "loop".
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
    self._members, self._made = dict(named), {}
    self._keys: list[jax.Array] = []
    if self.mapping == "vmap":
      self._step = self._make(whole, members=True)

  def _make(self, config: configs.Config, members: bool = False):
    arrays, feed = self._parts.feed.arrays, self._parts.feed
    system = configs.build(
      config, arrays.images.shape[1:], arrays.num_classes, parallel.AXIS
    )
    return dispatch.make_step(
      system, self._parts.prepare, feed.devices, feed.streams, members
    )

  def _single(self, name: str):
    """Returns a member's step by itself; those of other seeds share it."""
    config = self._members[name].to_dict() | dict(seed=0)
    key = json.dumps(config, sort_keys=True)
    if key not in self._made:
      self._made[key] = self._make(self._members[name])
    return self._made[key]

  def __call__(
    self, wanted: Mapping[str, loop.Step], alone: bool
  ) -> dict[str, tuple[Any, Any]]:
    """Returns name -> `(state, metrics)` of the steps that are wanted.

    Args:
      wanted: name -> step, all of the same number.
      alone: whether other members are elsewhere.
    """
    if self.mapping == "vmap" and not alone:
      return self._together(wanted)
    return {
      name: self._single(name)(*step._replace(state=self._own(step.state)))
      for name, step in wanted.items()
    }

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

  A convolution over members is a grouped one, which is slow on CPU: there only
  small dense networks take steps as one (results/population.md).
  """
  wanted = config.population.mapping
  if wanted != "auto":
    return wanted
  if parts.feed.devices[0].platform != "cpu":
    return "vmap"
  leaves = jax.tree.leaves(parts.like)
  small = all(x.ndim < 3 and x.size <= LARGEST for x in leaves)
  return "vmap" if small else "loop"


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
