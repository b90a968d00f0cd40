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
  parser.add_argument("--labels", help="classes in turn: 3 or 0,1,2 (all)")
  parser.add_argument(
    "--truncation", type=float, default=0.0, help="the largest |z| (no bound)"
  )
  parser.add_argument(
    "--statistics",
    default="",
    help="of batch norm: running, batch or standing (the config's)",
  )
  args = parser.parse_args(argv)

  import numpy as np
  from absl import logging

  import ganjax
  from ganjax import errors
  from ganjax.runs import plots

  logging.set_verbosity(logging.ERROR)
  out = args.out or args.workdir / "samples.png"
  try:
    if out.suffix not in (".png", ".npy"):
      raise errors.UserError(f"--out {out} must end in .png or .npy")
    run = ganjax.load(args.workdir, args.step)
    images = run.sample(
      args.num,
      _labels(args.labels, args.num),
      seed=args.seed,
      ema=not args.raw,
      truncation=args.truncation,
      statistics=args.statistics,
    )
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


def _labels(text: str | None, num: int):
  """Returns the classes of "0,1,2" in turn, `[num]`, or None without."""
  import numpy as np

  from ganjax import errors

  if text is None or num < 1:
    return None
  try:
    return np.resize([int(part) for part in text.split(",")], num)
  except ValueError:
    raise errors.UserError(
      f"--labels {text} must be classes, such as 3 or 0,1,2"
    ) from None


if __name__ == "__main__":
  sys.exit(main())
