"""Sections: what a config names, how that is found, and how it is made.

A section is a dict with a `name`; its other keys are arguments of what has that
name. Which sections a config has depends on its system: each field of the
system that is a network, an optimizer, a loss, penalties or an augmentation is
a section, told by the field's annotation. A system with two generators,

    generator_ab: nn.Module
    generator_ba: nn.Module

has `config.generator_ab` and `config.generator_ba`.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import flax.linen as nn
import optax

from ganjax import data, errors, nets, registry, systems
from ganjax.evaluation import extractors, metrics
from ganjax.objectives import augment, losses, optimizers, penalties, schedules
from ganjax.ranges import CountFrom0
from ganjax.runs.configs import schema

# Which of a net's classes a part is. A part with a longer name, such as
# `generator_ab`, is told by the first of its words.
ROLES = ("generator", "discriminator", "encoder", "decoder")
# Arguments of a system that are keys of the config, not of its section.
GENERAL = ("d_steps_per_g_step", "ema_decay", "precision", "scaling")


# The keys of a section but for its name, and the `image_shape` and
# `num_classes` of the dataset.
Arguments: TypeAlias = Mapping[str, Any]
Shape: TypeAlias = Mapping[str, Any]


class Section(NamedTuple):
  """A kind of thing that a section of a config names.

  Attributes:
    kind: what it is, for errors: "net", "penalty".
    find: name -> the function or class of that name.
    make: `(name, arguments, shape) -> thing`; None for what `build` does not
      make.
    given: arguments of what was found that `make` fills in.
    factory: of `make`, if it takes arguments of its own beside those of what
      was found.
    follows: whether numbers may follow schedules over generator steps.
    many: whether the section holds any number of such things, each under a
      name of its own; that is what it names, unless it has a key `name`.
    label: makes what was found known by its key in such a section, where others
      look it up by that.
    default: the section of a config that does not state it, None if it must.
  """

  kind: str
  find: Callable[[str], Callable]
  make: Callable[[str, Arguments, Shape], Any] | None = None
  given: frozenset[str] = frozenset()
  factory: Callable | None = None
  follows: bool = False
  many: bool = False
  label: Callable[[str, Callable], None] | None = None
  default: Mapping[str, Any] | None = None

  def schema_of(self, found: Callable) -> schema.Schema:
    """Returns what a section may say that names `found`."""
    given = {"name", *self.given}
    result = schema.of(found, given)
    if self.factory is None:
      return result
    return {**result, **schema.of(self.factory, given)}


def _net(part: str) -> Section:
  """Returns the section of a network.

  Args:
    part: of the system, "generator_ab"; its first word is a role if it can be.
  """
  first = part.split("_")[0]
  role = first if first in ROLES else None

  def find(name: str) -> Callable[..., nn.Module]:
    if role is None and ":" not in name:
      raise errors.UserError(
        f"{part!r} is no role of ganjax's nets: name a class of your own, as "
        f"in config.{part}.name='my_nets.py:{part.title()}'"
      )
    return nets.find(name, role or ROLES[0])

  def make(name: str, arguments: Arguments, shape: Shape) -> nn.Module:
    return nets.get(name, role or ROLES[0], **shape, **arguments)

  return Section(
    kind="net",
    find=find,
    make=make,
    given=frozenset({"parent", "image_shape", "num_classes", "outputs"}),
  )


def _make_optimizer(
  name: str, arguments: Arguments, shape: Shape
) -> optax.GradientTransformation:
  del shape
  return optimizers.get(name, **arguments)


OPTIMIZER = Section(
  kind="optimizer",
  find=optimizers.find,
  make=_make_optimizer,
  factory=optimizers.get,
  follows=True,
)


def _make_loss(name: str, arguments: Arguments, shape: Shape) -> losses.Loss:
  del shape
  return losses.get(name, **arguments)


LOSS = Section(
  kind="loss",
  find=losses.LOSSES.find,
  make=_make_loss,
  factory=losses.get,
)

NO_AUGMENTATION = {"name": "none"}


def _make_augmentation(
  name: str, arguments: Arguments, shape: Shape
) -> augment.Augmentation:
  size = shape["image_shape"]
  if {"name": name, **arguments} != NO_AUGMENTATION and len(size) != 3:
    raise errors.UserError(
      f"config.augment.name={name!r} needs images, not {list(size)}"
    )
  return schedules.follow(augment.AUGMENTATIONS.find(name), **arguments)


AUGMENTATION = Section(
  kind="augmentation",
  find=augment.AUGMENTATIONS.find,
  make=_make_augmentation,
  follows=True,
  default=NO_AUGMENTATION,
)


def _make_penalty(
  name: str, arguments: Arguments, shape: Shape
) -> penalties.Penalty:
  del shape
  return schedules.follow(functools.partial(penalties.get, name), **arguments)


PENALTIES = Section(
  kind="penalty",
  find=penalties.PENALTIES.find,
  make=_make_penalty,
  factory=penalties.get,
  follows=True,
  many=True,
  default={},
)


def name_metric(label: str, found: Callable) -> None:
  """Makes a metric known by the label that a config gives it.

  Evaluators, tables and comparisons know a metric by its name alone.

  Args:
    label: of `config.evals`, with a key `name` of its own.
    found: what has that name.

  Raises:
    UserError: it is the name of a metric of ganjax.
  """
  if label in metrics.names():
    own = metrics.find(label)
    if own is not found and not registry.origin(own):
      raise errors.UserError(
        f"config.evals.{label}: ganjax has a metric of that name; choose "
        "another one for yours"
      )
  metrics.METRICS[label] = found


def _evaluation(every: CountFrom0 = 0, num_samples: CountFrom0 = 0) -> None:
  """Has the arguments of a score that are not its metric's own.

  Args:
    every: steps from one score to the next; 0 for at the end only.
    num_samples: how many samples are scored; 0 for as many as the held-out
      split has.
  """


# Sections of every config, whatever its system.
COMMON = {
  "system": Section(kind="system", find=systems.SYSTEMS.find),
  "dataset": Section(
    kind="dataset", find=data.find, given=frozenset({"split"})
  ),
  "extractor": Section(
    kind="extractor",
    find=extractors.find,
    given=frozenset({"dataset", "train", "test"}),
    default={"name": "classifier"},
  ),
  "evals": Section(
    kind="metric",
    find=metrics.find,
    given=frozenset(metrics.GIVEN),
    factory=_evaluation,
    many=True,
    label=name_metric,
    default={},
  ),
}


def of_system(system: Callable) -> dict[str, Section]:
  """Returns the sections of a config with a system, but for the common ones.

  Each part of the system is one. A part that has a default of its own may be
  left out of a config.
  """
  result = {}
  for name, argument in schema.arguments(system).items():
    section = _of_part(name, argument.annotation)
    if section is None:
      continue
    has_default = argument.default is not schema.REQUIRED
    result[name] = section._replace(
      default={} if has_default and section.default is None else section.default
    )
  return result


def _of_part(name: str, annotation: Any) -> Section | None:
  """Returns the section of a part by its annotation, None if it is none."""
  for part in schema.alternatives(annotation)[0]:
    # Of `Mapping[str, Penalty]` the values count.
    inner = getattr(part, "__args__", ())[-1:]
    if inner and inner[0] is penalties.Penalty:
      return PENALTIES
    if not isinstance(part, type):
      continue
    if issubclass(part, nn.Module):
      return _net(name)
    if part is optax.GradientTransformation:
      return OPTIMIZER
    if part is losses.Loss:
      return LOSS
    if part is augment.Augmentation:
      return AUGMENTATION
  return None
