"""Steps of many members at once: as one program, or each by itself."""

import functools
import json
import operator
import os
from collections.abc import Iterator, Mapping
from concurrent import futures
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ganjax.runs import configs
from ganjax.training import loop, program

# A kernel of more numbers gains nothing from `vmap` on a CPU.
LARGEST = 2**15


class PopulationStepper:
  """Makes the steps that the members of a population ask for.

  Attributes:
    mapping: "vmap", one program with an axis of members, or "loop", each
      member's own program, on a CPU as many at once as it has cores.
    names: of the members.
  """

  def __init__(
    self,
    whole: configs.Config,
    named: Mapping[str, configs.Config],
    parts: loop.TrainingParts,
  ):
    """Chooses the mapping, and makes the steps.

    Args:
      whole: of the step of all, in which numbers may be an "of_member".
      named: name -> config of each member.
      parts: what the members share.
    """
    self.mapping = _mapping(whole, parts)
    self.names = list(named)
    self._parts = parts
    self._singles = self._single_steps(named)
    if self.mapping == "vmap":
      self._whole = self._make_step(whole, members=True)
      self._state: Any = None  # Of all members, stacked.
      self._keys: list[jax.Array] = []
      self._stacked_keys: jax.Array | None = None
    self._running: dict[str, futures.Future[loop.Answer]] = {}
    self._pool = None
    devices = parts.feed.devices
    # Collectives of several steps at once would wait for each other.
    alone = len(devices) == 1 and devices[0].platform == "cpu"
    if self.mapping == "loop" and alone:
      self._pool = futures.ThreadPoolExecutor(_cores())

  def _make_step(
    self, config: configs.Config, members: bool = False
  ) -> program.StepFunction:
    """Returns the step of a config, of one member or of all."""
    feed = self._parts.feed
    arrays = feed.arrays
    system = configs.build(config, arrays.images.shape[1:], arrays.num_classes)
    return program.make_step(
      system, self._parts.prepare, feed.devices, feed.streams, members
    )

  def _single_steps(
    self, named: Mapping[str, configs.Config]
  ) -> dict[str, program.StepFunction]:
    """Returns name -> step of a member by itself.

    Members that differ in their seeds alone share a step, which compiles once.
    """
    made: dict[str, program.StepFunction] = {}
    steps: dict[str, program.StepFunction] = {}
    for name, member in named.items():
      seedless = {**member.to_dict(), "seed": 0}
      key = json.dumps(seedless, sort_keys=True)
      if key not in made:
        made[key] = self._make_step(member)
      steps[name] = made[key]
    return steps

  def __call__(self, wanted: Mapping[str, loop.Step]) -> dict[str, loop.Answer]:
    """Returns name -> `(state, metrics)` of at least one of the steps.

    The others are to be asked for again. Where members wait for each other,
    those who are behind come first.
    """
    if self._pool:
      return self._first_of(wanted, self._pool)
    behind = min(step.step for step in wanted.values())
    group = {
      name: wanted[name]
      for name in self.names
      if name in wanted and wanted[name].step == behind
    }
    if self.mapping == "vmap" and len(group) == len(wanted):
      return self._step_all(group)
    return {name: self._step_one(name, step) for name, step in group.items()}

  def _first_of(
    self, wanted: Mapping[str, loop.Step], pool: futures.Executor
  ) -> dict[str, loop.Answer]:
    """Makes several steps at once; returns those that ended first."""
    running = self._running
    for name, step in wanted.items():
      if name not in running:
        running[name] = pool.submit(self._step_one, name, step)
    done, _ = futures.wait(
      running.values(), return_when=futures.FIRST_COMPLETED
    )
    ended = [name for name in self.names if running.get(name) in done]
    return {name: running.pop(name).result() for name in ended}

  def _step_one(self, name: str, step: loop.Step) -> loop.Answer:
    """Makes a member's step by itself."""
    state = step.state
    if isinstance(state, program.Member):
      on_host = jax.device_get(program.local(state))
      state = program.replicate(on_host, self._parts.feed.devices)
    step_fn = self._singles[name]
    return step_fn(state, step.arrays, step.indices, step.key, step.step)

  def _step_all(
    self, wanted: Mapping[str, loop.Step]
  ) -> dict[str, loop.Answer]:
    """Makes one step for all; the places of members that ended run idle."""
    some = next(iter(wanted.values()))
    # Any step serves for an idle place: nobody reads what comes of it.
    filled = [wanted.get(name, some) for name in self.names]
    if not all(self._is_current(step.state) for step in wanted.values()):
      self._stack_states(filled)
    self._state, metrics = self._whole(
      self._state,
      some.arrays,
      # After the axes of devices and of steps, see `program.make_step`.
      jax.tree.map(lambda *x: np.stack(x, 2), *[x.indices for x in filled]),
      self._stack_keys([step.key for step in filled]),
      some.step,
    )
    rows = Rows(metrics)
    return {
      name: (program.Member(self._state, i), Row(rows, i))
      for i, name in enumerate(self.names)
      if name in wanted
    }

  def _is_current(self, state: Any) -> bool:
    """Returns whether a state is a part of the stacked one."""
    return isinstance(state, program.Member) and state.stacked is self._state

  def _stack_states(self, steps: list[loop.Step]) -> None:
    """Stacks the members' states anew, as after a start or a step alone."""
    states = [jax.device_get(program.local(step.state)) for step in steps]
    whole = jax.tree.map(lambda *x: np.stack(x), *states)
    self._state = program.replicate(whole, self._parts.feed.devices)

  def _stack_keys(self, keys: list[jax.Array]) -> jax.Array:
    """Returns the keys as one array, made again only if one has changed."""
    same = len(self._keys) == len(keys) and all(
      map(operator.is_, keys, self._keys)
    )
    if self._stacked_keys is None or not same:
      self._keys = keys
      self._stacked_keys = jnp.stack(keys)
    return self._stacked_keys


def _mapping(config: configs.Config, parts: loop.TrainingParts) -> str:
  """Returns how members make a step.

  A convolution over members is a grouped one, which is slow on a CPU; there an
  axis of members pays for small dense nets alone, and other members make their
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
  """A step's metrics of all members, read from the device at most once."""

  def __init__(self, metrics: program.Metrics):
    """Takes name -> `[members]`, on a device."""
    self._metrics = metrics

  @functools.cached_property
  def host(self) -> dict[str, np.ndarray]:
    """Returns them as NumPy arrays."""
    return jax.device_get(self._metrics)


class Row(Mapping[str, Any]):
  """A member's metrics of a step, name -> number, read when it is looked at."""

  def __init__(self, rows: Rows, index: int):
    """Takes those of all members and this one's place."""
    self._rows = rows
    self._index = index

  def __getitem__(self, name: str) -> Any:
    """Returns a number."""
    return self._rows.host[name][self._index]

  def __iter__(self) -> Iterator[str]:
    """Returns the names."""
    return iter(self._rows.host)

  def __len__(self) -> int:
    """Returns how many there are."""
    return len(self._rows.host)
