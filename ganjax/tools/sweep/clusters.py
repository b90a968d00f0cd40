"""Cells as tasks of Ray and as jobs of SLURM."""

import importlib
import pathlib
import signal
from collections.abc import Callable
from types import ModuleType
from typing import Any

from ganjax import errors
from ganjax.tools.sweep import cell as cells
from ganjax.tools.sweep.cell import Cell

MINUTES = 24 * 60  # of a SLURM job, unless said otherwise


class _Remote:
  """What executors of clusters share: the cluster queues by itself."""

  def has_room(self) -> bool:
    """See `executors.Executor`."""
    return True


class RayTask:
  """A task of Ray."""

  def __init__(self, ray, reference, stop: pathlib.Path):
    """Takes Ray, its reference to the result, and the file that stops it."""
    self._ray = ray
    self._reference = reference
    self._stop = stop

  def ended(self) -> bool:
    """See `executors.Task`."""
    done, _ = self._ray.wait([self._reference], timeout=0, fetch_local=False)
    return bool(done)

  def result(self) -> tuple[str, str]:
    """See `executors.Task`."""
    try:
      return self._ray.get(self._reference), "it did not come to its end"
    except self._ray.exceptions.RayError as error:
      return "", _first_line(error)

  def stop(self) -> None:
    """See `executors.Task`; Ray's own way does not wait for the worker."""
    self._stop.parent.mkdir(parents=True, exist_ok=True)
    self._stop.touch()

  def kill(self) -> None:
    """See `executors.Task`."""
    self._ray.cancel(self._reference, force=True)


class Ray(_Remote):
  """Tasks of a Ray cluster: the one that is there, else of this machine."""

  def __init__(self, options: dict[str, Any]):
    """Takes options of a Ray task, such as num_gpus."""
    ray = _imported("ray", "ray", "Ray")
    self._ray = ray
    self._own = not ray.is_initialized()
    if self._own:
      ray.init(log_to_driver=False)
    # One call a process: JAX takes a device, and gives it back when the process
    # ends. The driver tries lost cells again, so that Ray must not.
    options = {"num_cpus": 1, **options, "max_calls": 1, "max_retries": 0}
    self._remote = _with_options(lambda: ray.remote(**options)(_on_ray))

  def start(self, cell: Cell) -> RayTask:
    """See `executors.Executor`."""
    cell = _absolute(cell)
    stop = cell.workdir / cells.STOP
    stop.unlink(missing_ok=True)
    return RayTask(self._ray, self._remote.remote(cell), stop)

  def close(self) -> None:
    """Leaves the cluster."""
    if self._own:
      self._ray.shutdown()


def _on_ray(cell: Cell) -> str:
  """Runs a cell in a worker of Ray."""
  return cells.run_apart(cell)


class SlurmTask:
  """A job of SLURM."""

  def __init__(self, job):
    """Takes submitit's job."""
    self._job = job

  def ended(self) -> bool:
    """See `executors.Task`."""
    return self._job.done()

  def result(self) -> tuple[str, str]:
    """See `executors.Task`."""
    try:
      return self._job.result(), "it did not come to its end"
    except Exception as error:  # A lost job, by any of submitit's names.
      return "", _first_line(error)

  def stop(self) -> None:
    """See `executors.Task`."""
    self._job.cancel(check=False)

  kill = stop


class Slurm(_Remote):
  """Jobs of SLURM, through submitit."""

  def __init__(self, options: dict[str, Any], folder: pathlib.Path):
    """Takes options of submitit, such as slurm_partition, and its folder.

    The option `cluster`, "local" or "debug", makes submitit do without SLURM.
    """
    submitit = _imported("submitit", "slurm", "submitit")
    options = {"name": "ganjax", "timeout_min": MINUTES, **options}
    cluster = options.pop("cluster", "slurm")
    try:
      self._executor = submitit.AutoExecutor(folder, cluster=cluster)
    except (RuntimeError, ValueError) as error:
      raise errors.UserError(_first_line(error)) from error
    _with_options(lambda: self._executor.update_parameters(**options))

  def start(self, cell: Cell) -> SlurmTask:
    """See `executors.Executor`."""
    return SlurmTask(self._executor.submit(_on_slurm, _absolute(cell)))

  def close(self) -> None:
    """Nothing is held."""


def _on_slurm(cell: Cell) -> str:
  """Runs a cell in a job of SLURM."""
  # SLURM sends SIGUSR2 some time before the job's time is up, as submitit asks
  # it to. To training it is the same as SIGTERM: save and end.
  signal.signal(signal.SIGUSR2, lambda *_: signal.raise_signal(signal.SIGTERM))
  return cells.run_apart(cell)


def _absolute(cell: Cell) -> Cell:
  """Returns the cell, with a folder that other machines find."""
  return cell._replace(folder=cell.folder.resolve())


def _imported(module: str, extra: str, title: str) -> ModuleType:
  """Returns a module, or raises a `UserError` that says how to install it."""
  try:
    return importlib.import_module(module)
  except ImportError as error:
    raise errors.UserError(
      f"this executor needs {title}: pip install -e '.[{extra}]'"
    ) from error


def _with_options(make: Callable[[], Any]) -> Any:
  """Returns what `make` does; an option that it does not know is an error."""
  try:
    return make()
  except (NameError, TypeError, ValueError) as error:
    raise errors.UserError(f"--option: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
  text = " ".join(str(error).strip().partition("\n")[0].split())
  return text or type(error).__name__
