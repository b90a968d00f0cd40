"""Looks into a trained run: `python -m ganjax.analyze WORKDIR`."""

import argparse
import pathlib
import sys


def main(argv: list[str] | None = None) -> int:
  """Runs the command line; returns the exit code."""
  parser = argparse.ArgumentParser(
    prog="python -m ganjax.analyze",
    description="Draws every picture that a trained run admits, with the "
    "numbers behind them in analysis.json; needs the run's dataset.",
  )
  parser.add_argument("workdir", type=pathlib.Path)
  parser.add_argument(
    "--only", metavar="A,B", help="these pictures, such as spectrum (all)"
  )
  parser.add_argument("--step", type=int, help="a checkpoint (the newest)")
  parser.add_argument("--seed", type=int, default=0, help="of samples (0)")
  parser.add_argument(
    "--out", type=pathlib.Path, help="a folder (WORKDIR/analysis)"
  )
  parser.add_argument(
    "--num", type=int, default=2000, help="of samples to measure (2000)"
  )
  args = parser.parse_args(argv)

  from absl import logging

  import ganjax
  from ganjax import errors
  from ganjax.runs import scoring as sources
  from ganjax.tools import analyze
  from ganjax.tools.analyze.subject import MIN_NUM, Subject

  logging.set_verbosity(logging.ERROR)
  try:
    if args.num < MIN_NUM:
      raise errors.UserError(f"--num {args.num} must be at least {MIN_NUM}")
    if not 0 <= args.seed < 2**32:
      raise errors.UserError(f"--seed {args.seed} must be in [0, 2**32)")
    only = [name for name in (args.only or "").split(",") if name]
    for name in only:
      analyze.find(name)
    run = ganjax.load(args.workdir, args.step)
    evaluator = sources.evaluator_of(run.config)
    subject = Subject(run, evaluator, args.num, args.seed)
    out = args.out or args.workdir / "analysis"
    for name, text, path in analyze.analyze(subject, out, only):
      where = f": {path}" if path else ""
      print(f"{name:14} {text if path else f'not drawn: {text}'}{where}")
  except (errors.UserError, OSError) as error:
    print(f"error: {error}", file=sys.stderr)
    return 2
  print(f"step {run.step}, numbers: {out / analyze.FILE}")
  return 0


if __name__ == "__main__":
  sys.exit(main())
