"""Checkpoints: Orbax behind one class, and manifests of what it wrote.

Orbax makes a step appear at once and complete, but restores changed bytes
without a word, and tells of a failed save in the background only when it is
asked. So a step counts once its manifest is there, which is written last.
"""

import concurrent.futures
import contextlib
import math
import pathlib
import shutil
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from ganjax import errors
from ganjax.runs import manifest


class _Save(NamedTuple):
  """A save under way.

  Attributes:
    step: that is saved.
    done: its manifest is there, or an error says why not.
  """

  step: int
  done: concurrent.futures.Future[None]


class Checkpoints:
  """The checkpoints of a run, written in the background.

  The newest `keep` are kept, and the best one by a metric. A context manager,
  which waits at its end for the save under way.
  """

  def __init__(
    self,
    folder: pathlib.Path,
    keep: int = 3,
    best: str = "",
    better: str = "lower",
    read_only: bool = False,
  ):
    """Opens `folder`, made if need be.

    Args:
      folder: of the checkpoints alone.
      keep: how many of the newest are kept.
      best: the value by which one more is kept; empty for none.
      better: whether a "lower" or a "higher" one is better.
      read_only: for looking on while another process may write.
    """
    self._folder = folder.absolute()
    self._best = best
    # A run may have begun with another `best`: a step without the value counts
    # as the worst of all.
    worst = {"lower": math.inf, "higher": -math.inf}[better]

    def value(values: Mapping[str, float]) -> float:
      return values.get(best, worst)

    policies: list[Any] = [checkpoint_managers.LatestN(keep)]
    if best:
      policies.append(
        checkpoint_managers.BestN(
          get_metric_fn=value,
          n=1,
          reverse=better == "lower",  # The last one in order is the best.
          keep_checkpoints_without_metrics=False,
        )
      )
    multiprocessing = ocp.options.MultiprocessingOptions()
    if jax.process_count() > 1:
      # One process writes for all. By default Orbax would wait for the others.
      index = jax.process_index()
      multiprocessing = ocp.options.MultiprocessingOptions(
        primary_host=index, active_processes={index}
      )
    if not read_only:
      self._folder.mkdir(parents=True, exist_ok=True)
    self._manager = ocp.CheckpointManager(
      self._folder,
      options=ocp.CheckpointManagerOptions(
        preservation_policy=checkpoint_managers.AnyPreservationPolicy(policies),
        # Without a `best_fn` Orbax does not write the metrics to disk, and
        # a resumed run would forget which step was the best.
        best_fn=value if best else None,
        best_mode={"lower": "min", "higher": "max"}[better],
        cleanup_tmp_directories=not read_only,
        create=False,
        multiprocessing_options=multiprocessing,
        enable_async_checkpointing=True,
      ),
    )
    # One thread, which seals one save after the other.
    self._pool = concurrent.futures.ThreadPoolExecutor(1, "checkpoint")
    self._saving: _Save | None = None

  def save(self, step: int, state: Any, values: dict[str, float]) -> None:
    """Saves `state` as `step`; returns once the state may change.

    Args:
      step: later than every saved one.
      state: a pytree of arrays.
      values: name -> value of the metrics at this step; empty if it was not
        scored.

    Raises:
      FloatingPointError: the state is not finite, and was not saved.
      SaveError: this save or the one before failed.
    """
    self.wait()
    # To the host, where it is looked at and written.
    state = jax.tree.map(np.asarray, state)
    if name := not_finite(state):
      raise FloatingPointError(
        f"step {step}: {name} is not finite; the checkpoints of steps "
        f"{self.steps()} are good"
      )
    try:
      saved = self._manager.save(
        step,
        args=ocp.args.Composite(state=ocp.args.StandardSave(state)),
        metrics=values if self._best in values else None,
      )
    except Exception as error:  # What the disk's library raises is of no kind.
      raise self._failed(step, error) from error
    if not saved:
      raise errors.SaveError(
        f"the checkpoint of step {step} was not written: {self._folder} holds "
        f"steps {self.steps()}"
      )
    facts = manifest.facts_of(state)
    self._saving = _Save(step, self._pool.submit(self._seal, step, facts))

  def poll(self) -> None:
    """Looks whether the save under way has failed; does not wait for it.

    Raises:
      SaveError: it has.
    """
    if self._saving is not None and self._saving.done.done():
      self.wait()

  def wait(self) -> None:
    """Waits for the save under way, if there is one.

    Raises:
      SaveError: it has failed. The error is raised once.
    """
    if self._saving is None:
      return
    saving = self._saving
    self._saving = None
    try:
      saving.done.result()
    except Exception as error:
      raise self._failed(saving.step, error) from error

  def _seal(self, step: int, leaves: Mapping[str, manifest.Facts]) -> None:
    """Waits until Orbax is done, and writes the manifest: the step counts."""
    self._manager.wait_until_finished()
    manifest.write(self._folder / str(step), leaves)

  def _failed(self, step: int, reason: object) -> errors.SaveError:
    """Deletes what there is of a step, and returns the error that says so."""
    # What Orbax believes of this step would keep it from saving it again.
    shutil.rmtree(self._folder / str(step), ignore_errors=True)
    self._manager.reload()
    text = " ".join(str(reason).split())[:300]
    return errors.SaveError(
      f"the checkpoint of step {step} could not be written: {text}; good are "
      f"those of steps {self.steps()}, from which the same command resumes"
    )

  def steps(self) -> list[int]:
    """Returns the steps whose checkpoints are finished, ascending."""
    steps = sorted(self._manager.all_steps())
    return [s for s in steps if manifest.exists(self._folder / str(s))]

  def best(self) -> int:
    """Returns the step with the best value so far.

    Raises:
      UserError: none of the saved steps has been scored.
    """
    self.wait()
    step = self._manager.best_step()
    if step is None or self._best not in (self._manager.metrics(step) or {}):
      raise errors.UserError(f"no checkpoint in {self._folder} has a score yet")
    return step

  def resume(self, like: Any) -> tuple[int, Any]:
    """Returns the newest intact step and its state, or 0 and None.

    Newer steps that are damaged or were not finished are renamed, with a
    warning. The last one of each kind is kept for whoever wants to look at it.

    Args:
      like: as for `restore`.

    Raises:
      UserError: there are checkpoints and none is intact.
    """
    self.wait()
    found = 0
    problems: dict[pathlib.Path, str] = {}
    for step in sorted(self._manager.all_steps(), reverse=True):
      folder = self._folder / str(step)
      problem = manifest.problem(folder)
      if not problem:
        found = step
        break
      problems[folder] = f"the checkpoint of step {step} {problem}"
    # A kill during the first save leaves one step that is not finished: the run
    # begins anew. More than that, or a step that was finished, is a disk that
    # loses data: to begin anew would hide that, and overwrite the run.
    not_by_a_kill = len(problems) > 1 or any(map(manifest.exists, problems))
    if not found and not_by_a_kill:
      raise errors.UserError(
        f"no checkpoint in {self._folder} is intact: "
        f"{'; '.join(problems.values())}. Restore a copy of one, or give "
        "another --workdir to begin anew"
      )
    for folder, problem in problems.items():
      self._set_aside(folder, problem)
    if not found:
      return 0, None
    return found, self.restore(like, found)

  def _set_aside(self, folder: pathlib.Path, problem: str) -> None:
    """Renames a step so that it counts no more, and says so."""
    why = "damaged" if manifest.exists(folder) else "unfinished"
    for old in self._folder.glob(f"*.{why}"):
      shutil.rmtree(old, ignore_errors=True)
    aside = folder.rename(folder.with_name(f"{folder.name}.{why}"))
    self._manager.reload()
    print(f"warning: {problem}; it is now {aside.name}", file=sys.stderr)

  def restore(self, like: Any, step: int | None = None) -> Any:
    """Returns a saved state as host arrays.

    Args:
      like: a pytree with the state's structure, shapes and types.
      step: which one; the newest if None.

    Raises:
      UserError: there is no such step, it is damaged, or its leaves are not
        those of `like`.
    """
    self.wait()
    steps = self.steps()
    if step is None:
      step = max(steps, default=None)
    if step is None or step not in steps:
      wanted = "" if step is None else f" of step {step}"
      raise errors.UserError(
        f"no checkpoint{wanted} in {self._folder}; "
        f"there are: {', '.join(map(str, steps)) or 'none'}"
      )
    name = f"the checkpoint of step {step}"
    folder = self._folder / str(step)
    problem = manifest.problem(folder)
    if problem:
      raise errors.UserError(f"{name} {problem}")
    # Before Orbax looks, so that the error names one leaf and both sides of it.
    difference = manifest.difference(folder, manifest.facts_of(like))
    if difference:
      raise errors.UserError(f"{name} does not fit: {difference}")
    restored = self._manager.restore(
      step,
      args=ocp.args.Composite(state=ocp.args.StandardRestore(_zeros(like))),
    )
    return restored["state"]

  def __enter__(self) -> "Checkpoints":
    """Returns itself."""
    return self

  def __exit__(self, *exception: object) -> None:
    """Waits for the last save; raises what went wrong in it."""
    try:
      self.wait()
    except errors.SaveError:
      with contextlib.suppress(Exception):  # It tells of the same again.
        self._manager.close()
      raise
    finally:
      self._pool.shutdown()
    self._manager.close()


class NoCheckpoints:
  """In place of `Checkpoints` in a process that leaves them to another.

  The other process reads and writes, and what it restored comes from it.
  """

  def __init__(self, *_: object):
    """Takes what `Checkpoints` takes."""

  def save(self, step: int, state: Any, values: dict[str, float]) -> None:
    """Refuses what `Checkpoints` refuses, and saves nothing."""
    del values
    if name := not_finite(state):
      raise FloatingPointError(f"step {step}: {name} is not finite")

  def poll(self) -> None:
    """Does nothing: a failure ends the other process."""

  def wait(self) -> None:
    """Does nothing, as `poll`."""

  def steps(self) -> list[int]:
    """Returns none."""
    return []

  def resume(self, like: Any) -> tuple[int, Any]:
    """Returns 0, and arrays of zeros."""
    return 0, _zeros(like)

  def __enter__(self) -> "NoCheckpoints":
    """Returns itself."""
    return self

  def __exit__(self, *exception: object) -> None:
    """Does nothing."""


def not_finite(state: Any) -> str:
  """Returns the path of the first leaf that is not finite, or ""."""
  for path, leaf in jax.tree_util.tree_leaves_with_path(state):
    if not np.isfinite(leaf).all():
      return jax.tree_util.keystr(path)
  return ""


def _zeros(like: Any) -> Any:
  """Returns host arrays of the shapes and types of a pytree."""
  return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like)
