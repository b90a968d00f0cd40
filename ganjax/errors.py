"""Errors that a user is shown without a traceback."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
  """A mistake in what the user gave; its text says what to do instead."""


class SaveError(RuntimeError):
  """A run could not be written to disk; its text says what was lost."""


def unknown(kind: str, name: object, known: Iterable[str]) -> UserError:
  """Returns the error for a name that does not exist.

  Args:
    kind: what was looked up, as the user calls it: "loss", "config key".
    name: what the user wrote.
    known: every name that exists.

  Returns:
    An error that names the nearest of `known` first, then all of them.
  """
  known = sorted(known)
  last = str(name).rpartition(".")[2]  # Of a config key: what is mistyped.
  near = difflib.get_close_matches(last, known, n=2, cutoff=0.5)
  hint = f" did you mean {' or '.join(map(repr, near))}?" if near else ""
  return UserError(
    f"unknown {kind} {name!r};{hint} known: {', '.join(known) or 'none'}"
  )
