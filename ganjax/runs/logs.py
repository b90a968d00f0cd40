"""What a run leaves for people: JSON lines, TensorBoard, a progress line."""

import collections
import contextlib
import json
import math
import os
import pathlib
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

import numpy as np

from ganjax import files
from ganjax.runs import progress

HISTORY = "metrics.jsonl"
PLAIN_SECONDS = 10  # Between two lines where there is no terminal.
LIVE_SECONDS = 0.1
WINDOW = 15  # Seconds over which the speed is taken.
PACKAGES = "ganjax jax jaxlib flax optax orbax-checkpoint numpy".split()


class Log:
  """Writes `metrics.jsonl` and TensorBoard events, shows one progress line.

  A context manager. A resumed run drops what was written of later steps, so
  that no step is there twice; a run that starts at 0 drops everything.

  Attributes:
    images_per_step: real images that one step uses.
    note: what the progress line ends with, such as a diagnosis; may be set
      at any time.
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
    from rich import console
    from tensorboardX import SummaryWriter

    self.images_per_step = images_per_step
    self.note = ""
    self._torn, self._warned = False, set[str]()
    self._num_steps = num_steps
    workdir = pathlib.Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    _truncate(workdir / HISTORY, resume_step)
    self._file = (workdir / HISTORY).open("a", encoding="utf-8")
    # TensorBoard hides older events from the purge step on.
    purge_step = resume_step + 1 if resume_step else 0
    self._events = SummaryWriter(str(workdir), purge_step=purge_step)
    self._console = console.Console(highlight=False, quiet=quiet)
    self._live = None
    # The speed comes from a window, to follow a machine that gets slower.
    self._times = collections.deque(maxlen=30)
    self._last: tuple[float, int, Mapping[str, Any]] | None = None
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

    Args:
      step: how many steps are done.
      scalars: name -> scalar array or number, or a text such as a diagnosis.
        NaN and infinities become the strings "nan", "inf" and "-inf" in the
        file, which stays valid JSON; a text must be none of them.
    """
    values = {
      name: value if isinstance(value, str) else float(value)
      for name, value in scalars.items()
    }
    row = {"step": int(step), **values}
    line = json.dumps(files.to_json(row), allow_nan=False)
    try:
      # What a full disk has torn before ends here.
      self._file.write("\n" * self._torn + line + "\n")
      self._file.flush()
      self._torn = False
    except OSError as error:
      self._torn = True
      self.warn(f"{HISTORY} could not be written: {error}")
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

    Reads the scalars, name -> scalar, only when a line is due: ten times a
    second on a terminal; else at the first call, every ten seconds and at the
    end. `progress.line` says which of them it shows; `note` stands last.
    """
    now = time.monotonic()
    # Steps are dispatched in bursts: a speed needs seconds, not steps.
    if not self._times or now - self._times[-1][0] > WINDOW / 30:
      self._times.append((now, step))
    self._last = now, step, scalars
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

    if self._last is None:
      return
    (now, step, scalars), self._last = self._last, None
    values = {name: float(value) for name, value in scalars.items()}
    then, before = self._times[0]
    speed = (step - before) / (now - then) if now > then else 0.0
    rate = values.pop("images_per_sec", speed * self.images_per_step)
    left = (self._num_steps - step) / speed if speed else None
    width = self._console.width if self._live is not None else None
    line = progress.line(
      step, self._num_steps, rate, left, values, width, self.note
    )
    if self._live is None:
      self.say(line)
    else:
      self._live.update(text.Text(line, no_wrap=True), refresh=True)


def read_history(workdir: str | pathlib.Path) -> list[dict[str, Any]]:
  """Returns the rows of `metrics.jsonl`; `[]` if there is none.

  A line that a crash has torn is left out. The strings "nan", "inf" and
  "-inf" are floats again; other texts stay.
  """
  special = {name: float(name) for name in ("nan", "inf", "-inf")}
  rows = []
  for line in _lines(pathlib.Path(workdir) / HISTORY):
    with contextlib.suppress(ValueError, RecursionError):
      row = json.loads(line)
      if isinstance(row, dict) and isinstance(row.get("step"), int):
        rows.append({k: special.get(str(v), v) for k, v in row.items()})
  return rows


def environment() -> dict[str, Any]:
  """Returns what a result depends on: versions, device, commit, command."""
  import jax

  versions = {"python": platform.python_version()}
  for package in PACKAGES:
    with contextlib.suppress(metadata.PackageNotFoundError):
      versions[package] = metadata.version(package)
  devices, status = jax.devices(), _git("status", "--porcelain")
  return {
    "versions": versions,
    "platform": platform.platform(),
    "backend": devices[0].platform,
    "device_kind": devices[0].device_kind,
    "device_count": len(devices),
    "process_count": jax.process_count(),
    "cpu_count": os.cpu_count(),
    "git_commit": _git("rev-parse", "HEAD"),
    "git_dirty": None if status is None else bool(status),
    "command": shlex.join([sys.executable, *sys.argv]),
    "time": datetime.now(UTC).isoformat(timespec="seconds"),
  }


def _git(*arguments: str) -> str | None:
  """Returns what git says of the checkout that this file is in, or None."""
  folder = pathlib.Path(__file__).resolve().parents[2]
  if not (folder / ".git").exists():  # Installed into someone's repository.
    return None
  try:
    return subprocess.run(
      # Else `status` would write to the index of the checkout.
      ["git", "--no-optional-locks", "-C", str(folder), *arguments],
      capture_output=True,
      text=True,
      check=True,
      timeout=10,
    ).stdout.strip()
  except (OSError, subprocess.SubprocessError):
    return None


def _truncate(path: pathlib.Path, last_step: int) -> None:
  """Keeps the whole lines of `path` up to `last_step`; none if it is 0."""
  kept = []
  for line in _lines(path):
    with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
      if last_step and json.loads(line)["step"] <= last_step:
        kept.append(line + b"\n")
  if path.exists():
    files.write_bytes(path, b"".join(kept))


def _lines(path: pathlib.Path) -> list[bytes]:
  return path.read_bytes().split(b"\n") if path.exists() else []
