"""Experiment files: Python files with a function `get_config`.

A config file is code, and it runs when it is loaded. It is an ordinary module:
it may import what lies beside it, and register losses, nets and systems of its
own, which the config then names.
"""

import inspect
import pathlib
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any, TypeAlias

import ml_collections

from ganjax import errors, files, registry
from ganjax.runs.configs import schema

# An ml_collections.ConfigDict; what it holds is known at run time alone.
Config: TypeAlias = Any

EXPERIMENTS = files.experiments()

# File -> the name of its module, and what stood in it when it was run.
_LOADED: dict[pathlib.Path, tuple[str, bytes]] = {}


def experiments() -> dict[str, pathlib.Path]:
  """Returns name -> file of the experiments that come with ganjax."""
  return {f.stem: f for f in sorted(EXPERIMENTS.glob("[a-z]*.py"))}


def load(spec: str) -> Config:
  """Returns the config of an experiment.

  Args:
    spec: "FILE[:ARGUMENT]". FILE is the name of an experiment that comes with
      ganjax, "digits_dcgan", or the path of a .py file; ARGUMENT is given to
      its `get_config`.

  Raises:
    UserError: there is no such file, it has no `get_config` that returns a
      config, or does not know the argument.
  """
  file, _, argument = spec.partition(":")
  path = _path_of(file)
  module = _import(path)
  get_config = getattr(module, "get_config", None)
  if get_config is None:
    raise errors.UserError(
      f"{path} has no function get_config(arg) that returns a config"
    )
  arguments = [argument]
  if not inspect.signature(get_config).parameters:
    if argument:
      raise errors.UserError(
        f"{path.name} knows no argument {argument!r}: its get_config takes none"
      )
    arguments = []
  try:
    found = get_config(*arguments)
  except KeyError as error:
    if error.args != (argument,):
      raise
    raise errors.UserError(
      f"{path.name} knows no argument {argument!r}; did you mean 'smoke'?"
    ) from error
  if isinstance(found, ml_collections.ConfigDict):
    found = found.to_dict()
  if not isinstance(found, Mapping):
    raise errors.UserError(
      f"get_config of {path} must return a ConfigDict or a dict, not {found!r}"
    )
  return ml_collections.ConfigDict(schema.copy(dict(found)))


def _path_of(file: str) -> pathlib.Path:
  """Returns the file of an experiment's name or path.

  A path that does not exist never means the experiment of the same name: who
  mistypes the folder of a file of his own must not train another one.
  """
  known = experiments()
  path = pathlib.Path(file).expanduser()
  if path.name == file and not file.endswith(".py"):
    if file not in known:
      raise errors.unknown("experiment", file, known)
    return known[file]
  if path.is_file():
    return path.resolve()
  if path.stem in known:
    raise errors.UserError(
      f"there is no file {file}; the experiment that comes with ganjax is "
      f"called by its name alone: {path.stem}"
    )
  raise errors.UserError(f"there is no file {file}")


def _import(path: pathlib.Path) -> ModuleType:
  """Imports an experiment file; anew if it was changed since, as in notebooks.

  Raises:
    UserError: it is no Python file.
  """
  if path.suffix != ".py":
    raise errors.UserError(f"{path} is not a Python file")
  content = path.read_bytes()
  if path in _LOADED:
    name, before = _LOADED[path]
    if before != content:
      sys.modules.pop(name, None)
  module = registry.import_module(str(path))
  _LOADED[path] = (module.__name__, content)
  return module
