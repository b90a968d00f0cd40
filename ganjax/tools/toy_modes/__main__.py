"""Draws the page: `python -m ganjax.toy_modes RUNS --out DIR`.

RUNS holds the runs of `experiments/tables/toy_modes.py`:

    python -m ganjax.sweep toy_modes --jobs 2 --out runs/toy_modes
    python -m ganjax.toy_modes runs/toy_modes --out results

A table and a figure say what became of the modes.
"""

import argparse
import pathlib
import shlex
import sys

from ganjax import files


class _Parser(argparse.ArgumentParser):
  def error(self, message: str):
    self.exit(2, f"error: {message}; see --help\n")


def main(argv: list[str] | None = None) -> int:
  """Runs the command line; returns the exit code."""
  parser = _Parser(
    prog="python -m ganjax.toy_modes",
    description="Writes toy_modes.md, .json and .png from the runs that "
    "`python -m ganjax.sweep toy_modes --out RUNS` trained.",
    allow_abbrev=False,
  )
  add = parser.add_argument
  add("runs", type=pathlib.Path, metavar="RUNS", help="folder of the runs")
  add("--out", type=pathlib.Path, required=True, help="folder of the page")
  add("--smoke", action="store_true", help="RUNS are those of toy_modes:smoke")
  argv = sys.argv[1:] if argv is None else argv
  args = parser.parse_args(argv)
  command = shlex.join(["python", "-m", "ganjax.tools.toy_modes", *argv])

  from ganjax import errors
  from ganjax.tools.toy_modes import page, results

  try:
    document, samples = results.read(args.runs, args.smoke)
    document = dict(command=command) | document
    files.write_json(args.out / "toy_modes.json", document)
    page.draw(args.out / "toy_modes.png", samples, document)
    path = args.out / "toy_modes.md"
    path.write_text(page.text(document), encoding="utf-8")
  except (errors.UserError, OSError) as error:
    print(f"error: {error}", file=sys.stderr)
    return 2
  print(f"{len(document['runs'])} runs: {path}, .json and .png")
  return 0


if __name__ == "__main__":
  sys.exit(main())
