"""Stopping between two steps: SIGTERM and SIGINT."""

import os
import signal
import threading
from types import FrameType
from typing import Any

import jax
from jax.experimental import multihost_utils


class Interrupted(KeyboardInterrupt):
  """A run was asked to stop and has saved its state.

  Attributes:
    code: 128 and the signal's number, what a process should exit with.
  """

  def __init__(self, number: int, text: str):
    """Takes the signal's number and what to tell the user."""
    super().__init__(text)
    self.code = 128 + number


class Watch:
  """Notes the first SIGTERM or SIGINT; a second one stops at once.

  A context manager. Python gives signals to the main thread alone: in another
  thread nothing is watched. Where a run has several processes, a signal to one
  stops all of them after the same step: JAX takes SIGTERM there, and tells the
  others.

  Attributes:
    number: of the signal that came to this process, 0 for none.
  """

  def __init__(self):
    """Watches nothing yet."""
    self.number = 0
    self._looks = 0  # How often JAX was asked.
    self._stops = False  # Whether JAX has said once that the run is to stop.
    # Signal -> whose it was before.
    self._before: dict[int, Any] = {}
    self._alone = jax.process_count() == 1

  def __enter__(self) -> "Watch":
    """Begins to watch."""
    if threading.current_thread() is not threading.main_thread():
      return self
    watched = [signal.SIGINT]
    if self._alone:  # Among several processes SIGTERM is JAX's.
      watched.append(signal.SIGTERM)
    for number in watched:
      self._before[number] = signal.signal(number, self._note)
    return self

  def stop(self) -> int:
    """Returns the signal by which the run is to stop now, or 0.

    All processes ask after each of their dispatches, and get the same answer.
    """
    if self._alone:
      return self.number
    # JAX says it at a single look, but members of a population look in turn:
    # what one of them was told holds for all.
    if not self._stops:
      self._looks += 1
      self._stops = multihost_utils.reached_preemption_sync_point(self._looks)
    return int(signal.SIGTERM) if self._stops else 0

  def __exit__(self, *exception: object) -> None:
    """Gives the signals back to whom they belonged."""
    for number, handler in self._before.items():
      signal.signal(number, handler)
    self._before = {}

  def _note(self, number: int, frame: FrameType | None) -> None:
    """Handles the first signal."""
    del frame
    self.number = number
    self.__exit__()  # A second signal has its usual effect.
    name = signal.Signals(number).name
    text = f"\n{name}: stopping after this step; again to stop at once\n"
    os.write(2, text.encode())  # `print` may be at work underneath.
    if not self._alone:  # As a SIGTERM, which JAX takes and tells the others.
      os.kill(os.getpid(), signal.SIGTERM)
