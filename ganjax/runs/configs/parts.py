"""Resolved configs to the parts that they name: data and systems."""

from collections.abc import Mapping
from typing import Any

from ganjax import data, errors, systems
from ganjax.objectives import schedules
from ganjax.runs.configs import schema, sections
from ganjax.runs.configs.experiment import Config


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
  load = data.find(spec.pop("name"))
  arrays = load(split, **spec)
  # Held-out images of classes that training left out are scored, too.
  return arrays if split == "test" else data.without(arrays, config.leave_out)


def build(
  config: Config, image_shape: tuple[int, ...], num_classes: int
) -> systems.System:
  """Returns the system of a resolved config.

  Args:
    config: of `resolve`.
    image_shape: of one image of the dataset.
    num_classes: of the dataset's labels, 0 without.

  Raises:
    UserError: settings that exclude each other, or do not fit the images.
  """
  spec = config.to_dict()
  shape = {"image_shape": tuple(image_shape), "num_classes": num_classes}
  arguments = spec["system"]
  name = arguments.pop("name")
  system = systems.SYSTEMS.find(name)
  for key, section in sections.of_system(system).items():
    if key not in spec:
      continue
    if section.many:
      arguments[key] = {
        label: _made(label, part, section, shape)
        for label, part in spec[key].items()
      }
    else:
      arguments[key] = _made(key, spec[key], section, shape)
  arguments.update(_general(config, spec, name, system))
  return system(**arguments)


def _made(
  label: str,
  spec: Mapping[str, Any],
  section: sections.Section,
  shape: Mapping[str, Any],
) -> Any:
  """Returns the part that a spec describes."""
  arguments = dict(spec)
  name = arguments.pop("name", label)
  assert section.make is not None
  return section.make(name, arguments, shape)


def _general(
  config: Config, spec: Mapping[str, Any], name: str, system: Any
) -> dict[str, Any]:
  """Returns what a system takes of the keys that every config has.

  Raises:
    UserError: the config sets one that this system does not know.
  """
  decay = _ema_decay(config.batch_size, **spec["ema"])
  # Argument -> its value, and the value that changes nothing where a system
  # does not take it.
  offered = {
    "d_steps_per_g_step": (config.d_steps_per_g_step, 1),
    "precision": (config.precision, "float32"),
    "scaling": (config.scaling, config.scaling),
    "ema_decay": (decay, 0.0),
  }
  assert offered.keys() == set(sections.GENERAL)
  taken = schema.arguments(system)
  result = {}
  for key, (value, neutral) in offered.items():
    if key in taken:
      result[key] = value
    elif value != neutral:
      raise errors.UserError(
        f"system {name!r} has no {key}: leave it out of the config"
      )
  return result


def _ema_decay(batch_size: int, decay: Any, half_life: Any) -> Any:
  """Returns the decay of the average, a number or a schedule of it."""
  if half_life:
    return schedules.half_life_decay(half_life, batch_size)
  if isinstance(decay, Mapping):
    return schedules.get_schedule(**decay)
  return decay
