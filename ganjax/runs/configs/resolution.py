"""Configs as they are written to configs as they are run.

A config states what a paper states. `resolve` writes the defaults of the
signatures of all that it names beside that, so that every key is there for a
flag to set, and `config.json` keeps what a run really used, whatever later
versions default to.
"""

from collections.abc import Mapping
from typing import Any

import ml_collections
from ml_collections import config_dict

from ganjax import errors
from ganjax.evaluation import metrics
from ganjax.runs import monitor
from ganjax.runs.configs import keys, schema, sections
from ganjax.runs.configs.experiment import Config
from ganjax.runs.configs.finder import Finder, name_entry, with_name
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
    spec = with_name(path, given["system"], renamed.get("system"))
    system = finder.find(f"{path}.name", spec["name"], found["system"])
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


def _resolve_one(
  key: str,
  spec: Any,
  section: Section,
  finder: Finder,
  renamed: Mapping[str, str],
) -> dict[str, Any]:
  """Resolves a section that names one thing."""
  path = f"config.{key}"
  named = with_name(path, spec, renamed.get(key))
  found = finder.find(f"{path}.name", named["name"], section)
  known = section.schema_of(found)
  if key in renamed:
    named = {k: v for k, v in named.items() if k in known or k == "name"}
  known = {"name": name_entry(named["name"]), **known}
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
      named = with_name(path, named, name)
      found = finder.find(f"{path}.name", named["name"], section)
      known["name"] = name_entry(named["name"])
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
  monitor.names_of(result["stop_when"])
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
