"""Looks into a trained run: `ganjax analyze WORKDIR`."""

import argparse
import pathlib


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the command line; see `ganjax.tools`."""
  parser.description = (
    "Draws every picture that a trained run admits, with the numbers behind "
    "them in analysis.json; needs the run's dataset."
  )
  add = parser.add_argument
  add("workdir", type=pathlib.Path)
  add("--only", metavar="A,B", help="these pictures, such as spectrum (all)")
  add("--step", type=int, help="a checkpoint (the newest)")
  add("--seed", type=int, default=0, help="of samples (0)")
  add("--out", type=pathlib.Path, help="a folder (WORKDIR/analysis)")
  add("--num", type=int, default=2000, help="of samples to measure (2000)")


def run(args: argparse.Namespace) -> None:
  """Draws the pictures, and says of each what it shows.

  Raises:
    UserError: something on the command line or in the run is wrong.
    OSError: the folder cannot be written.
  """
  import ganjax
  from ganjax import errors
  from ganjax.runs import scoring
  from ganjax.tools import analyze
  from ganjax.tools.analyze.subject import MIN_NUM, Subject

  if args.num < MIN_NUM:
    raise errors.UserError(f"--num {args.num} must be at least {MIN_NUM}")
  if not 0 <= args.seed < 2**32:
    raise errors.UserError(f"--seed {args.seed} must be in [0, 2**32)")
  only = [name for name in (args.only or "").split(",") if name]
  for name in only:  # A mistake is named before the run is loaded.
    analyze.find(name)
  trained = ganjax.load(args.workdir, args.step)
  evaluator = scoring.evaluator_of(trained.config)
  subject = Subject(trained, evaluator, args.num, args.seed)
  out = args.out or args.workdir / "analysis"
  for name, text, path in analyze.analyze(subject, out, only):
    if path:
      print(f"{name:14} {text}: {path}")
    else:
      print(f"{name:14} not drawn: {text}")
  print(f"step {trained.step}, numbers: {out / analyze.FILE}")
