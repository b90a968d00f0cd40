"""Trains an experiment: `python -m ganjax.main --config FILE --workdir W`.

The only file with absl flags: they make a locked config, `train` does the
rest.
"""

import ast
import functools
import os
import re
import sys
from collections.abc import Sequence

from absl import flags

from ganjax import cli, errors

DEFAULT = "digits_dcgan"
USAGE = """\
usage: python -m ganjax.main [--config FILE[:ARG]] [--workdir DIR]
                             [--config.KEY=VALUE ...] [--debug]
                             [--coordinator HOST:PORT --num_processes N
                              --process_id I]

  --config FILE[:ARG]  an experiment, by path or by name (default {default});
                       every one knows the argument `smoke`: two quick steps
  --workdir DIR        where the run lives (default runs/NAME); the same DIR
                       again resumes where it stopped
  --config.KEY=VALUE   any key of the config, e.g. --config.loss.name=hinge
                       --config.g_opt.learning_rate=1e-4 --config.num_steps=9
  --debug              show the traceback of an error
  --coordinator        one run on several machines, see WORKSPACE.md; within
                       srun or mpirun, none of the three is needed

experiments:
{experiments}
"""


def usage() -> str:
  """Returns the help text; imports neither JAX nor an experiment."""
  from ganjax import files

  folder = files.experiments()
  lines = []
  for name in sorted(os.listdir(folder)):
    if name.endswith(".py"):
      with open(os.path.join(folder, name), encoding="utf-8") as file:
        docstring = ast.get_docstring(ast.parse(file.read())) or ""
      lines.append(f"  {name[:-3]:14} {docstring.splitlines()[0]}")
  return USAGE.format(default=DEFAULT, experiments="\n".join(lines))


def parse(argv: Sequence[str]):
  """Returns (config, workdir) of the command line; joins the others of a run.

  Raises:
    UserError: anything in it is wrong.
  """
  from ml_collections import config_flags

  from ganjax.runs import configs

  argv = list(argv)
  _connect(argv)
  spec = _take(argv, "--config", DEFAULT)
  _check_path("--config", spec.partition(":")[0])
  config = configs.load(spec)
  overrides = [a[2:] for a in argv if a.startswith("--config.")]
  renamed = dict(
    path.split(".")[1:2] + [name]
    for path, _, name in (a.partition("=") for a in overrides)
    if path.count(".") == 2 and path.endswith(".name")
  )
  paths = [override.partition("=")[0] for override in overrides]
  config = configs.resolve(_with_named(config, paths), renamed)
  for path in paths:
    _check_key(config, path)
  values = flags.FlagValues()
  flags.DEFINE_string("workdir", "", "", flag_values=values)
  flags.DEFINE_bool("debug", False, "", flag_values=values)
  try:
    config_flags.DEFINE_config_dict(
      "config", config, flag_values=values, sys_argv=argv
    )
    rest = values(argv)[1:]
  except (flags.Error, ValueError) as error:  # The latter of --nodebug=1.
    raise _user_error(config, str(error)) from error
  if rest:
    raise errors.UserError(f"unexpected argument {rest[0]!r}; see --help")
  stem = os.path.basename(spec).replace(".py", "").replace(":", "_")
  workdir = values["workdir"].value or os.path.join("runs", stem)
  _check_path("--workdir", workdir)
  return configs.resolve(values["config"].value), workdir


def _connect(argv: list[str]) -> None:
  """Removes what is about processes from `argv`, and joins the others."""
  from ganjax import processes

  numbers = []
  for flag, missing in (("--num_processes", "0"), ("--process_id", "-1")):
    given = _take(argv, flag, missing)
    try:
      numbers.append(int(given))
    except ValueError:
      raise errors.UserError(f"{flag}={given} must be an integer") from None
  processes.connect(_take(argv, "--coordinator", ""), *numbers)


def _with_named(config, paths: Sequence[str]):
  """Adds what flags name: `--config.penalties.r1.gamma=1` brings r1 along."""
  from ml_collections import ConfigDict

  from ganjax.runs import configs

  tree = config.to_dict()
  for _, section, *rest in (path.split(".") for path in paths):
    if section in configs.DICTS and len(rest) == 2:
      tree.setdefault(section, {}).setdefault(rest[0], {})
  return ConfigDict(tree)


def _take(argv: list[str], flag: str, default: str) -> str:
  """Removes `flag VALUE` or `flag=VALUE` from `argv`; returns the value."""
  for i, argument in enumerate(argv):
    if argument == flag:
      if i + 1 == len(argv):
        raise errors.UserError(f"{flag} needs a value; see --help")
      value = argv[i + 1]
      del argv[i : i + 2]
      return value
    if argument.startswith(flag + "="):
      del argv[i]
      return argument.partition("=")[2]
  return default


def _check_path(flag: str, path: str) -> None:
  """Raises a `UserError` for what no file system takes; it may not exist."""
  try:
    os.lstat(path)
  except (FileNotFoundError, NotADirectoryError):
    pass
  except (OSError, ValueError) as error:
    reason = getattr(error, "strerror", None) or error
    raise errors.UserError(f"{flag} is no path: {reason}") from error


def _check_key(config, path: str) -> None:
  node = config
  for key in path.split(".")[1:]:
    keys = list(node) if hasattr(node, "keys") else []
    if key not in keys:
      raise errors.unknown("config key", path, keys)
    node = node[key]


def _user_error(config, text: str) -> errors.UserError:
  """Says of a flag of the wrong type what type it should be."""
  from ganjax.runs.configs import schema

  match = re.match(r"flag --config\.([\w.]+)=(.*?): ", text)
  if match is None:
    return errors.UserError(text.splitlines()[0])
  node = functools.reduce(
    lambda node, key: node[key], match[1].split("."), config
  )
  kind = schema.KINDS.get(type(node), "a number")
  if hasattr(node, "keys"):
    kind = f"given by its keys: {', '.join(node)}"
  return errors.UserError(f"config.{match[1]}={match[2]!r} must be {kind}")


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
