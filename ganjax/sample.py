"""Draws samples of a run: `python -m ganjax.sample WORKDIR --num 64`."""

import argparse
import pathlib
import sys


def main(argv: list[str] | None = None) -> int:
  """Runs the command line; returns the exit code."""
  parser = argparse.ArgumentParser(
    prog="python -m ganjax.sample",
    description="Draws samples of a trained run; needs no dataset.",
  )
  parser.add_argument("workdir", type=pathlib.Path)
  parser.add_argument("--num", type=int, default=64, help="how many (64)")
  parser.add_argument(
    "--out",
    type=pathlib.Path,
    help="a .png grid, or a .npy of the array (default WORKDIR/samples.png)",
  )
  parser.add_argument("--seed", type=int, default=0, help="of the latents (0)")
  parser.add_argument("--step", type=int, help="a checkpoint (the newest)")
  parser.add_argument(
    "--raw", action="store_true", help="the live generator, not the average"
  )
  args = parser.parse_args(argv)

  import numpy as np
  from absl import logging

  import ganjax
  from ganjax import errors, plots

  logging.set_verbosity(logging.ERROR)
  out = args.out or args.workdir / "samples.png"
  try:
    if out.suffix not in (".png", ".npy"):
      raise errors.UserError(f"--out {out} must end in .png or .npy")
    run = ganjax.load(args.workdir, args.step)
    images = run.sample(args.num, seed=args.seed, ema=not args.raw)
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".npy":
      np.save(out, images)
    else:
      plots.samples(out, images)
  except (errors.UserError, OSError) as error:
    print(f"error: {error}", file=sys.stderr)
    return 2
  print(f"{len(images)} samples of step {run.step}: {out}")
  return 0


if __name__ == "__main__":
  sys.exit(main())
