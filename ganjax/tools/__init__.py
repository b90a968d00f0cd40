"""The verbs of the command `ganjax`, each a tool on top of all else.

A tool is a module with two functions:

- `add_arguments(parser)` declares the options of the command line, and sets
  the parser's `description` and `epilog`.
- `run(args)` does the work and returns the exit code; None is 0. What goes
  wrong is raised: `ganjax.cli.guard` makes one line and an exit code of it.
  `args.command` is the command as it was typed, for pages that print it.

The module's top level imports neither JAX nor Flax, so that `--help` answers
at once: `run` imports what it needs. A tool that takes flags of a config, such
as `--config.batch_size=8`, says so by `TAKES_CONFIG_FLAGS = True`, and finds
them in `args.flags`.

A new verb is such a module and a line of `VERBS`. The verb `train` alone is
`ganjax.main`, whose flags are those of the config.
"""

import argparse
from typing import NamedTuple, Protocol


class Tool(Protocol):
  """What the module of a verb has."""

  def add_arguments(self, parser: argparse.ArgumentParser) -> None:
    """Declares the options of the command line."""
    ...

  def run(self, args: argparse.Namespace) -> int | None:
    """Does the work; returns the exit code, None for 0."""
    ...


class Verb(NamedTuple):
  """A verb of the command line.

  Attributes:
    module: of the tool, within `ganjax.tools`.
    summary: what it does, for `ganjax --help`.
  """

  module: str
  summary: str


VERBS = {
  "train": Verb("", "trains an experiment, or goes on with a run"),
  "sample": Verb("sample", "draws samples of a run"),
  "evaluate": Verb("evaluate", "scores a run, a folder or an array of images"),
  "analyze": Verb("analyze.command", "draws what a trained run has learned"),
  "compare": Verb("compare.command", "puts runs side by side, over seeds"),
  "sweep": Verb("sweep.command", "runs a table of experiments and seeds"),
  "bench": Verb("bench.command", "measures a training step, or the loop"),
  "theory": Verb("theory.command", "plays the papers' small games"),
  "prepare": Verb("prepare", "prepares a dataset once, for later runs"),
  "convert": Verb("convert", "converts published weights of an extractor"),
}
