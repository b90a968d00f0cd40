"""Draws samples of a run: `ganjax sample WORKDIR --num 64`."""

import argparse
import pathlib


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the command line; see `ganjax.tools`."""
  parser.description = "Draws samples of a trained run; needs no dataset."
  add = parser.add_argument
  add("workdir", type=pathlib.Path)
  add("--num", type=int, default=64, help="how many (64)")
  add(
    "--out",
    type=pathlib.Path,
    help="a .png grid, or a .npy of the array (default WORKDIR/samples.png)",
  )
  add("--seed", type=int, default=0, help="of the latents (0)")
  add("--step", type=int, help="a checkpoint (the newest)")
  add("--raw", action="store_true", help="the live generator, not the average")
  add("--labels", help="classes in turn: 3 or 0,1,2 (all)")
  add(
    "--truncation", type=float, default=0.0, help="the largest |z| (no bound)"
  )
  add(
    "--statistics",
    default="",
    help="of batch norm: running, batch or standing (the config's)",
  )


def run(args: argparse.Namespace) -> None:
  """Draws the samples and writes them.

  Raises:
    UserError: something on the command line or in the run is wrong.
    OSError: the file cannot be written.
  """
  import numpy as np

  import ganjax
  from ganjax import errors
  from ganjax.runs import plots

  out = args.out or args.workdir / "samples.png"
  if out.suffix not in (".png", ".npy"):
    raise errors.UserError(f"--out {out} must end in .png or .npy")
  trained = ganjax.load(args.workdir, args.step)
  images = trained.sample(
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
  print(f"{len(images)} samples of step {trained.step}: {out}")


def _labels(text: str | None, num: int):
  """Returns the classes of "0,1,2" in turn, `[num]`, or None without."""
  import numpy as np

  from ganjax import errors

  if text is None or num < 1:
    return None
  try:
    classes = [int(part) for part in text.split(",")]
  except ValueError:
    raise errors.UserError(
      f"--labels {text} must be classes, such as 3 or 0,1,2"
    ) from None
  return np.resize(classes, num)
