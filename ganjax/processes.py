"""Processes: one run on many machines, each with a process of its own.

Every process makes every step, on its own devices and with its own share of
each batch. Only the first process has the run's folder: the others are given
what it read, so that all hold the same whatever is on their disks.
"""

import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from ganjax import errors

# Where a cluster says how many processes its step has: a number, or names.
COUNTS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")
NAMES = "TPU_WORKER_HOSTNAMES"

T = TypeVar("T")
# A `jax.Device`, which JAX does not show to type checkers.
Device: TypeAlias = Any


def connect(
  coordinator: str = "", num_processes: int = 0, process_id: int = -1
) -> None:
  """Joins the other processes of a run; nothing happens where there are none.

  It has to be called before anything asks JAX for its devices.

  Args:
    coordinator: `HOST:PORT` of the first process; "auto" to leave all to what
      JAX finds in the cluster's environment. Without a coordinator "auto" is
      taken within SLURM's `srun`, Open MPI's `mpirun` and TPU slices that name
      their workers.
    num_processes: of the run, with a `HOST:PORT`.
    process_id: of this one, from 0, with a `HOST:PORT`.

  Raises:
    UserError: the numbers do not fit, or the others do not answer.
  """
  if not coordinator and (num_processes or process_id >= 0):
    raise errors.UserError(
      "--num_processes and --process_id need --coordinator=HOST:PORT"
    )
  if coordinator in ("", "auto"):
    if not (coordinator or _in_cluster()):
      return
    given: dict[str, Any] = {}
  elif ":" not in coordinator or not 0 <= process_id < num_processes:
    raise errors.UserError(
      f"--coordinator={coordinator} needs HOST:PORT, --num_processes=N and "
      "--process_id from 0 to N - 1"
    )
  else:
    given = dict(
      coordinator_address=coordinator,
      num_processes=num_processes,
      process_id=process_id,
    )
  try:
    jax.distributed.initialize(**given)
  except (ValueError, RuntimeError) as error:
    text = " ".join(str(error).split())[:300]
    raise errors.UserError(
      f"the processes of this run do not find each other: {text}"
    ) from error
  # The processes meet now, while all are here: later the others may wait long
  # for the first one.
  agree(None)


def _in_cluster() -> bool:
  """Returns whether a cluster started several processes of this program."""
  several = any(int(os.environ.get(name) or 1) > 1 for name in COUNTS)
  return several or "," in os.environ.get(NAMES, "")


def is_first() -> bool:
  """Returns whether this process is the one that reads and writes the run."""
  return jax.process_index() == 0


def devices() -> list[Device]:
  """Returns the devices of all processes, those of the first one first."""
  return sorted(jax.devices(), key=lambda device: device.process_index)


def own(devices: Sequence[Device]) -> list[int]:
  """Returns the places among `devices` of those that are this process's."""
  index = jax.process_index()
  return [i for i, d in enumerate(devices) if d.process_index == index]


def part(devices: Sequence[Device]) -> tuple[int, int]:
  """Returns `(index, count)`: which share of each batch is this process's."""
  indices = sorted({device.process_index for device in devices})
  return indices.index(jax.process_index()), len(indices)


def agree(value: Any) -> Any:
  """Returns the first process's value in all processes.

  Args:
    value: of this process, made of what JSON knows.
  """
  if jax.process_count() == 1:
    return value
  # Arrays alone can be sent, and of one shape: the length goes first.
  text = np.frombuffer(json.dumps(value).encode(), np.uint8)
  size = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
  text = np.resize(text, size)
  return json.loads(bytes(multihost_utils.broadcast_one_to_all(text)))


def raise_on_all(function: Callable[..., T], *args: Any) -> T:
  """Calls a function in all processes; a user error in one is raised in all.

  Without it the others would wait for the one that failed. Within the function
  no process may wait for another.

  Args:
    function: what is called.
    *args: its arguments.

  Returns:
    What the function returned in this process.

  Raises:
    UserError: this process's own, or one that says which process had one.
  """
  if jax.process_count() == 1:
    return function(*args)
  found: Any = None
  own_error = None
  try:
    found = function(*args)
  except errors.UserError as error:
    own_error = error
  failed = multihost_utils.process_allgather(np.array(own_error is not None))
  if own_error is not None:
    raise own_error
  if failed.any():
    raise errors.UserError(
      f"process {int(failed.argmax())} of this run stopped with an error"
    )
  return found


def lost(error: Exception) -> str:
  """Returns what to say of an error that comes of another process's end.

  Returns "" for an error that comes of anything else.
  """
  several = jax.process_count() > 1
  if not (several and isinstance(error, jax.errors.JaxRuntimeError)):
    return ""
  text = " ".join(str(error).split())[:200]
  return (
    "another process of this run has ended or cannot be reached; the same "
    f"commands resume ({text})"
  )


def leave(code: int) -> None:
  """Ends this process at once, if the run has others.

  At a usual exit JAX waits for all processes, and they may wait for this one.
  """
  if jax.process_count() > 1:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def from_first(tree: Any) -> Any:
  """Returns the first process's arrays in all processes.

  Args:
    tree: the arrays; in other processes any of the same shapes and types.
  """
  if jax.process_count() == 1:
    return tree
  return multihost_utils.broadcast_one_to_all(tree)
