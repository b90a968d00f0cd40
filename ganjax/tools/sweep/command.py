"""Runs a table: `ganjax sweep FILE[:ARG] --out DIR`."""

import argparse
import ast
import pathlib
import signal
import textwrap
from typing import Any

from ganjax import errors, files

EXAMPLES = """
examples:
  ganjax sweep rgan_unstable:small --jobs 2
  ganjax sweep rgan_stable --devices 0,1,2,3
  ganjax sweep rgan_stable --executor ray --option num_gpus=1
  ganjax sweep rgan_stable --executor slurm \\
      --option gpus_per_node=1 --option slurm_partition=gpu
  ganjax compare runs/rgan_stable
"""


class Stopped(KeyboardInterrupt):
  """A signal asked the sweep to stop; what ran is saved.

  Attributes:
    code: 128 and the signal's number, what the process should exit with.
  """

  def __init__(self, number: int):
    """Takes the signal's number."""
    super().__init__("stopped; the same command goes on from here")
    self.code = 128 + number


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the command line; see `ganjax.tools`."""
  parser.description = (
    "Runs every row of a table with every seed, each a plain run in a process "
    "of its own, and prints what came of them beside the paper's numbers. The "
    "same command goes on where it was stopped."
  )
  folder = files.experiments() / "tables"
  names = sorted(path.stem for path in folder.glob("[a-z]*.py"))
  listed = textwrap.fill(f"tables: {', '.join(names)}", 79)
  parser.epilog = f"{EXAMPLES}\n{listed}"
  add = parser.add_argument
  add(
    "table",
    metavar="FILE[:ARG]",
    help="a table, by path or by name; those below come with ganjax",
  )
  add(
    "--out",
    type=pathlib.Path,
    help="folder of the runs, OUT/ROW/seed_S, and of table.md (runs/NAME)",
  )
  add(
    "--executor",
    default="local",
    help="local (processes here), ray (the cluster that is there, else this "
    "machine) or slurm; all machines must see OUT",
  )
  add("--jobs", type=int, default=1, help="local: runs at a time (1)")
  add(
    "--devices",
    default="",
    help="local: GPUs such as 0,1,2, a run at a time on each",
  )
  add(
    "--option",
    action="append",
    default=[],
    metavar="KEY=VALUE",
    help="what a cell asks of the cluster: of ray num_cpus, num_gpus, "
    "resources; of slurm what submitit calls timeout_min (a day), "
    "gpus_per_node, slurm_partition",
  )
  add(
    "--tries",
    type=int,
    default=3,
    help="how often a run may be started in all if its worker is lost (3)",
  )


def run(args: argparse.Namespace) -> int:
  """Runs the table; SIGTERM and Ctrl-C stop it, with what ran saved.

  Returns:
    0, or 1 if a cell failed.

  Raises:
    UserError: something in the table or the command line is wrong.
    OSError: a file cannot be written.
    Stopped: a signal came.
  """
  before = signal.signal(signal.SIGTERM, _on_sigterm)
  try:
    return sweep(args)
  except Stopped:
    raise
  except KeyboardInterrupt as error:
    raise Stopped(signal.SIGINT) from error
  finally:
    signal.signal(signal.SIGTERM, before)


def _on_sigterm(number, frame):
  del frame
  raise Stopped(number)


def sweep(args: argparse.Namespace) -> int:
  """Runs what is not over, prints and writes the table.

  Returns:
    0, or 1 if a cell failed.

  Raises:
    UserError: something in the table or the command line is wrong.
    OSError: a file cannot be written.
    KeyboardInterrupt: a signal came; what ran is saved.
  """
  import jax

  from ganjax.tools.sweep import cell, driver, executors, page, tables

  # The devices are for the cells, which are other processes.
  jax.config.update("jax_platforms", "cpu")
  for name in ("jobs", "tries"):
    number = getattr(args, name)
    if number < 1:
      raise errors.UserError(f"--{name} {number} must be 1 or more")
  table = tables.load(args.table)
  stem = pathlib.Path(args.table).name.replace(".py", "").replace(":", "_")
  out = args.out or pathlib.Path("runs") / stem
  cells = tables.cells(table, out)
  configs = tables.check(cells)
  waiting = [c for c in cells if c.outcome(configs[c])[0] not in cell.OVER]
  failed = {}
  if waiting:
    devices = [d for d in args.devices.split(",") if d]
    options = dict(map(_option, args.option))
    executor = executors.get(args.executor, out, args.jobs, devices, options)
    done = len(cells) - len(waiting)
    try:
      with driver.Progress(len(cells), done) as line:
        failed = driver.run(waiting, executor, args.tries, line)
    finally:
      executor.close()
  found = page.Page(table, cells, configs, failed)
  found.show()
  path = out / "table.md"
  path.write_text(found.markdown(args.command), encoding="utf-8")
  print(path)
  return 1 if failed else 0


def _option(text: str) -> tuple[str, Any]:
  """Returns the key and the value of `KEY=VALUE`."""
  key, equals, value = text.partition("=")
  if not (key and equals):
    raise errors.UserError(f"--option {text} must be KEY=VALUE")
  try:
    return key, ast.literal_eval(value)
  except (SyntaxError, ValueError):
    return key, value
