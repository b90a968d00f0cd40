"""What a run does when its numbers are no longer finite.

The batch and the key of the first bad step are kept, to look at. With
`config.on_nan="rollback"` the run then goes on from its last checkpoint with
other randomness. `Retries` remembers that, so that a resumed run draws as the
unbroken one.
"""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from ganjax import data, errors, files, processes

MAX_RETRIES = 3
# What is folded into a run's seed: 0 for its first parameters, 1 for training,
# 1 + n for training after the n-th rollback.
INITIALISATION = 0
TRAINING = 1


class NotFinite(FloatingPointError):
  """A step made numbers that are not finite.

  Attributes:
    step: the first such step that is known, counted from 1.
    row: what the step said of itself.
  """

  def __init__(self, step: int, row: Mapping[str, Any], text: str):
    """Takes the step, its row and what to tell the user."""
    super().__init__(text)
    self.step = step
    self.row = row


class Retries:
  """The steps to which a run was rolled back; kept in its workdir.

  With the same randomness the same step would fail again: from a step of this
  list on, the run draws from another key.

  Attributes:
    steps: to which the run went back, in the order in which it did.
  """

  def __init__(self, workdir: pathlib.Path):
    """Reads what a run has tried before.

    Raises:
      UserError: the file in the workdir is damaged.
    """
    self._path = workdir / "retries.json"
    self.steps: list[int] = []
    if self._path.is_file():
      try:
        self.steps = json.loads(self._path.read_text())["rolled_back_to"]
      except (ValueError, KeyError, TypeError) as error:
        raise errors.UserError(
          f"{self._path} is damaged ({error!r}): take it from a copy of the run"
        ) from error

  def add(self, step: int, text: str) -> None:
    """Notes that the run goes on from `step` again, and says why.

    Args:
      step: of the checkpoint.
      text: why, as the start of a sentence.

    Raises:
      FloatingPointError: it did so `MAX_RETRIES` times before.
    """
    if len(self.steps) == MAX_RETRIES:
      raise FloatingPointError(
        f"{text}the run went back to an earlier step {MAX_RETRIES} times "
        "already: lower the learning rates"
      )
    self.steps.append(step)
    if processes.is_first():
      files.write_json(self._path, {"rolled_back_to": self.steps})
      print(f"{text}going on from step {step} with other randomness")

  def key(self, seed: int, step: int) -> jax.Array:
    """Returns the key of training after `step` steps."""
    return training_key(seed, sum(start <= step for start in self.steps))


def training_key(seed: int, num_rollbacks: int = 0) -> jax.Array:
  """Returns the key of training, into which each step folds its number."""
  return jax.random.fold_in(jax.random.key(seed), TRAINING + num_rollbacks)


def dump(
  workdir: pathlib.Path, error: NotFinite, batch: data.Arrays, key: jax.Array
) -> pathlib.Path:
  """Writes the batch, the key and the row of a bad step.

  The first process alone writes, but all of them name the file.

  Args:
    workdir: of the run.
    error: of the step.
    batch: of the step, as stored.
    key: of the step.

  Returns:
    The path of the .npz; the row is beside it as .json.
  """
  path = workdir / "faults" / f"{error.step:08d}.npz"
  if not processes.is_first():
    return path
  path.parent.mkdir(exist_ok=True)
  arrays = {"images": batch.images, "key": jax.random.key_data(key)}
  if batch.labels is not None:
    arrays["labels"] = batch.labels
  np.savez(path, **arrays)
  files.write_json(path.with_suffix(".json"), error.row)
  return path
