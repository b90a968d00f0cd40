"""Verbs of the command line, as a test calls them."""

from ganjax import __main__ as cli


class Verb:
  """A verb of `ganjax`, called in this process."""

  def __init__(self, name):
    self.name = name

  def main(self, argv):
    """Runs it; returns the exit code."""
    return cli.main([self.name, *argv])
