"""Names of a config to what they name, in ganjax and outside of it.

A name is that of a registry, or `module:attribute`. What was found outside of
ganjax has to be imported before it is found again: a `Finder` keeps from where
each thing came, and `resolve` writes that into `config.imports`.
"""

import pathlib
import sys
from collections.abc import Callable
from typing import Any

from ganjax import errors, registry
from ganjax.objectives import schedules
from ganjax.runs.configs import keys, schema
from ganjax.runs.configs.sections import Section

SCHEDULE = Section(kind="schedule", find=schedules.find_schedule)


class Finder:
  """Finds what a config names, and remembers what has to be imported for it.

  Attributes:
    imports: the modules by dotted name or absolute path, without repeats.
      `registry.NOWHERE` stands for a notebook or a script.
  """

  def __init__(self, imports: Any):
    """Imports what a config says is to be imported.

    Args:
      imports: its key `imports`.

    Raises:
      UserError: that is no tuple of texts.
    """
    entry = keys.SCHEMA["imports"]
    assert isinstance(entry, schema.Parameter)
    schema.check_value("config.imports", imports, entry)
    self.imports: list[str] = []
    # Module -> why it could not be imported. It may have moved, and what it
    # registers be there all the same; if not, the errors of names say so.
    self._failed: dict[str, errors.UserError] = {}
    for name in imports:
      _check_module("config.imports", name)
      self._add(absolute(name))
    for name in self.imports:
      if name == registry.NOWHERE or _is_imported(name):
        continue
      try:
        registry.import_module(name)
      except errors.UserError as error:
        self._failed[name] = error

  def find(self, where: str, name: str, section: Section) -> Callable:
    """Returns what `name` names.

    Args:
      where: the name stands, for errors.
      name: of one of the things of `section`.
      section: how it is found.

    Raises:
      UserError: there is no such thing; the error says what to do.
    """
    module, colon, _ = name.rpartition(":")
    if colon:
      _check_module(where, module)
    try:
      found = section.find(name)
    except errors.UserError as error:
      raise self._explained(where, name, section.kind, error) from error
    try:
      schema.arguments(found)
    except (TypeError, ValueError) as error:  # It cannot be called.
      raise errors.UserError(
        f"{where}={name!r} is no {section.kind}, but {found!r}"
      ) from error
    self._add(_lasting(registry.origin(found)))
    return found

  def schedule(
    self, path: str, spec: schema.Spec
  ) -> tuple[schema.Spec, schema.Schema]:
    """Returns a schedule's spec with its name made absolute, and its schema."""
    named = with_name(path, spec)
    name = named["name"]
    found = self.find(f"{path}.name", name, SCHEDULE)
    return named, {"name": name_entry(name), **schema.of(found)}

  def _add(self, module: str) -> None:
    if module and module not in self.imports:
      self.imports.append(module)

  def _explained(
    self, where: str, name: str, kind: str, error: errors.UserError
  ) -> errors.UserError:
    """Returns the error of a name that is not known, with its likely cause."""
    if self._failed:
      why = "; ".join(str(failed) for failed in self._failed.values())
      return errors.UserError(f"{where}={name!r}: config.imports: {why}")
    if registry.NOWHERE in self.imports:
      return errors.UserError(
        f"{where}: the run used {kind} {name!r}, registered in a notebook or "
        "script that must be run first"
      )
    return errors.UserError(f"{where}: {error}")


def _check_module(where: str, name: str) -> None:
  """Raises a `UserError` for what can name no module; it may not exist."""
  fits = all(part.isidentifier() for part in name.split("."))
  if name.endswith(".py"):
    try:
      pathlib.Path(name).is_file()
      fits = True
    except (OSError, ValueError):  # Too long, or with a null byte.
      fits = False
  if not fits:
    raise errors.UserError(
      f"{where}: {name!r} is no module, such as my_package.losses, and no path "
      "of a .py file"
    )


def _lasting(module: str) -> str:
  """Returns how a module can be named in another process, in any folder.

  A module that is not installed is found by its name from one folder alone.
  The path of its file is good everywhere, also if it belongs to a package.

  Args:
    module: what `registry.origin` says.
  """
  if module == registry.NOWHERE:
    return module
  file = _file_of(sys.modules.get(module))
  if file is None or file.name == "__init__.py":
    return module
  if {"site-packages", "dist-packages"} & set(file.parts):
    return module  # It is installed.
  return str(file)


def _is_imported(name: str) -> bool:
  """Returns whether a file is imported already, under whatever name."""
  if not name.endswith(".py"):
    return False
  known = list(sys.modules.values())
  return any(getattr(m, "__file__", None) == name for m in known)


def _file_of(module: Any) -> pathlib.Path | None:
  """Returns the .py file of a module, or None."""
  file = getattr(module, "__file__", None)
  if file is None or not file.endswith(".py"):
    return None
  return pathlib.Path(file).resolve()


def absolute(name: str) -> str:
  """Returns a module, or `module:attribute`, whose file is named absolutely.

  Args:
    name: any name of a config; those that name no file stay as they are.
  """
  module, colon, attribute = name.rpartition(":")
  if not colon:
    module, attribute = attribute, ""
  if not module.endswith(".py"):
    return name
  try:
    path = pathlib.Path(module).expanduser().resolve()
  except (OSError, RuntimeError, ValueError):  # No path, or no such home.
    return name
  return f"{path}{colon}{attribute}"


def name_entry(name: str) -> schema.Parameter:
  """Returns what a config may say as the name of a section: a text."""
  return schema.Parameter(default=name, kind=str)


def with_name(path: str, spec: Any, name: str | None = None) -> dict[str, Any]:
  """Returns a spec that surely has a name; that of its file is absolute.

  Args:
    path: where the spec stands, for errors.
    spec: of a section.
    name: in place of the spec's own.

  Raises:
    UserError: it has none.
  """
  result = dict(schema.check_dict(path, spec))
  if name:
    result["name"] = name
  if "name" not in result:
    raise errors.UserError(f"{path}.name is missing")
  schema.check_value(f"{path}.name", result["name"], name_entry(""))
  result["name"] = absolute(result["name"])
  return result
