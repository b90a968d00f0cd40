"""What every command has in common: how it fails, and its exit codes."""

import contextlib
import sys
import warnings
from collections.abc import Callable, Iterator

from ganjax import errors


def guard(
  command: Callable[[], int | None],
  debug: bool = False,
  interrupted: str = "interrupted",
) -> int:
  """Calls a command; each way to fail is one line on the standard error.

  Args:
    command: returns an exit code; None is 0.
    debug: whether a failure is raised instead, with its traceback.
    interrupted: what to say of a Ctrl-C that says nothing itself.

  Returns:
    The exit code: 2 for a mistake of the user and for a file that cannot be
    read or written, 1 for a number that is not finite, for a run that could
    not be saved and for what a device has no memory for, 128 + N for the
    signal N (Ctrl-C is 2).

  Raises:
    Exception: one that is a fault of ganjax, or any if `debug` is set.
  """
  from absl import logging

  logging.set_verbosity(logging.ERROR)  # Orbax tells of every save.
  with _short_warnings():
    try:
      return command() or 0
    except (errors.UserError, OSError) as error:
      return _say(error, code=2, debug=debug)
    except FloatingPointError as error:
      return _say(error, code=1, debug=debug)
    except (errors.SaveError, RuntimeError) as error:
      return _end_alone(error, debug)
    except KeyboardInterrupt as error:
      print(str(error) or interrupted, file=sys.stderr)
      return getattr(error, "code", 130)


@contextlib.contextmanager
def _short_warnings() -> Iterator[None]:
  """Has warnings printed as one line, without the place they come from."""
  before = warnings.showwarning

  def show(message, *_, **__):
    print(f"warning: {message}", file=sys.stderr)

  warnings.showwarning = show
  try:
    yield
  finally:
    warnings.showwarning = before


def _say(error: Exception, code: int, debug: bool) -> int:
  if debug:
    raise error
  print(f"error: {error}", file=sys.stderr)
  return code


def _end_alone(error: Exception, debug: bool) -> int:
  """Ends this process after an error that others of a run may not have.

  Raises:
    Exception: `error`, if it is a fault of ganjax or `debug` is set.
  """
  # They import JAX, which `--help` does not need.
  from ganjax import processes
  from ganjax.training import memory

  if isinstance(error, errors.SaveError):
    text = str(error)
  else:
    text = memory.refused(error) or processes.lost(error)
  if debug or not text:
    raise error
  print(f"error: {text}", file=sys.stderr)
  # The other processes may wait for this one: a usual exit would wait, too.
  processes.leave(1)
  return 1
