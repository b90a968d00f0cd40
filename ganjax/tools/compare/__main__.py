"""Compares runs: `python -m ganjax.compare RUN...`."""

import argparse
import pathlib
import sys

EXAMPLES = """
examples:
  python -m ganjax.compare runs/vae_0 runs/vae_1 runs/bigan_0 runs/bigan_1
  python -m ganjax.compare runs --out comparison
"""


def main(argv: list[str] | None = None) -> int:
  """Runs the command line; returns the exit code."""
  args = _parser().parse_args(argv)

  from absl import logging

  from ganjax import errors
  from ganjax.tools.compare import groups, page, runs, tables

  logging.set_verbosity(logging.ERROR)
  try:
    found, notes = runs.read(args.runs)
    comparison = groups.compare(found, notes)
    tables.show(comparison)
    if args.out:
      args.out.mkdir(parents=True, exist_ok=True)
      texts = {
        "compare.md": tables.markdown(comparison),
        "compare.csv": tables.csv_text(comparison),
        "compare.html": page.html(comparison),
      }
      for name, text in texts.items():
        (args.out / name).write_text(text, encoding="utf-8", newline="")
        print(args.out / name)
  except (errors.UserError, OSError) as error:
    print(f"error: {error}", file=sys.stderr)
    return 2
  return 0


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog="python -m ganjax.compare",
    description="Compares runs: those that differ in nothing but their seed "
    "are one setting, with mean and standard deviation over seeds. Reads logs "
    "and scores only; no checkpoint, no dataset.",
    epilog=EXAMPLES,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
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
  return parser


if __name__ == "__main__":
  sys.exit(main())
