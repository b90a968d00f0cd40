"""Compares runs: `ganjax compare RUN...`."""

import argparse
import pathlib

EXAMPLES = """
examples:
  ganjax compare runs/vae_0 runs/vae_1 runs/bigan_0 runs/bigan_1
  ganjax compare runs --out comparison
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the command line; see `ganjax.tools`."""
  parser.description = (
    "Compares runs: those that differ in nothing but their seed are one "
    "setting, with mean and standard deviation over seeds. Reads logs and "
    "scores only; no checkpoint, no dataset."
  )
  parser.epilog = EXAMPLES
  add = parser.add_argument
  add(
    "runs",
    type=pathlib.Path,
    nargs="+",
    metavar="RUN",
    help="the workdir of a run, or a folder that holds several",
  )
  add(
    "--out",
    type=pathlib.Path,
    help="folder for compare.md, compare.csv (a line for each run and score) "
    "and compare.html (curves, samples, health; one file, no network)",
  )


def run(args: argparse.Namespace) -> None:
  """Prints the comparison, and writes it with `--out`.

  Raises:
    UserError: a run is not there or damaged.
    OSError: the folder cannot be written.
  """
  from ganjax.tools.compare import groups, page, runs, tables

  found, notes = runs.read(args.runs)
  comparison = groups.compare(found, notes)
  tables.show(comparison)
  if not args.out:
    return
  args.out.mkdir(parents=True, exist_ok=True)
  texts = {
    "compare.md": tables.markdown(comparison),
    "compare.csv": tables.csv_text(comparison),
    "compare.html": page.html(comparison),
  }
  for name, text in texts.items():
    path = args.out / name
    path.write_text(text, encoding="utf-8", newline="")
    print(path)
