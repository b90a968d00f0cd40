"""A cell of a table: a plain run, by its row and its seed.

`python -m ganjax.tools.sweep.cell LABEL SEED FOLDER FLAGS...` runs one; its
text goes where that process's text goes. What became of it stands in
`cell.json`.
"""

import contextlib
import json
import os
import pathlib
import signal
import sys
import threading
import time
import traceback
from typing import Any, NamedTuple

from ganjax import files

# Files in a run's workdir.
OUTCOME = "cell.json"
LOG = "log.txt"
LOCK = "cell.lock"
STOP = "cell.stop"  # Where no signal reaches a worker, this asks it to stop.
# States that a cell may end in. A lost or stopped one leaves none.
FINISHED = "finished"
DIVERGED = "diverged"
FAILED = "failed"
OVER = (FINISHED, DIVERGED)  # Such a cell is not run again.


class Cell(NamedTuple):
  """A run.

  Attributes:
    label: the label of its row.
    seed: the run's seed.
    argv: the flags of `ganjax.main` that make its config.
    folder: the folder of its row.
  """

  label: str
  seed: int
  argv: tuple[str, ...]
  folder: pathlib.Path

  @property
  def name(self) -> str:
    """What people call it."""
    return f"{self.label}, seed {self.seed}"

  @property
  def workdir(self) -> pathlib.Path:
    """The workdir of the run."""
    return self.folder / f"seed_{self.seed}"

  @property
  def log(self) -> pathlib.Path:
    """The file with what the run printed."""
    return self.workdir / LOG

  def config(self) -> dict[str, Any]:
    """Returns the resolved config, as JSON has it.

    Raises:
      UserError: the flags are wrong.
    """
    from ganjax import main

    config = main.parse(["main", *self.argv])[0]
    return json.loads(json.dumps(config.to_dict()))

  def outcome(self, config: dict[str, Any] | None = None) -> tuple[str, str]:
    """Returns (state, note) that the run left, or ("", "").

    Args:
      config: what the run should have had; None for any. The outcome of a run
        with another config, of an older table, does not count.
    """
    try:
      found = json.loads((self.workdir / OUTCOME).read_text())
    except (FileNotFoundError, ValueError):
      return "", ""
    if config is not None and found["config"] != config:
      return "", ""
    return found["state"], found["note"]

  def last_line(self) -> str:
    """Returns the last line of the log, or "" without one."""
    with contextlib.suppress(OSError):
      lines = self.log.read_text(errors="replace").split("\n")
      return next((x.strip() for x in reversed(lines) if x.strip()), "")
    return ""


def run(cell: Cell) -> str:
  """Trains a cell in this process, from where it stopped; returns its state.

  Raises:
    KeyboardInterrupt: a signal came; the run is saved.
    Exception: whatever else ended it. It may be tried again.
  """
  import filelock
  from absl import logging

  from ganjax import errors, main
  from ganjax.training import train

  logging.set_verbosity(logging.ERROR)
  cell.workdir.mkdir(parents=True, exist_ok=True)
  # A worker that seemed lost may still be at it: two would spoil the run.
  with filelock.FileLock(cell.workdir / LOCK):
    config = main.parse(["main", *cell.argv])[0]
    plain = json.loads(json.dumps(config.to_dict()))
    state, _ = cell.outcome(plain)
    if state in OVER:
      return state
    (cell.workdir / OUTCOME).unlink(missing_ok=True)
    state = FINISHED
    note = ""
    try:
      train.train(config, cell.workdir)
    except (FloatingPointError, errors.UserError) as error:
      note = str(error)
      # Samples may be the first that is not finite: the metric says so.
      number = isinstance(error, FloatingPointError) or "not finite" in note
      state = DIVERGED if number else FAILED
      print(f"error: {note}", file=sys.stderr, flush=True)
    document = dict(state=state, note=note, config=plain)
    files.write_json(cell.workdir / OUTCOME, document)
    return state


def run_apart(cell: Cell) -> str:
  """Does what `run` does, its text in the cell's log; never raises.

  For the workers of a cluster, whose process is the cell's own.
  """
  _speak_into(cell.log)
  stop = cell.workdir / STOP
  if stop.exists():
    return ""
  threading.Thread(target=_heed, args=(stop,), daemon=True).start()
  try:
    return run(cell)
  except KeyboardInterrupt as error:
    print(error, flush=True)
  except Exception:
    traceback.print_exc()
  return ""


def _heed(stop: pathlib.Path) -> None:
  """Stops this process, saved, once a file is there."""
  while not stop.exists():
    time.sleep(0.5)
  os.kill(os.getpid(), signal.SIGTERM)


def _speak_into(path: pathlib.Path) -> None:
  """Makes this process append all its text to a file, that of C++, too."""
  path.parent.mkdir(parents=True, exist_ok=True)
  # A cluster may have put other files in the place of these. It stays open:
  # loggers remember it.
  file = path.open("a", encoding="utf-8", buffering=1)
  sys.stdout = file
  sys.stderr = file
  # The numbers of standard output and standard error, to which C++ writes.
  for number in (1, 2):
    os.dup2(file.fileno(), number)


def main(argv: list[str]) -> int:
  """Runs a cell; returns the exit code."""
  label, seed, folder, *flags = argv
  cell = Cell(label, int(seed), tuple(flags), pathlib.Path(folder))
  try:
    run(cell)
  except KeyboardInterrupt as error:
    print(error, file=sys.stderr)
    return getattr(error, "code", 130)
  return 0


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
