"""Draws the theory and checks it: `ganjax theory --out DIR`."""

import argparse
import pathlib

from ganjax import errors, files


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the command line; see `ganjax.tools`."""
  parser.description = (
    "Plays the small games of the papers, draws what they prove and compares "
    "the numbers with the theory; half a minute on a CPU."
  )
  add = parser.add_argument
  add(
    "--out",
    type=pathlib.Path,
    default=pathlib.Path("theory"),
    help="folder of the figures and of theory.json (./theory)",
  )
  add("--seed", type=int, default=0, help="of everything (0)")
  add(
    "--smoke",
    action="store_true",
    help="too few steps for the numbers: only to see that it runs",
  )


def run(args: argparse.Namespace) -> None:
  """Draws the figures, and prints and writes the numbers.

  Raises:
    UserError: the seed is negative.
    OSError: the folder cannot be written.
  """
  if args.seed < 0:
    raise errors.UserError(f"--seed {args.seed} must be at least 0")
  draw(args.out, args.seed, args.smoke)


def draw(out: pathlib.Path, seed: int = 0, quick: bool = False) -> None:
  """Draws every figure into `out`, and prints and writes the numbers.

  Args:
    out: a folder; made if missing.
    seed: of D's first parameters and of the random histograms.
    quick: whether a few steps do.

  Raises:
    OSError: `out` cannot be written.
  """
  from rich import box, console, progress, table

  from ganjax.runs.environment import environment
  from ganjax.tools.theory import figures

  out.mkdir(parents=True, exist_ok=True)
  grid = table.Table("", "found", "theory", box=box.SIMPLE_HEAD)
  rows = []
  for figure in progress.track(
    (
      figures.figure_1,
      figures.saturation,
      figures.criterion,
      figures.dirac,
      figures.collapse,
    ),
    description="Playing the games",
    console=console.Console(stderr=True),
    transient=True,
  ):
    path = out / f"{figure.__name__}.png"
    for name, found, expected in figure(path, seed, quick):
      rows.append({"name": name, "found": found, "theory": expected})
      grid.add_row(name, f"{found:.6g}", expected)
  document = {"seed": seed, "smoke": quick, "numbers": rows}
  files.write_json(
    out / "theory.json", document | {"environment": environment()}
  )
  terminal = console.Console(highlight=False)
  terminal.print(grid)
  terminal.print(f"figures and theory.json: {out}", soft_wrap=True)
