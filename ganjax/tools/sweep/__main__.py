"""Runs a table: `python -m ganjax.sweep FILE[:ARG] --out DIR`."""

import argparse
import ast
import pathlib
import shlex
import signal
import sys
from typing import Any

EXAMPLES = """
examples:
  python -m ganjax.sweep rgan_unstable:small --jobs 2
  python -m ganjax.sweep rgan_stable --devices 0,1,2,3
  python -m ganjax.sweep rgan_stable --executor ray --option num_gpus=1
  python -m ganjax.sweep rgan_stable --executor slurm \\
      --option gpus_per_node=1 --option slurm_partition=gpu
  python -m ganjax.compare runs/rgan_stable
"""


class _Parser(argparse.ArgumentParser):
  def error(self, message: str):
    self.exit(2, f"error: {message}; see --help\n")


class Stopped(KeyboardInterrupt):
  """SIGTERM came."""


def main(argv: list[str] | None = None) -> int:
  """Runs the command line; returns the exit code."""
  argv = sys.argv[1:] if argv is None else argv
  args = _parser().parse_args(argv)
  command = shlex.join(["python", "-m", "ganjax.tools.sweep", *argv])

  from ganjax import errors

  before = signal.signal(signal.SIGTERM, _on_sigterm)
  try:
    return sweep(args, command)
  except (errors.UserError, OSError) as error:
    print(f"error: {error}", file=sys.stderr)
    return 2
  except KeyboardInterrupt as error:
    print("stopped; the same command goes on from here", file=sys.stderr)
    return 143 if isinstance(error, Stopped) else 130
  finally:
    signal.signal(signal.SIGTERM, before)


def _on_sigterm(number, frame):
  del number, frame
  raise Stopped


def sweep(args: argparse.Namespace, command: str) -> int:
  """Runs what is not over, prints and writes the table.

  Returns:
    0, or 1 if a cell failed.

  Raises:
    UserError: something in the table or the command line is wrong.
    OSError: a file cannot be written.
    KeyboardInterrupt: a signal came; what ran is saved.
  """
  import jax

  from ganjax import errors
  from ganjax.tools.sweep import cell, driver, executors, page, tables

  # The devices are for the cells, which are other processes.
  jax.config.update("jax_platforms", "cpu")
  for name in ("jobs", "tries"):
    if getattr(args, name) < 1:
      raise errors.UserError(
        f"--{name} {getattr(args, name)} must be 1 or more"
      )
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
  path.write_text(found.markdown(command), encoding="utf-8")
  print(path)
  return 1 if failed else 0


def _option(text: str) -> tuple[str, Any]:
  """Returns the key and the value of `KEY=VALUE`."""
  from ganjax import errors

  key, equals, value = text.partition("=")
  if not (key and equals):
    raise errors.UserError(f"--option {text} must be KEY=VALUE")
  try:
    return key, ast.literal_eval(value)
  except (SyntaxError, ValueError):
    return key, value


def _parser() -> argparse.ArgumentParser:
  parser = _Parser(
    prog="python -m ganjax.sweep",
    description="Runs every row of a table with every seed, each a plain run "
    "in a process of its own, and prints what came of them beside the paper's "
    "numbers. The same command goes on where it was stopped.",
    epilog=EXAMPLES,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )
  add = parser.add_argument
  add(
    "table",
    metavar="FILE[:ARG]",
    help="a table, by path or by name, see experiments/tables",
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
  return parser


if __name__ == "__main__":
  sys.exit(main())
