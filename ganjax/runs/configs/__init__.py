"""Experiment files to checked configs, and configs to the parts they name.

A section with a `name` is looked up by it; its other keys are arguments of
what was found. `resolve` writes the defaults of those signatures into the
config, so that every flag is there to be set, and `config.json` keeps what a
run really used whatever later versions default to.
"""

import functools
import importlib.util
import inspect
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import ml_collections
from ml_collections import config_dict

from ganjax import data, errors, files, nets, systems
from ganjax.evaluation import extractors, metrics
from ganjax.objectives import (
  augment,
  losses,
  measurements,
  optimizers,
  penalties,
)
from ganjax.runs.configs import schema

# An ml_collections.ConfigDict; what it holds is known at run time alone.
Config: TypeAlias = Any

EXPERIMENTS = files.experiments()

DEFAULTS = dict(
  num_steps=schema.REQUIRED,
  batch_size=schema.REQUIRED,
  seed=0,
  d_steps_per_g_step=1,
  scaling="symmetric",
  precision="float32",
  steps_per_dispatch=0,
  log_every=100,
  stop_when="",
  start_from="",
  leave_out=(),
  on_nan="raise",
  ema=dict(decay=0.0, half_life=0.0),
  population=dict(seeds=0, mapping="auto", sweep=()),
  stream=dict(mode="auto", workers=0, share=0.5),
  samples=dict(every=1000, num=64),
  checkpoint=dict(every=1000, keep=3, best="", retries=0),
)

# The parts that a system's `make` may ask for, by the section that names them.
NETS = ("generator", "discriminator", "encoder", "decoder")
OPTIMIZERS = ("g_opt", "d_opt", "opt")
FINDERS: dict[str, Callable[[str], Callable]] = {
  "system": lambda name: systems.find(name).make,
  "dataset": lambda name: data.find(name).load,
  "extractor": lambda name: extractors.find(name).make,
  "loss": losses.LOSSES.find,
  "augment": augment.AUGMENTATIONS.find,
  **{role: functools.partial(nets.find, role=role) for role in NETS},
  **{player: optimizers.find for player in OPTIMIZERS},
}
# Sections that every config has, whatever its system.
COMMON = {"system", "dataset", "extractor"}
PARTS = FINDERS.keys() - COMMON
# Sections that need not be stated.
OPTIONAL = {
  "augment": dict(name="none"),
  "extractor": dict(name="classifier"),
}
# Sections that hold any number of named things: how to find one, and what
# ganjax takes of its spec for itself.
DICTS: dict[str, tuple[Callable[[str], Callable], dict[str, Any]]] = {
  "evals": (metrics.find, dict(every=0, num_samples=0)),
  "penalties": (penalties.PENALTIES.find, dict(every=1)),
}
# Arguments that ganjax gives, so that a section may not.
GIVEN = (
  COMMON | PARTS | {"name", "parent", "split", "image_shape", "num_classes"}
)
GIVEN |= {"axis_name", "d_steps_per_g_step", "ema_decay", "penalties"}
GIVEN |= {"precision", "scaling", "outputs", "train", "test", *metrics.GIVEN}
PRECISIONS = ("float32", "bfloat16")
ON_NAN = ("raise", "rollback")
# Sections whose numbers may follow schedules over generator steps.
SCHEDULED = {*OPTIMIZERS, "augment", "penalties"}
# Where a factory `get` takes arguments beside those of what is named.
GENERAL = {"loss": losses.get} | dict.fromkeys(OPTIMIZERS, optimizers.get)


def experiments() -> dict[str, pathlib.Path]:
  """Returns name -> file of the experiments that come with ganjax."""
  return {f.stem: f for f in sorted(EXPERIMENTS.glob("[a-z]*.py"))}


def load(spec: str) -> Config:
  """Returns the config of `FILE[:ARGUMENT]`; FILE may be a bare name.

  Raises:
    UserError: there is no such file, or it does not know the argument.
  """
  file, _, argument = spec.partition(":")
  path = pathlib.Path(file)
  if not path.is_file():
    path = experiments().get(path.stem, path)
  if not path.is_file():
    raise errors.unknown("experiment", file, experiments())
  module_spec = importlib.util.spec_from_file_location(path.stem, path)
  if module_spec is None or module_spec.loader is None:
    raise errors.UserError(f"{path} is not a Python file")
  module = importlib.util.module_from_spec(module_spec)
  try:
    module_spec.loader.exec_module(module)
    tree = module.get_config(argument).to_dict()
    return ml_collections.ConfigDict(schema.copy(tree))
  except KeyError as error:
    if error.args != (argument,):
      raise
    raise errors.UserError(
      f"{path.name} knows no argument {argument!r}; did you mean 'smoke'?"
    ) from error


def resolve(config: Config, renamed: Mapping[str, str] | None = None) -> Config:
  """Returns a checked, locked copy of `config`, every default written out.

  Args:
    config: of an experiment, before or after flags were applied to it.
    renamed: section -> the name that a flag gives it. Keys of that section
      that the new name does not take are dropped, so that a flag can exchange
      Adam for SGD.

  Raises:
    UserError: naming the first key that is unknown, missing, of the wrong
      type or out of range.
  """
  given = config.to_dict()
  system = given.get("system", schema.REQUIRED)
  sections, dicts = set(COMMON), {"evals"}
  if system is not schema.REQUIRED:
    make = schema.find("config.system", system, FINDERS["system"])
    taken = inspect.signature(make).parameters.keys()
    sections |= taken & PARTS
    dicts |= taken & DICTS.keys()
  for key in given:
    if key not in DEFAULTS.keys() | sections | dicts:
      known = [*DEFAULTS, *sections, *dicts]
      raise errors.unknown("config key", f"config.{key}", known)
  given = {k: v for k, v in OPTIONAL.items() if k in sections} | given
  for key in sorted(sections):
    if key not in given:
      raise errors.UserError(f"config.{key} is missing")
  rest = {k: v for k, v in given.items() if k in DEFAULTS}
  result = schema.resolve("config", rest, DEFAULTS)
  for section in sections:
    name = (renamed or {}).get(section)
    result[section] = _resolve_named(section, given[section], name)
  for section in dicts:
    result[section] = _resolve_dict(section, given.get(section, {}))
  measurements.names_of(result["stop_when"])
  if result["ema"]["decay"] and result["ema"]["half_life"]:
    raise errors.UserError(
      "config.ema.decay and config.ema.half_life exclude each other: set one "
      "of them to 0"
    )
  for key, known in ("precision", PRECISIONS), ("on_nan", ON_NAN):
    if result[key] not in known:
      raise errors.unknown(f"config.{key}", result[key], known)
  best = result["checkpoint"]["best"]
  values = [v for name in result["evals"] for v in metrics.values_of(name)]
  if best and best not in values:
    raise errors.UserError(
      f"config.checkpoint.best={best!r} is no value of config.evals "
      f"({', '.join(values) or 'which is empty'})"
    )
  return ml_collections.ConfigDict(_with_placeholders(result)).lock()


def _with_placeholders(tree: Any) -> Any:
  """Makes absent numbers such that a flag can still set them."""
  if isinstance(tree, dict):
    return {k: _with_placeholders(v) for k, v in tree.items()}
  return config_dict.placeholder(float) if tree is None else tree


def _resolve_named(section: str, spec: Any, name: str | None) -> dict:
  path = f"config.{section}"
  new = dict(schema.check_dict(path, spec))
  if name:
    new["name"] = name
  found = schema.of(schema.find(path, new, FINDERS[section]), GIVEN)
  if section in GENERAL:
    found |= schema.of(GENERAL[section], GIVEN)
  if name:
    new = {k: v for k, v in new.items() if k in found or k == "name"}
  expected = {"name": new["name"], **found}
  return schema.resolve(path, new, expected, section in SCHEDULED)


def _resolve_dict(section: str, spec: Any) -> dict:
  find, general = DICTS[section]
  result = {}
  for name, hyper in schema.check_dict(f"config.{section}", spec).items():
    found = schema.find(f"config.{section}", {"name": name}, find)
    path, known = f"config.{section}.{name}", {**general}
    known |= schema.of(found, GIVEN)
    result[name] = schema.resolve(path, hyper, known, section in SCHEDULED)
  return result


def check_devices(config: Config, num_devices: int) -> None:
  """Raises a `UserError` if the devices cannot share a batch evenly."""
  size = config.batch_size
  low = size // num_devices * num_devices
  if low != size:
    near = [str(n) for n in (low, low + num_devices) if n]
    raise errors.UserError(
      f"config.batch_size={size} is not divisible by the {num_devices} "
      f"devices; nearest: {' or '.join(near)}"
    )


def load_data(config: Config, split: str) -> data.Arrays:
  """Returns a split of the config's dataset, whole if it is the "test" one."""
  spec = config.dataset.to_dict()
  arrays = data.find(spec.pop("name")).load(split, **spec)
  return arrays if split == "test" else data.without(arrays, config.leave_out)


def build(
  config: Config,
  image_shape: tuple[int, ...],
  num_classes: int,
  axis_name: str | None = None,
) -> systems.System:
  """Returns the system of a resolved config.

  Args:
    config: of `resolve`.
    image_shape: of one image of the dataset.
    num_classes: of the dataset's labels, 0 without.
    axis_name: the mapped axis, or None on one device.
  """
  spec = config.to_dict()
  if spec.get("augment", OPTIONAL["augment"]) != OPTIONAL["augment"]:
    if len(image_shape) != 3:
      raise errors.UserError(
        f"config.augment.name={spec['augment']['name']!r} needs images, not "
        f"{list(image_shape)}"
      )
  shape = dict(image_shape=image_shape, num_classes=num_classes)
  net = functools.partial(nets.get, axis_name=axis_name, **shape)
  makers = {
    **{role: functools.partial(net, role=role) for role in NETS},
    **dict.fromkeys(OPTIMIZERS, optimizers.get),
    "loss": losses.get,
    "augment": lambda name, **hyper: optimizers.follow(
      augment.AUGMENTATIONS[name], **hyper
    ),
  }
  parts = {k: make(**spec[k]) for k, make in makers.items() if k in spec}
  if "penalties" in spec:
    named = spec["penalties"].items()
    parts["penalties"] = {
      k: optimizers.follow(functools.partial(penalties.get, k), **hyper)
      for k, hyper in named
    }
  make = systems.find(name := spec["system"].pop("name")).make
  taken = inspect.signature(make).parameters
  general = {
    "axis_name": (axis_name, axis_name),
    "d_steps_per_g_step": (config.d_steps_per_g_step, 1),
    "precision": (config.precision, "float32"),
    "scaling": (config.scaling, config.scaling),
    "ema_decay": (_ema_decay(config.batch_size, **spec["ema"]), 0.0),
  }
  for key, (value, default) in general.items():
    if key in taken:
      parts[key] = value
    elif value != default:
      raise errors.UserError(
        f"system {name!r} has no {key}: leave it out of the config"
      )
  return make(**parts, **spec["system"])


def _ema_decay(batch_size: int, decay: Any, half_life: Any):
  """Returns the decay of the average, a number or a schedule of it."""
  if half_life:
    return optimizers.half_life_decay(half_life, batch_size)
  scheduled = isinstance(decay, Mapping)
  return optimizers.get_schedule(**decay) if scheduled else decay
