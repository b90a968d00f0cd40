"""Trains an experiment: `python -m ganjax.main --config FILE --workdir W`."""

import sys
from collections.abc import Sequence

from ganjax import cli
from ganjax.runs.configs.flags import parse, usage


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command line; returns the exit code."""
  argv = list(sys.argv if argv is None else argv)
  if {"--help", "-h", "-help"} & set(argv):
    print(usage())
    return 0
  return cli.guard(
    lambda: train(argv),
    debug="--debug" in argv,
    interrupted="interrupted; the same command resumes",
  )


def train(argv: Sequence[str]) -> None:
  """Trains what a command line describes, or goes on with it.

  Raises:
    UserError: the command line, the config or the workdir is wrong.
    SaveError: the run could not be written.
    FloatingPointError: a loss is not finite.
    KeyboardInterrupt: a signal came; the run is saved.
  """
  config, workdir = parse(argv)
  from ganjax.training import population
  from ganjax.training import train as training

  if population.is_wanted(config):
    population.train(config, workdir)
  else:
    training.train(config, workdir)


if __name__ == "__main__":
  sys.exit(main())
