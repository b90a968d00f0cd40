"""What a run does when its numbers are no longer finite."""

import json
import pathlib
from typing import Any

import jax
import numpy as np

from ganjax import errors, files, processes

MAX_RETRIES = 3
# Streams of a seed; the n-th retry trains with the stream TRAINING + n.
INITIALISATION, TRAINING = 0, 1


class NotFinite(FloatingPointError):
  """A step made numbers that are not finite.

  Attributes:
    step: the first such step that is known, counted from 1.
    row: what the step said of itself.
  """

  def __init__(self, step: int, row: dict[str, Any], text: str):
    """Takes the step, its row and what to tell the user."""
    super().__init__(text)
    self.step, self.row = step, row


class Retries:
  """From which steps a run was rolled back; kept in its workdir.

  A step would fail in the same way again: from there on randomness is another.
  """

  def __init__(self, workdir: pathlib.Path):
    """Reads what a run has tried before."""
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
    before = sum(start <= step for start in self.steps)
    return jax.random.fold_in(jax.random.key(seed), TRAINING + before)


def dump(
  workdir: pathlib.Path, error: NotFinite, batch: Any, key: jax.Array
) -> pathlib.Path:
  """Writes what a step was made of; returns the first process's .npz with it.

  Args:
    workdir: of the run.
    error: of the step.
    batch: of the step, `images` and `labels`, as stored.
    key: of the step.
  """
  path = workdir / "faults" / f"{error.step:08d}.npz"
  if not processes.is_first():
    return path
  path.parent.mkdir(exist_ok=True)
  arrays: Any = dict(images=batch.images, key=jax.random.key_data(key))
  if batch.labels is not None:
    arrays["labels"] = batch.labels
  np.savez(path, **arrays)
  files.write_json(path.with_suffix(".json"), error.row)
  return path
