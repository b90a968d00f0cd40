"""The command line of a training run: flags to a config and a workdir.

Every key of a config is a flag: `--config.g_opt.learning_rate=1e-4`. Nothing
here imports JAX before there is a config to read, so that `--help` is quick.
"""

import ast
import os
import re
from collections.abc import Sequence
from typing import Any

from absl import flags

from ganjax import errors, files

DEFAULT = "digits_dcgan"
USAGE = """\
usage: ganjax train [--config FILE[:ARG]] [--workdir DIR]
                    [--config.KEY=VALUE ...] [--debug]
                    [--coordinator HOST:PORT --num_processes N --process_id I]

  --config FILE[:ARG]  an experiment, by path or by name (default {default});
                       every one knows the argument `smoke`: two quick steps
  --workdir DIR        where the run lives (default runs/NAME); the same DIR
                       again resumes where it stopped
  --config.KEY=VALUE   any key of the config, e.g. --config.loss.name=hinge
                       --config.g_opt.learning_rate=1e-4 --config.num_steps=9
  --config.imports=A,B modules, or paths of .py files, that register what the
                       config names
  --debug              show the traceback of an error
  --coordinator        one run on several machines, see docs/clusters.md;
                       within srun or mpirun, none of the three is needed

experiments:
{experiments}
"""


def usage() -> str:
  """Returns the help text; imports neither JAX nor an experiment."""
  folder = files.experiments()
  lines = []
  for name in sorted(os.listdir(folder)):
    if not name.endswith(".py"):
      continue
    with open(os.path.join(folder, name), encoding="utf-8") as file:
      docstring = ast.get_docstring(ast.parse(file.read())) or ""
    lines.append(f"  {name[:-3]:22} {docstring.splitlines()[0]}")
  return USAGE.format(default=DEFAULT, experiments="\n".join(lines))


def parse(argv: Sequence[str]) -> tuple[Any, str]:
  """Returns the config and the workdir of a command line.

  A process that is one of several of a run joins the others here: JAX must
  know them before its first use.

  Args:
    argv: the program's name and its arguments.

  Raises:
    UserError: anything in it is wrong.
  """
  from ganjax.runs import configs

  argv = list(argv)
  _connect(argv)
  spec = _take(argv, "--config", DEFAULT)
  _check_path("--config", spec.partition(":")[0])
  imports = _imports(argv)
  config = configs.load(spec)
  overrides = [a[2:] for a in argv if a.startswith("--config.")]
  paths = [override.partition("=")[0] for override in overrides]
  config = configs.resolve(
    _with_named(config, paths, imports), _renamed(overrides)
  )
  for path in paths:
    _check_key(config, path)
  config, workdir = _parsed(config, argv)
  stem = os.path.basename(spec).replace(".py", "").replace(":", "_")
  workdir = workdir or os.path.join("runs", stem)
  _check_path("--workdir", workdir)
  return configs.resolve(config), workdir


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


def _imports(argv: list[str]) -> tuple[str, ...]:
  """Removes `--config.imports` from `argv`, and imports what it names.

  It is read before all other flags, which may name what it registers.

  Returns:
    The modules, of "a,b" or "('a', 'b')".

  Raises:
    UserError: there is no such module.
  """
  from ganjax import registry

  text = _take(argv, "--config.imports", "")
  names = re.split(r"[\s,]+", text.strip("()[] ,"))
  names = [name.strip("'\"") for name in names if name]
  for name in names:
    try:
      registry.import_module(name)
    except (errors.UserError, ValueError) as error:
      raise errors.UserError(f"config.imports: {error}") from error
  return tuple(names)


def _renamed(overrides: Sequence[str]) -> dict[str, str]:
  """Returns section -> the name that a flag gives it.

  Args:
    overrides: "config.g_opt.name=sgd", "config.penalties.mine.name=my.py:f".
  """
  result = {}
  for override in overrides:
    path, _, name = override.partition("=")
    section = path.removeprefix("config.").removesuffix(".name")
    if path == f"config.{section}.name":
      result[section] = name
  return result


def _with_named(
  config: Any, paths: Sequence[str], imports: Sequence[str]
) -> Any:
  """Adds what flags name: `--config.penalties.r1.gamma=1` brings r1 along."""
  from ml_collections import ConfigDict

  from ganjax.runs.configs import sections

  tree = config.to_dict()
  many = {"penalties"}
  many.update(key for key, one in sections.COMMON.items() if one.many)
  for path in paths:
    _, section, *rest = path.split(".")
    if section in many and len(rest) == 2:
      tree.setdefault(section, {}).setdefault(rest[0], {})
  if imports:
    tree["imports"] = (*tree.get("imports", ()), *imports)
  return ConfigDict(tree)


def _parsed(config: Any, argv: Sequence[str]) -> tuple[Any, str]:
  """Returns the config with its flags applied, and `--workdir`.

  Args:
    config: resolved, so that it has every key that a flag may set.
    argv: the rest of the command line.

  Raises:
    UserError: an unknown flag, or a value of the wrong type.
  """
  from ml_collections import config_flags

  values = flags.FlagValues()
  flags.DEFINE_string("workdir", "", "", flag_values=values)
  flags.DEFINE_bool("debug", False, "", flag_values=values)
  try:
    config_flags.DEFINE_config_dict(
      "config", config, flag_values=values, sys_argv=list(argv)
    )
    rest = values(list(argv))[1:]
  except (flags.Error, ValueError) as error:  # The latter of --nodebug=1.
    raise _user_error(config, str(error)) from error
  if rest:
    raise errors.UserError(f"unexpected argument {rest[0]!r}; see --help")
  return values["config"].value, values["workdir"].value or ""


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


def _check_key(config: Any, path: str) -> None:
  """Raises a `UserError` if a config does not have the key of a flag."""
  node = config
  for key in path.split(".")[1:]:
    keys = list(node) if hasattr(node, "keys") else []
    if key not in keys:
      raise errors.unknown("config key", path, keys)
    node = node[key]


def _user_error(config: Any, text: str) -> errors.UserError:
  """Says of a flag of the wrong type what type it should be."""
  from ganjax.runs.configs import schema

  match = re.match(r"flag --config\.([\w.]+)=(.*?): ", text)
  if match is None:
    return errors.UserError(text.splitlines()[0])
  node = config
  for key in match[1].split("."):
    node = node[key]
  kind = schema.KINDS.get(type(node), "a number")
  if hasattr(node, "keys"):
    kind = f"given by its keys: {', '.join(node)}"
  return errors.UserError(f"config.{match[1]}={match[2]!r} must be {kind}")
