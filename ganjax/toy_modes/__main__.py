"""Which objectives keep every mode: `python -m ganjax.toy_modes --out DIR`.

Each setting of `cells.py` (loss x penalty) plays on a ring of 8 and a grid of
25 Gaussians with several seeds; a table and a figure say what became of the
modes. A cell is a plain run of `experiments/toy_ring.py` or `toy_grid.py` with
changes, in a workdir of its own. One that is finished is only read.
"""

import argparse
import contextlib
import os
import pathlib
import shlex
import sys
import time
from collections.abc import Sequence
from typing import Any

from ganjax.toy_modes.cells import KINDS, SETTINGS, SMOKE, Cell, start, train

PLAIN_SECONDS = 30  # between two lines of progress where there is no terminal


class _Parser(argparse.ArgumentParser):
  def error(self, message: str):
    self.exit(2, f"error: {message}; see --help\n")


def main(argv: list[str] | None = None) -> int:
  """Runs the command line; returns the exit code."""
  parser = _Parser(
    prog="python -m ganjax.toy_modes",
    description="Trains every setting on the toy ring and grid, and writes "
    "toy_modes.md, .json and .png. Stopped, it goes on where it was.",
    allow_abbrev=False,
  )
  add = parser.add_argument
  add("--out", type=pathlib.Path, required=True, help="folder of the results")
  add("--seeds", type=int, default=3, help="how many, from 0 on (3)")
  add("--steps", type=int, help="generator steps (the experiments')")
  add("--jobs", type=int, help="runs at a time, a core each (all cores)")
  add(
    "--workdirs",
    type=pathlib.Path,
    default=pathlib.Path("runs/toy_modes"),
    help="folder of the runs (runs/toy_modes)",
  )
  add("--smoke", action="store_true", help="a tiny form: only to see it run")
  argv = sys.argv[1:] if argv is None else argv
  args = parser.parse_args(argv)
  command = shlex.join(["python", "-m", "ganjax.toy_modes", *argv])

  from concurrent.futures import process

  from ganjax import errors

  try:
    for name in ("seeds", "steps", "jobs"):
      value = getattr(args, name)
      if value is not None and value < 1:
        raise errors.UserError(f"--{name} {value} must be 1 or more")
    write(args, command)
  except (errors.UserError, OSError, process.BrokenProcessPool) as error:
    print(f"error: {error}", file=sys.stderr)
    return 2
  except KeyboardInterrupt:
    print("stopped; the same command goes on from here", file=sys.stderr)
    return 130
  return 0


def write(args: argparse.Namespace, command: str) -> None:
  """Trains what is missing and writes the table and the figure.

  Raises:
    UserError: a workdir holds something else.
    OSError: a file cannot be written.
  """
  from ganjax import logs
  from ganjax.toy_modes import page

  settings = [s for s in SETTINGS if s["title"] in SMOKE or not args.smoke]
  seeds = range(1 if args.smoke else args.seeds)
  args.out.mkdir(parents=True, exist_ok=True)
  cells = [
    Cell(kind, setting, seed, args.steps or 0, args.smoke, args.workdirs)
    for seed in seeds
    for kind in KINDS
    for setting in settings
  ]
  train_all(cells, args.jobs or os.cpu_count() or 1)
  environment = logs.environment()
  for private in ("command", "platform"):  # Paths and names of a machine.
    del environment[private]
  plain = {
    kind: cells[0]._replace(kind=kind, setting={}, seed=0).config()
    for kind in KINDS
  }
  document = dict(
    command=command,
    default=not (args.smoke or args.steps) and args.seeds == 3,
    seeds=len(seeds),
    settings=settings,
    protocol={kind: config.to_dict() for kind, config in plain.items()},
    environment=environment,
    real={kind: _real(config) for kind, config in plain.items()},
    runs=[cell.read() for cell in cells],
  )
  logs.write_json(args.out / "toy_modes.json", document)
  page.draw(args.out / "toy_modes.png", cells, document)
  (args.out / "toy_modes.md").write_text(page.text(document))
  print(f"{len(cells)} runs: {args.out / 'toy_modes.md'}, .json and .png")


def _real(config: Any) -> dict[str, float]:
  """Returns the values of held-out data, the best that samples can reach."""
  from ganjax.evaluate import sources

  scores = sources.evaluator_of(config)
  return scores.compare({"modes": {}}, scores.test.images)["modes"].values


def train_all(cells: Sequence[Cell], jobs: int) -> None:
  """Trains what is not finished, in processes of one core each."""
  import multiprocessing
  from concurrent import futures

  waiting = [cell for cell in cells if cell.read() is None]
  if not waiting:
    return
  pool = futures.ProcessPoolExecutor(
    min(jobs, len(waiting)), multiprocessing.get_context("spawn"), start
  )
  try:
    tasks = {pool.submit(train, cell): cell for cell in waiting}
    with _progress(len(cells), len(waiting)) as show:
      for task in futures.as_completed(tasks):
        task.result()
        show(tasks[task])
  finally:
    pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _progress(total: int, waiting: int):
  """Yields a function that counts a finished cell on the one line."""
  from rich import console, progress

  terminal, start, shown = console.Console(stderr=True), time.monotonic(), 0.0
  bar = progress.Progress(
    progress.BarColumn(),
    "{task.completed} of {task.total} runs  {task.fields[left]}  "
    "{task.description}",
    console=terminal,
    transient=True,
    disable=not terminal.is_terminal,
  )
  done = total - waiting
  with bar:
    task = bar.add_task("starting", total=total, completed=done, left="")

    def show(cell: Cell) -> None:
      nonlocal done, shown
      done += 1
      now = time.monotonic()
      each = (now - start) / (done - total + waiting)
      minutes, seconds = divmod(round(each * (total - done)), 60)
      left, name = f"{minutes}:{seconds:02} left", cell.workdir.name
      bar.update(task, completed=done, description=f"last {name}", left=left)
      if not terminal.is_terminal and (
        done == total or now - shown > PLAIN_SECONDS
      ):
        shown = now
        print(f"{done} of {total} runs  {left}  last {name}", file=sys.stderr)

    yield show


if __name__ == "__main__":
  sys.exit(main())
