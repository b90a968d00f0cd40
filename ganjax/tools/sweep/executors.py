"""Where cells run: in processes of this machine, or on a cluster.

An executor starts cells, each in a process of its own, and the driver asks
their tasks how they are. A worker that is lost takes one task with it.
`clusters.py` has the executors of Ray and SLURM.
"""

import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ganjax import errors
from ganjax.tools.sweep import clusters
from ganjax.tools.sweep.cell import Cell


class Task(Protocol):
  """A cell under way."""

  def ended(self) -> bool:
    """Returns whether it is over, well or not."""
    ...

  def result(self) -> tuple[str, str]:
    """Returns the state of a task that ended, and what happened to it.

    The state is "" of a task that was lost: what happened says how.
    """
    ...

  def stop(self) -> None:
    """Asks it to save and end."""
    ...

  def kill(self) -> None:
    """Ends it at once."""
    ...


class Executor(Protocol):
  """Starts cells."""

  def has_room(self) -> bool:
    """Returns whether another cell may be started now."""
    ...

  def start(self, cell: Cell) -> Task:
    """Starts a cell."""
    ...

  def close(self) -> None:
    """Gives back what is held."""
    ...


class Process:
  """A cell in a process of this machine."""

  def __init__(
    self, cell: Cell, environment: Mapping[str, str], cores: Sequence[int]
  ):
    """Starts the process.

    Args:
      cell: the cell to be run.
      environment: variables beside those of this process.
      cores: which ones it may use; all if empty.
    """
    cell.workdir.mkdir(parents=True, exist_ok=True)
    words = [cell.label, str(cell.seed), str(cell.folder), *cell.argv]
    self._cell = cell
    with cell.log.open("ab") as log:
      self._process = subprocess.Popen(
        [sys.executable, "-u", "-m", "ganjax.tools.sweep.cell", *words],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env={**os.environ, **environment},
        # A terminal's Ctrl-C is for the driver, which tells each cell once.
        start_new_session=True,
      )
    if cores and hasattr(os, "sched_setaffinity"):
      os.sched_setaffinity(self._process.pid, cores)

  def ended(self) -> bool:
    """See `Task`."""
    return self._process.poll() is not None

  def result(self) -> tuple[str, str]:
    """See `Task`."""
    code = self._process.wait()
    if code == 0:
      return self._cell.outcome()[0], "it said nothing of its end"
    if code < 0:
      return "", f"killed by {signal.Signals(-code).name}"
    return "", f"exit code {code}"

  def stop(self) -> None:
    """See `Task`."""
    self._process.terminate()

  def kill(self) -> None:
    """See `Task`."""
    self._process.kill()


class Local:
  """Processes of this machine."""

  def __init__(self, jobs: int, devices: Sequence[str]):
    """Takes how many run at a time, or the GPUs, a run at a time on each."""
    self._slots: list[Process | None] = [None] * (len(devices) or jobs)
    self._devices = devices

  def _free(self) -> list[int]:
    """Returns the places at which a cell may be started."""
    return [i for i, p in enumerate(self._slots) if p is None or p.ended()]

  def has_room(self) -> bool:
    """See `Executor`."""
    return bool(self._free())

  def start(self, cell: Cell) -> Process:
    """See `Executor`."""
    slot = self._free()[0]
    cores = []
    environment = {}
    if self._devices:
      environment["CUDA_VISIBLE_DEVICES"] = self._devices[slot]
    elif len(self._slots) > 1 and hasattr(os, "sched_getaffinity"):
      # Threads of runs side by side would wait for each other.
      every = sorted(os.sched_getaffinity(0))
      cores = every[slot :: len(self._slots)] or every
    process = Process(cell, environment, cores)
    self._slots[slot] = process
    return process

  def close(self) -> None:
    """Nothing is held."""


EXECUTORS = ("local", "ray", "slurm")


def get(
  name: str,
  out: pathlib.Path,
  jobs: int,
  devices: Sequence[str],
  options: dict[str, Any],
) -> Executor:
  """Returns an executor.

  Args:
    name: one of `EXECUTORS`.
    out: folder of the sweep.
    jobs: how many cells run at a time; local only.
    devices: GPUs, a cell at a time on each; local only.
    options: what a cell asks of the cluster, by the cluster's own names.

  Raises:
    UserError: there is no such executor, what it needs is not installed, or
      an option is not its.
  """
  if name == "ray":
    return clusters.Ray(options)
  if name == "slurm":
    return clusters.Slurm(options, out / "submitit")
  if name != "local":
    raise errors.unknown("executor", name, EXECUTORS)
  if options:
    raise errors.UserError("--option is for the executors ray and slurm")
  return Local(jobs, devices)
