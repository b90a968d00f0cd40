"""Trains an experiment: `python -m ganjax.main --config FILE --workdir W`."""

import sys
import warnings
from collections.abc import Sequence

from absl import logging

from ganjax import errors
from ganjax.runs.configs.flags import parse, usage


def _failed(error: Exception, debug: bool) -> int:
  """Ends what went wrong in one process alone."""
  from ganjax import processes

  text = str(error) if isinstance(error, errors.SaveError) else ""
  text = text or processes.lost(error)
  if debug or not text:
    raise error
  print(f"error: {text}", file=sys.stderr)
  processes.leave(1)
  return 1


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command line; returns the exit code."""
  argv = list(sys.argv if argv is None else argv)
  if {"--help", "-h", "-help"} & set(argv):
    print(usage())
    return 0
  debug = "--debug" in argv
  logging.set_verbosity(logging.ERROR)  # Orbax tells of every save.
  warnings.showwarning = lambda message, *_, **__: print(
    f"warning: {message}", file=sys.stderr
  )
  try:
    config, workdir = parse(argv)
    from ganjax.training import population, train

    wanted = population.is_wanted(config)
    (population if wanted else train).train(config, workdir)
  except (errors.UserError, FloatingPointError) as error:
    if debug:
      raise
    print(f"error: {error}", file=sys.stderr)
    return 2 if isinstance(error, errors.UserError) else 1
  except (errors.SaveError, RuntimeError) as error:
    return _failed(error, debug)
  except KeyboardInterrupt as error:
    text = str(error) or "interrupted; the same command resumes"
    print(text, file=sys.stderr)
    return getattr(error, "code", 130)
  return 0


if __name__ == "__main__":
  sys.exit(main())
