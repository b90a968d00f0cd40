"""Configs as they are written to configs as they are run.

A config states what a paper states. `resolve` writes the defaults of the
signatures of all that it names beside that, so that every key is there for a
flag to set, and `config.json` keeps what a run really used, whatever later
versions default to.
"""

import pathlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

import ml_collections
from ml_collections import config_dict

from ganjax import errors, registry
from ganjax.evaluation import metrics
from ganjax.objectives import measurements
from ganjax.objectives import optimizers as schedules
from ganjax.runs.configs import keys, schema, sections
from ganjax.runs.configs.experiment import Config
from ganjax.runs.configs.sections import Section


def resolve(config: Config, renamed: Mapping[str, str] | None = None) -> Config:
  """Returns a checked, locked copy of `config`, every default written out.

  A resolved config resolves to itself.

  Args:
    config: of an experiment, before or after flags were applied to it.
    renamed: section -> the name that a flag gives it, "g_opt" -> "sgd". Keys of
      that section that the new name does not take are dropped, so that a flag
      can exchange Adam for SGD. The section of a penalty is "penalties.r1".

  Raises:
    UserError: naming the first key that is unknown, missing, of the wrong
      type or out of range.
  """
  given = config.to_dict()
  finder = Finder(given.get("imports", ()))
  renamed = renamed or {}
  found = dict(sections.COMMON)
  if "system" in given:
    path = "config.system"
    spec = _with_name(path, given["system"], renamed.get("system"))
    system = finder.find(path, spec["name"], found["system"])
    parts = sections.of_system(system)
    # Its other arguments are keys of its own section.
    others = frozenset({*parts, *sections.GENERAL})
    found["system"] = found["system"]._replace(given=others)
    found.update(parts)
  for key in given:
    if key not in keys.SCHEMA and key not in found:
      known = [*keys.SCHEMA, *found]
      raise errors.unknown("config key", f"config.{key}", known)
  for key in sorted(found):
    if key not in given and found[key].default is None:
      raise errors.UserError(f"config.{key} is missing")

  general = {k: v for k, v in given.items() if k in keys.SCHEMA}
  result = schema.resolve("config", general, keys.SCHEMA, finder.schedule)
  for key, section in found.items():
    spec = given.get(key, section.default)
    if key not in given and not spec and not section.many:
      continue  # A part of the system that may be absent.
    resolve_section = _resolve_many if section.many else _resolve_one
    result[key] = resolve_section(key, spec, section, finder, renamed)
  result["imports"] = tuple(finder.imports)
  _check_together(result)
  return ml_collections.ConfigDict(_with_placeholders(result)).lock()


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
    try:
      found = section.find(name)
    except errors.UserError as error:
      raise self._explained(where, name, section.kind, error) from error
    self._add(_lasting(registry.origin(found)))
    return found

  def schedule(self, path: str, spec: Mapping[str, Any]) -> schema.Schema:
    """Returns the schema of the schedule that `spec` names."""
    name = _with_name(path, spec)["name"]
    found = self.find(f"{path}.name", name, SCHEDULE)
    return {"name": _name_entry(name), **schema.of(found)}

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


def _lasting(module: str) -> str:
  """Returns how a module can be named in another process, in any folder.

  A module that is one file, beside a script or a config, is found by its name
  in that folder alone. Its path is good everywhere.

  Args:
    module: what `registry.origin` says.
  """
  file = _file_of(sys.modules.get(module))
  if "." in module or file is None or file.name == "__init__.py":
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


def _name_entry(name: str) -> schema.Parameter:
  """Returns what a config may say as the name of a section: a text."""
  return schema.Parameter(default=name, kind=str)


def _with_name(path: str, spec: Any, name: str | None = None) -> dict[str, Any]:
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
  schema.check_value(f"{path}.name", result["name"], _name_entry(""))
  result["name"] = absolute(result["name"])
  return result


def _resolve_one(
  key: str,
  spec: Any,
  section: Section,
  finder: Finder,
  renamed: Mapping[str, str],
) -> dict[str, Any]:
  """Resolves a section that names one thing."""
  path = f"config.{key}"
  named = _with_name(path, spec, renamed.get(key))
  found = finder.find(f"{path}.name", named["name"], section)
  known = section.schema_of(found)
  if key in renamed:
    named = {k: v for k, v in named.items() if k in known or k == "name"}
  known = {"name": _name_entry(named["name"]), **known}
  follow = finder.schedule if section.follows else None
  return schema.resolve(path, named, known, follow)


def _resolve_many(
  key: str,
  spec: Any,
  section: Section,
  finder: Finder,
  renamed: Mapping[str, str],
) -> dict[str, Any]:
  """Resolves a section that names any number of things."""
  result = {}
  for label, hyper in schema.check_dict(f"config.{key}", spec).items():
    path = f"config.{key}.{label}"
    named = dict(schema.check_dict(path, hyper))
    known: dict[str, Any] = {}
    name = renamed.get(f"{key}.{label}")
    if name or "name" in named:
      named = _with_name(path, named, name)
      found = finder.find(f"{path}.name", named["name"], section)
      known["name"] = _name_entry(named["name"])
      if section.label is not None:
        section.label(label, found)
    else:
      found = finder.find(path, label, section)
    known.update(section.schema_of(found))
    follow = finder.schedule if section.follows else None
    result[label] = schema.resolve(path, named, known, follow)
  return result


def _check_together(result: Mapping[str, Any]) -> None:
  """Raises a `UserError` for keys that do not go with one another."""
  measurements.names_of(result["stop_when"])
  if result["ema"]["decay"] and result["ema"]["half_life"]:
    raise errors.UserError(
      "config.ema.decay and config.ema.half_life exclude each other: set one "
      "of them to 0"
    )
  best = result["checkpoint"]["best"]
  values = []
  for metric in result["evals"]:
    values.extend(metrics.values_of(metric))
  if best and best not in values:
    raise errors.UserError(
      f"config.checkpoint.best={best!r} is no value of config.evals "
      f"({', '.join(values) or 'which is empty'})"
    )


def _with_placeholders(tree: Any) -> Any:
  """Makes absent numbers such that a flag can still set them."""
  if isinstance(tree, dict):
    return {k: _with_placeholders(v) for k, v in tree.items()}
  return config_dict.placeholder(float) if tree is None else tree
