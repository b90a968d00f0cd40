"""Checkpoints: Orbax behind one class."""

import pathlib
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from ganjax import errors


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
    if best:
      policies.append(
        checkpoint_managers.BestN(
          get_metric_fn=lambda values: values[best],
          n=1,
          reverse=better == "lower",  # the last one in order is the best
          keep_checkpoints_without_metrics=False,
        )
      )
    policy = checkpoint_managers.AnyPreservationPolicy(policies)
    self._manager = ocp.CheckpointManager(
      folder.absolute(),
      options=ocp.CheckpointManagerOptions(
        preservation_policy=policy,
        # Without a `best_fn` Orbax does not write the metrics to disk, and
        # a resumed run would forget which step was the best.
        best_fn=(lambda values: values[best]) if best else None,
        best_mode={"lower": "min", "higher": "max"}[better],
        cleanup_tmp_directories=not read_only,
        create=not read_only,
        enable_async_checkpointing=True,
      ),
    )

  def save(self, step: int, state: Any, values: dict[str, float]) -> None:
    """Saves `state` as `step`; returns once the state may change.

    Args:
      step: later than every saved one.
      state: a pytree of arrays.
      values: of the metrics at this step.

    Raises:
      FloatingPointError: the state is not finite, and was not saved.
      RuntimeError: nothing was saved.
    """
    state = jax.tree.map(np.asarray, state)
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
      if not np.isfinite(leaf).all():
        raise FloatingPointError(
          f"step {step}: {jax.tree_util.keystr(path)} is not finite; the run "
          f"stopped, and the checkpoints of steps {self.steps()} are good"
        )
    saved = self._manager.save(
      step,
      args=ocp.args.Composite(state=ocp.args.StandardSave(state)),
      metrics=values or None,
    )
    if not saved:
      raise RuntimeError(f"checkpoint of step {step} was not saved")

  def steps(self) -> list[int]:
    """Returns the saved steps, ascending."""
    return sorted(self._manager.all_steps())

  def best(self) -> int:
    """Returns the step with the best value so far.

    Raises:
      UserError: none of the saved steps has been scored.
    """
    step = self._manager.best_step()
    if step is None:
      raise errors.UserError(
        f"no checkpoint in {self._manager.directory} has a score yet"
      )
    return step

  def restore(self, like: Any, step: int | None = None) -> Any:
    """Returns a saved state as host arrays.

    Args:
      like: a pytree with the state's structure, shapes and types.
      step: which one; the newest if None.

    Raises:
      UserError: there is no such step.
    """
    steps = self.steps()
    if step is None:
      step = max(steps, default=None)
    if step not in steps:
      wanted = "" if step is None else f" of step {step}"
      raise errors.UserError(
        f"no checkpoint{wanted} in {self._manager.directory}; "
        f"there are: {', '.join(map(str, steps)) or 'none'}"
      )
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
    self._manager.wait_until_finished()
    self._manager.close()
