"""Processes: one run on many machines, told apart here.

Every process takes every step, on its own devices and its own share of each
batch. The first alone has the run's folder: the others are given what it read,
so that all are alike whatever their disks hold.
"""

import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from ganjax import errors

# Where a cluster says how many processes its step has: a number, or names.
COUNTS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")
NAMES = "TPU_WORKER_HOSTNAMES"


def connect(
  coordinator: str = "", num_processes: int = 0, process_id: int = -1
) -> None:
  """Joins the other processes of a run; nothing happens where there are none.

  Before anything asks JAX for its devices.

  Args:
    coordinator: `HOST:PORT` of the first process; "auto" to leave all to what
      JAX finds in the cluster's environment, as is done without being asked
      within SLURM's `srun`, Open MPI's `mpirun` and TPU slices that name their
      workers.
    num_processes: of the run, with a `HOST:PORT`.
    process_id: of this one, from 0, with a `HOST:PORT`.

  Raises:
    UserError: numbers that do not fit, or the others do not answer.
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
  # Now, while all are here: later the others may wait long for the first.
  agree(None)


def _in_cluster() -> bool:
  several = any(int(os.environ.get(name) or 1) > 1 for name in COUNTS)
  return several or "," in os.environ.get(NAMES, "")


def is_first() -> bool:
  """Returns whether this process is the one that reads and writes the run."""
  return jax.process_index() == 0


def devices() -> list[Any]:
  """Returns the devices of all processes, those of the first one first."""
  return sorted(jax.devices(), key=lambda device: device.process_index)


def own(devices: Sequence[Any]) -> list[int]:
  """Returns at which places of `devices` those of this process are."""
  index = jax.process_index()
  return [i for i, d in enumerate(devices) if d.process_index == index]


def part(devices: Sequence[Any]) -> tuple[int, int]:
  """Returns `(index, count)`: which share of each batch is this process's."""
  indices = sorted({device.process_index for device in devices})
  return indices.index(jax.process_index()), len(indices)


def agree(value: Any) -> Any:
  """Returns the first process's value, made of what JSON knows."""
  if jax.process_count() == 1:
    return value
  text = np.frombuffer(json.dumps(value).encode(), np.uint8)
  size = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
  text = np.resize(text, size)
  return json.loads(bytes(multihost_utils.broadcast_one_to_all(text)))


def together(function: Callable[..., Any], *args: Any) -> Any:
  """Calls a function; all processes stop if it is a user error in one of them.

  Else they would wait for that one. Within, none may wait for another.

  Raises:
    UserError: that of this process, or one that says which process had one.
  """
  if jax.process_count() == 1:
    return function(*args)
  found = own = None
  try:
    found = function(*args)
  except errors.UserError as error:
    own = error
  failed = multihost_utils.process_allgather(np.array(own is not None))
  if own is not None:
    raise own
  if failed.any():
    raise errors.UserError(
      f"process {int(failed.argmax())} of this run stopped with an error"
    )
  return found


def lost(error: Exception) -> str:
  """Returns what to say of an error that another process's end is, or ""."""
  several = jax.process_count() > 1
  if not (several and isinstance(error, jax.errors.JaxRuntimeError)):
    return ""
  text = " ".join(str(error).split())[:200]
  return (
    "another process of this run has ended or cannot be reached; the same "
    f"commands resume ({text})"
  )


def leave(code: int) -> None:
  """Ends this process if there are others, which it does not wait for.

  At a usual exit JAX waits for all, and they may wait for this one.
  """
  if jax.process_count() > 1:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def from_first(tree: Any) -> Any:
  """Returns the first process's arrays; the others give some of their shape."""
  if jax.process_count() == 1:
    return tree
  return multihost_utils.broadcast_one_to_all(tree)
