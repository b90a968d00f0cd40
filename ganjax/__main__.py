"""`ganjax VERB ...`, also `python -m ganjax VERB ...`: see `ganjax.tools`."""

import argparse
import importlib
import shlex
import sys
import textwrap
from collections.abc import Sequence
from typing import cast

import ganjax
from ganjax import cli, errors, tools
from ganjax import main as training

WIDTH = 79  # Of help texts.
USAGE = """\
usage: ganjax VERB ...

A laboratory for adversarial learning in JAX and Flax.

{verbs}

`ganjax VERB --help` says what a verb takes; `ganjax --version` prints the
version. All verbs take --debug, which shows the traceback of an error.
"""


class _Parser(argparse.ArgumentParser):
  """A parser whose errors are one line, as all others are."""

  def error(self, message: str):
    self.exit(2, f"error: {message}; see --help\n")


def usage() -> str:
  """Returns the help text; imports neither JAX nor a tool."""
  verbs = [f"  {verb:10} {tool.summary}" for verb, tool in tools.VERBS.items()]
  return USAGE.format(verbs="\n".join(verbs))


def parse(verb: str, argv: Sequence[str]) -> argparse.Namespace:
  """Returns the arguments of a verb other than `train`.

  Args:
    verb: one of `tools.VERBS`.
    argv: what follows it.

  Returns:
    What the tool's `run` takes.

  Raises:
    UserError: a flag that is none of the config's, where the tool takes those.
    SystemExit: whatever else is wrong, after one line that says what; or
      `--help`.
  """
  tool = find(verb)
  parser = _Parser(
    prog=f"ganjax {verb}",
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )
  tool.add_arguments(parser)
  # The formatter leaves line breaks as they are, for the examples' sake.
  if parser.description and "\n" not in parser.description:
    parser.description = textwrap.fill(parser.description, WIDTH)
  parser.add_argument(
    "--debug", action="store_true", help="show the traceback of an error"
  )
  if getattr(tool, "TAKES_CONFIG_FLAGS", False):
    args, flags = parser.parse_known_args(argv)
    for flag in flags:
      if not flag.startswith("--config.") or "=" not in flag:
        raise errors.UserError(f"unexpected argument {flag!r}; see --help")
    args.flags = flags
  else:
    args = parser.parse_args(argv)
  args.command = shlex.join(["ganjax", verb, *argv])
  return args


def find(verb: str) -> tools.Tool:
  """Returns the module of a verb other than `train`."""
  name = f"ganjax.tools.{tools.VERBS[verb].module}"
  return cast(tools.Tool, importlib.import_module(name))


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command line; returns the exit code.

  Args:
    argv: what follows `ganjax`; by default that of this process.
  """
  argv = list(sys.argv[1:] if argv is None else argv)
  if not argv:
    print(usage(), end="")
    return 2
  verb, *rest = argv
  if verb in ("--help", "-h", "help"):
    print(usage(), end="")
    return 0
  if verb == "--version":
    print(f"ganjax {ganjax.__version__}")
    return 0
  if verb == "train":
    return training.main(["ganjax train", *rest])

  def command() -> int | None:
    if verb not in tools.VERBS:
      raise errors.unknown("verb", verb, tools.VERBS)
    args = parse(verb, rest)
    return find(verb).run(args)

  return cli.guard(command, debug="--debug" in rest)


if __name__ == "__main__":
  sys.exit(main())
