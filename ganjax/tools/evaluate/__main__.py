"""Scores samples: `python -m ganjax.evaluate WORKDIR`."""

import argparse
import pathlib
import sys

EXAMPLES = """
examples:
  python -m ganjax.evaluate runs/cifar_dcgan --num 50000
  python -m ganjax.evaluate runs/cifar_dcgan --metrics frechet,prdc:k=3
  python -m ganjax.evaluate samples.npz --against cifar10:train
  python -m ganjax.evaluate IMAGE_FOLDER --against cifar10:test \\
      --extractor inception:weights=inception.npz:resize=clean
"""


def main(argv: list[str] | None = None) -> int:
  """Runs the command line; returns the exit code."""
  args = _parser().parse_args(argv)

  from absl import logging

  from ganjax import errors
  from ganjax.tools.evaluate import command

  logging.set_verbosity(logging.ERROR)
  try:
    command.run(args)
  except (errors.UserError, OSError) as error:
    print(f"error: {error}", file=sys.stderr)
    return 2
  return 0


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog="python -m ganjax.evaluate",
    description="Scores samples of a run, images of a folder, or the array of "
    "an .npz, each score with its protocol.",
    epilog=EXAMPLES,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add("target", type=pathlib.Path, metavar="WORKDIR|FOLDER|FILE")
  add(
    "--against",
    default="",
    help="NAME[:SPLIT] of a dataset, the run's train, test or validation, or "
    "published statistics, an .npz of mu and sigma (the run's train)",
  )
  add(
    "--metrics",
    default="",
    help="NAME[:KEY=VALUE], separated by commas (the run's, else "
    "frechet,kernel,prdc)",
  )
  add(
    "--num",
    type=int,
    default=0,
    help="of samples (all; of a run, as many as its held-out images)",
  )
  add(
    "--step",
    default="",
    help="best, last or a number (the last, and the best where it is kept)",
  )
  add("--weights", choices=("ema", "raw"), default="ema", help="(ema)")
  add(
    "--stats",
    choices=("running", "batch", "standing"),
    default="",
    help="of batch norm (the config's)",
  )
  add("--truncation", type=float, default=0.0, help="largest |z| (no bound)")
  add(
    "--extractor",
    default="",
    help="classifier, inception or dinov2, with settings (the run's, else "
    "classifier)",
  )
  add(
    "--than",
    type=pathlib.Path,
    help="a result of this command to stand beside; refused if its protocol "
    "differs",
  )
  add("--out", type=pathlib.Path, help="JSON (WORKDIR/evaluation.json)")
  return parser


if __name__ == "__main__":
  sys.exit(main())
