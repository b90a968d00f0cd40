"""What a running run shows: JSON lines, TensorBoard and a progress line."""

import collections
import contextlib
import json
import math
import pathlib
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ganjax import files
from ganjax.runs import history, progress

PLAIN_SECONDS = 10  # Between two lines where there is no terminal.
LIVE_SECONDS = 0.1  # Between two updates of the line on a terminal.
WINDOW_SECONDS = 15  # The speed is that of the last seconds, so many,
WINDOW_POINTS = 30  # of which so many points in time are remembered.


class _Progress(NamedTuple):
  """Where a run is.

  Attributes:
    time: when, in seconds of the monotonic clock.
    step: how many steps are done.
    scalars: name -> scalar of that step, perhaps still on the device.
  """

  time: float
  step: int
  scalars: Mapping[str, Any]


class Log:
  """Writes `metrics.jsonl` and TensorBoard events, shows one progress line.

  A log is a context manager. A resumed run drops the rows of later steps, so
  that no step is there twice; a run that starts at 0 drops all rows.

  Attributes:
    images_per_step: real images that one step uses.
    note: the end of the progress line, such as a diagnosis; may be set at any
      time.
  """

  def __init__(
    self,
    workdir: str | pathlib.Path,
    num_steps: int,
    images_per_step: int,
    resume_step: int = 0,
    quiet: bool = False,
  ):
    """Opens the log of a run.

    Args:
      workdir: where `metrics.jsonl` and the events are; made if missing.
      num_steps: the step at which the run ends.
      images_per_step: real images that one step uses.
      resume_step: how many steps were done before; 0 for a new run.
      quiet: whether nothing is shown.

    Raises:
      OSError: `workdir` cannot be written.
    """
    # Here, since what only reads a history needs neither.
    from rich import console
    from tensorboardX import SummaryWriter

    self.images_per_step = images_per_step
    self.note = ""
    self._num_steps = num_steps
    self._warned: set[str] = set()
    workdir = pathlib.Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    history.truncate_history(workdir, resume_step)
    path = workdir / history.HISTORY
    self._file = path.open("a", encoding="utf-8")
    # Whether the last row may be there in part.
    self._torn = False
    # TensorBoard hides older events from the purge step on.
    purge_step = resume_step + 1 if resume_step else 0
    self._events = SummaryWriter(str(workdir), purge_step=purge_step)
    self._console = console.Console(highlight=False, quiet=quiet)
    self._live = None
    # Times and steps of a window, since a machine may get slower.
    self._times: collections.deque[tuple[float, int]] = collections.deque(
      maxlen=WINDOW_POINTS
    )
    # What is not on the screen yet.
    self._pending: _Progress | None = None
    self._shown_at = -math.inf

  def __enter__(self) -> "Log":
    """Starts the progress line."""
    from rich import live

    if self._console.is_terminal and not self._console.quiet:
      self._live = live.Live(console=self._console, auto_refresh=False)
      self._live.start()
    return self

  def __exit__(self, *exception: object) -> None:
    """Shows the last line and closes the files."""
    self._show()
    if self._live is not None:
      self._live.stop()
    with contextlib.suppress(OSError):
      self._file.close()
    if self._can_write_events():
      self._events.close()

  def write(self, step: int, scalars: Mapping[str, Any]) -> None:
    """Appends a row to `metrics.jsonl`, and to TensorBoard.

    A row that the disk has no room for is lost with a warning.

    Args:
      step: how many steps are done.
      scalars: name -> scalar array or number, or a text such as a diagnosis.
        NaN and infinities become the texts "nan", "inf" and "-inf" in the
        file, which stays valid JSON; a text must be none of them.
    """
    values = {
      name: value if isinstance(value, str) else float(value)
      for name, value in scalars.items()
    }
    row = {"step": int(step), **values}
    line = json.dumps(files.to_json(row), allow_nan=False)
    # A new line, so that a row is not joined to the torn one before it.
    start = "\n" if self._torn else ""
    try:
      self._file.write(f"{start}{line}\n")
      self._file.flush()
      self._torn = False
    except OSError as error:
      self._torn = True
      self.warn(f"{history.HISTORY} could not be written: {error}")
    if not self._can_write_events():
      return
    for name, value in values.items():
      if not isinstance(value, str):
        self._events.add_scalar(name, value, int(step))
      elif value:
        self._events.add_text(name, value, int(step))

  def images(self, step: int, tag: str, image: np.ndarray) -> None:
    """Writes an image, uint8 `[H, W, C]`, for TensorBoard."""
    if self._can_write_events():
      self._events.add_image(tag, image, int(step), dataformats="HWC")

  def _can_write_events(self) -> bool:
    """Returns whether TensorBoard's writer lives.

    A full disk ends its thread, and then its queue would block for ever.
    """
    writer: Any = self._events.file_writer
    alive = writer.event_writer._worker.is_alive()
    if not alive:
      self.warn("TensorBoard's events could not be written")
    return alive

  def warn(self, text: str) -> None:
    """Says once that something of the log is lost; the run goes on."""
    if text not in self._warned:
      self._warned.add(text)
      self.say(f"warning: {text}; the run goes on")

  def progress(self, step: int, scalars: Mapping[str, Any]) -> None:
    """Shows where the run is; cheap enough for every step.

    A line is due ten times a second on a terminal; elsewhere at the first
    call, every ten seconds and at the end.

    Args:
      step: how many steps are done.
      scalars: name -> scalar. To read one waits for the device, so they are
        read only when a line is due. `progress.line` says which it shows.
    """
    now = time.monotonic()
    # Steps are dispatched in bursts: a speed needs seconds, not steps.
    spacing = WINDOW_SECONDS / WINDOW_POINTS
    if not self._times or now - self._times[-1][0] > spacing:
      self._times.append((now, step))
    self._pending = _Progress(now, step, scalars)
    pause = PLAIN_SECONDS if self._live is None else LIVE_SECONDS
    if now - self._shown_at >= pause:
      self._shown_at = now
      self._show()

  def say(self, text: str) -> None:
    """Prints a line, above the progress line if there is one."""
    self._console.print(text, markup=False, soft_wrap=True)

  def _show(self) -> None:
    """Shows the last progress unless it is on the screen already."""
    from rich import text

    if self._pending is None:
      return
    now, step, scalars = self._pending
    self._pending = None
    values = {name: float(value) for name, value in scalars.items()}
    then, step_then = self._times[0]
    speed = (step - step_then) / (now - then) if now > then else 0.0
    rate = values.pop("images_per_sec", speed * self.images_per_step)
    seconds_left = (self._num_steps - step) / speed if speed else None
    line = progress.line(
      step=step,
      num_steps=self._num_steps,
      images_per_sec=rate,
      seconds_left=seconds_left,
      scalars=values,
      width=None if self._live is None else self._console.width,
      note=self.note,
    )
    if self._live is None:
      self.say(line)
    else:
      self._live.update(text.Text(line, no_wrap=True), refresh=True)
