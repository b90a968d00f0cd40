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
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from ganjax import errors
from ganjax.runs import manifest


class Checkpoints:
  """The checkpoints of a run, written in the background.

  The newest `keep` are kept, and the best one by a metric.
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
    policies: list[Any] = [checkpoint_managers.LatestN(keep)]
    # A run may have begun with another `best`.
    worst = {"lower": math.inf, "higher": -math.inf}[better]
    value = lambda values: values.get(best, worst)
    if best:
      policies.append(
        checkpoint_managers.BestN(
          get_metric_fn=value,
          n=1,
          reverse=better == "lower",  # the last one in order is the best
          keep_checkpoints_without_metrics=False,
        )
      )
    policy = checkpoint_managers.AnyPreservationPolicy(policies)
    self._folder, self._read_only = folder.absolute(), read_only
    self._best = best
    if not read_only:
      self._folder.mkdir(parents=True, exist_ok=True)
    alone: dict[str, Any] = {}
    if jax.process_count() > 1:  # Orbax would wait for the others.
      index = jax.process_index()
      alone = dict(primary_host=index, active_processes={index})
    self._manager = ocp.CheckpointManager(
      self._folder,
      options=ocp.CheckpointManagerOptions(
        preservation_policy=policy,
        # Without a `best_fn` Orbax does not write the metrics to disk, and
        # a resumed run would forget which step was the best.
        best_fn=value if best else None,
        best_mode={"lower": "min", "higher": "max"}[better],
        cleanup_tmp_directories=not read_only,
        create=False,
        multiprocessing_options=ocp.options.MultiprocessingOptions(**alone),
        enable_async_checkpointing=True,
      ),
    )
    self._pool = concurrent.futures.ThreadPoolExecutor(1, "checkpoint")
    # The save under way: its step, and when its manifest will be there.
    self._saving: tuple[int, concurrent.futures.Future] | None = None

  def save(self, step: int, state: Any, values: dict[str, float]) -> None:
    """Saves `state` as `step`; returns once the state may change.

    Args:
      step: later than every saved one.
      state: a pytree of arrays.
      values: of the metrics at this step.

    Raises:
      FloatingPointError: the state is not finite, and was not saved.
      SaveError: this save or the one before failed.
    """
    self.wait()
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
    self._saving = step, self._pool.submit(self._seal, step, facts)

  def poll(self) -> None:
    """Looks whether the save under way has failed; does not wait for it.

    Raises:
      SaveError: it has.
    """
    if self._saving and self._saving[1].done():
      self.wait()

  def wait(self) -> None:
    """Waits for the save under way; raises as `poll`."""
    if self._saving is None:
      return
    (step, future), self._saving = self._saving, None
    try:
      future.result()
    except Exception as error:
      raise self._failed(step, error) from error

  def _seal(self, step: int, leaves: dict[str, Any]) -> None:
    """Waits until Orbax is done, and writes the manifest."""
    self._manager.wait_until_finished()
    manifest.write(self._folder / str(step), leaves)

  def _failed(self, step: int, reason: object) -> errors.SaveError:
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

    What is damaged or was not finished is renamed, and said; of each kind one
    is kept.

    Args:
      like: as for `restore`.

    Raises:
      UserError: there are checkpoints and none is intact.
    """
    self.wait()
    found, problems = 0, {}
    for step in sorted(self._manager.all_steps(), reverse=True):
      folder = self._folder / str(step)
      if not (problem := manifest.problem(folder)):
        found = step
        break
      problems[folder] = f"the checkpoint of step {step} {problem}"
    # A kill leaves one that is not finished; more are of something else.
    if not found and (len(problems) > 1 or any(map(manifest.exists, problems))):
      raise errors.UserError(
        f"no checkpoint in {self._folder} is intact: "
        f"{'; '.join(problems.values())}. Restore a copy of one, or give "
        "another --workdir to begin anew"
      )
    for folder, problem in problems.items():
      self._set_aside(folder, problem)
    return found, self.restore(like, found) if found else None

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
    name, folder = f"the checkpoint of step {step}", self._folder / str(step)
    if problem := manifest.problem(folder):
      raise errors.UserError(f"{name} {problem}")
    if difference := manifest.difference(folder, manifest.facts_of(like)):
      raise errors.UserError(f"{name} does not fit: {difference}")
    target = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like)
    restored = self._manager.restore(
      step, args=ocp.args.Composite(state=ocp.args.StandardRestore(target))
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
  """In place of `Checkpoints` in a process that leaves them to another."""

  def __init__(self, *_):
    """Takes what `Checkpoints` takes."""

  def save(self, step: int, state: Any, values: dict[str, float]) -> None:
    """Refuses what `Checkpoints` refuses, and saves nothing."""
    del values
    if name := not_finite(state):
      raise FloatingPointError(f"step {step}: {name} is not finite")

  def poll(self) -> None:
    """Does nothing: a failure ends the other process."""

  def steps(self) -> list[int]:
    """Returns none."""
    return []

  def resume(self, like: Any) -> tuple[int, Any]:
    """Returns 0, and arrays of zeros."""
    return 0, jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like)

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
