"""Runs the cells of a table to their ends; a lost one is started again."""

import collections
import sys
import time
from collections.abc import Sequence

from rich import console, progress

from ganjax.tools.sweep.cell import FAILED, FINISHED, OVER, Cell
from ganjax.tools.sweep.executors import Executor, Task

PAUSE = 0.2  # seconds between two looks at the tasks
PLAIN_SECONDS = 30  # between two lines of progress where there is no terminal


class Progress:
  """How many cells are over, on one line, with the time left.

  Attributes:
    done: how many cells are over, or will not be tried again.
  """

  def __init__(self, total: int, done: int):
    """Takes how many cells there are, and how many were over before."""
    self.done = done
    self._before = done
    self._total = total
    self._start = time.monotonic()
    self._shown = 0.0
    self._console = console.Console(stderr=True)
    self._plain = not self._console.is_terminal
    self._bar = progress.Progress(
      progress.BarColumn(),
      "{task.description}",
      console=self._console,
      transient=True,
      disable=self._plain,
    )
    self._task = self._bar.add_task("", total=total, completed=done)

  def __enter__(self) -> "Progress":
    """Shows the line."""
    self._bar.start()
    return self

  def __exit__(self, *exception: object) -> None:
    """Removes it."""
    self._bar.stop()

  def say(self, text: str) -> None:
    """Prints a line of its own."""
    if self._plain:
      print(text, file=sys.stderr, flush=True)
    else:
      self._bar.console.print(text, markup=False, soft_wrap=True)

  def show(self, running: int) -> None:
    """Renews the line."""
    text = f"{self.done} of {self._total} runs, {running} running{self._left()}"
    self._bar.update(self._task, completed=self.done, description=text)
    now = time.monotonic()
    if self._plain and now - self._shown > PLAIN_SECONDS:
      self._shown = now
      print(text, file=sys.stderr, flush=True)

  def _left(self) -> str:
    """Returns the time left, if what was run so far is any guide."""
    done_here = self.done - self._before
    if done_here == 0:
      return ""
    each = (time.monotonic() - self._start) / done_here
    minutes, seconds = divmod(round(each * (self._total - self.done)), 60)
    hours, minutes = divmod(minutes, 60)
    return f", {hours}:{minutes:02}:{seconds:02} left"


def run(
  cells: Sequence[Cell], executor: Executor, tries: int, line: Progress
) -> dict[Cell, str]:
  """Runs cells; one whose worker is lost goes on from its checkpoint.

  Args:
    cells: the cells that are not over.
    executor: where they run.
    tries: how often each may be started.
    line: the progress line.

  Returns:
    Cell -> what went wrong, of those that failed.

  Raises:
    KeyboardInterrupt: a signal came; all cells that ran have saved and ended.
  """
  waiting = collections.deque(cells)
  starts: collections.Counter[Cell] = collections.Counter()
  running: dict[Task, Cell] = {}
  failed: dict[Cell, str] = {}
  try:
    while waiting or running:
      while waiting and executor.has_room():
        cell = waiting.popleft()
        starts[cell] += 1
        running[executor.start(cell)] = cell
      for task in [task for task in running if task.ended()]:
        cell = running.pop(task)
        state, why = task.result()
        # A worker that was lost left no state: the run may go on elsewhere.
        if not state and starts[cell] < tries:
          again = f"try {starts[cell] + 1} of {tries}"
          line.say(f"{cell.name}: {why}; {again} goes on from its checkpoint")
          waiting.append(cell)
          continue
        line.done += 1
        if state not in OVER:
          said = cell.last_line()
          failed[cell] = said if state == FAILED else f"{why}; {said}"
          line.say(f"{cell.name}: failed: {failed[cell]}")
        elif state != FINISHED:
          line.say(f"{cell.name}: {state}")
      line.show(len(running))
      time.sleep(PAUSE)
  except KeyboardInterrupt:
    _stop(running, line)
    raise
  return failed


def _stop(running: dict[Task, Cell], line: Progress) -> None:
  """Stops tasks, saved; at once if another signal comes."""
  line.say(f"stopping {len(running)} runs, saved; again to stop at once")
  try:
    for task in running:
      task.stop()
    while not all(task.ended() for task in running):
      time.sleep(PAUSE)
  except KeyboardInterrupt:
    for task in running:
      task.kill()
    raise
