"""Metrics: each file `metrics/<name>.py` registers a factory of its own name.

A factory takes hyper-parameters and returns a metric:

    @metrics.register(on="samples", better={"gap": "lower"})
    def gap(power: float = 1.0) -> metrics.Metric:
      def metric(real, fake):  # float64 `[N, d]` and `[M, d]`.
        real, fake = metrics.check("gap", real, fake)
        distance = np.abs(real.mean(axis=0) - fake.mean(axis=0)).sum()
        return metrics.Record(
          {"gap": float(distance**power)},
          {"num_real": len(real), "num_fake": len(fake), "power": power},
        )
      return metric

Such a function may stand in any file. There it is named `module:attribute`,
e.g. `my_metrics:gap` or `path/to/my_metrics.py:gap`, or `gap` once its module
is imported.

Statistics are float64 on the host. Parameters that are named as in `GIVEN` are
given by whoever evaluates; all others are hyper-parameters, which a config
sets.
"""

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias, TypeVar

from ganjax import errors, registry
from ganjax.evaluation.metrics.checks import (
  check,
  check_finite,
  check_images,
  check_labels,
)
from ganjax.evaluation.record import Record

__all__ = [
  "GIVEN",
  "INPUTS",
  "METRICS",
  "NEEDS",
  "Metric",
  "Record",
  "better",
  "check",
  "check_finite",
  "check_images",
  "check_labels",
  "find",
  "format_of",
  "get",
  "how",
  "input_of",
  "names",
  "needs",
  "register",
  "spread_of",
  "total_of",
  "values_of",
]

METRICS = registry.Registry("metric", __name__, helpers=("checks", "ssim"))

Metric: TypeAlias = Callable[..., Record]
Factory = TypeVar("Factory", bound=Callable[..., Metric])

# What a metric may compare.
INPUTS = {
  "features": "of an extractor, `[N, d]`",
  "logits": "of an extractor that knows classes, `[N, K]`",
  "samples": "float64 `[N, d]`: images flattened, or points",
  "images": "as they are stored, `[N, H, W, C]`",
}

# What a factory may ask for beside its hyper-parameters; None where it is not
# there. All but labels stand in the form that `on` names.
GIVEN = {
  "labels": "int [N], of the reals",
  "fake_labels": "int [M], of the fakes",
  "held_out": "the test split",
  "held_out_labels": "its int labels",
  "validation": "a split for choosing a hyper-parameter of the metric",
}

# A metric of held-out images themselves needs an ability of the system: it is
# called with what there should be, and with what the ability makes of the
# images. Ability -> what there should be; of any other ability, the images.
NEEDS = {
  "reconstruct": "the images `[N, H, W, C]`",
  "classify": "their labels `[N]`",
  "score": "bool `[N]`, whether an image is of a class that training had",
  "log_likelihood": "the images",
}

_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Declaration:
  """What `register` says of a metric; the factory's attribute `declaration`.

  Attributes: see `register`.
  """

  on: str
  better: Mapping[str, str]
  needs: str
  how: tuple[str, ...]
  formats: Mapping[str, str]
  spreads: Mapping[str, str]
  totals: Mapping[str, str]


def register(
  *,
  on: str,
  better: Mapping[str, str] = _NOTHING,
  needs: str = "",
  how: tuple[str, ...] = (),
  formats: Mapping[str, str] = _NOTHING,
  spreads: Mapping[str, str] = _NOTHING,
  totals: Mapping[str, str] = _NOTHING,
  name: str = "",
) -> Callable[[Factory], Factory]:
  """Registers the factory of a metric; use as a decorator.

  Args:
    on: what the metric compares, one of `INPUTS`.
    better: value -> "lower" or "higher", for each value that has a direction.
    needs: the ability of a system that is measured, e.g. one of `NEEDS`; ""
      for a metric of samples.
    how: which hyper-parameters the ability is given, too.
    formats: value -> how a table writes it, e.g. ".1f"; by default it has
      three digits.
    spreads: value -> the value that is its standard deviation or error, which
      a table writes behind it, in the same format.
    totals: count -> the value that is its largest possible count.
    name: in configs; that of the function if empty.

  Returns:
    A decorator that returns its function as it is, with the attribute
    `declaration`.

  Raises:
    UserError: there is no such input or direction.
  """
  if on not in INPUTS:
    raise errors.unknown("input of a metric", on, INPUTS)
  for direction in better.values():
    if direction not in ("lower", "higher"):
      raise errors.unknown("direction", direction, ("lower", "higher"))
  declaration = Declaration(
    on=on,
    better=better,
    needs=needs,
    how=how,
    formats=formats,
    spreads=spreads,
    totals=totals,
  )

  def decorate(factory: Factory) -> Factory:
    setattr(factory, "declaration", declaration)  # noqa: B010
    return METRICS.register(factory, name=name)

  return decorate


def find(name: str) -> Callable[..., Metric]:
  """Returns the factory of the metric `name`, or of `module:attribute`.

  Raises:
    UserError: there is no such metric, or it is not registered.
  """
  factory = METRICS.find(name)
  if not isinstance(getattr(factory, "declaration", None), Declaration):
    raise errors.UserError(
      f"{name} does not say what it compares: decorate it, e.g. with "
      '@metrics.register(on="features")'
    )
  return factory


def get(name: str, **hyper: Any) -> Metric:
  """Returns the metric `name` with its hyper-parameters bound."""
  return find(name)(**hyper)


def names() -> list[str]:
  """Returns the names of the metrics that there are."""
  return METRICS.names()


def input_of(name: str) -> str:
  """Returns what the metric `name` compares: one of `INPUTS`."""
  return _declaration(name).on


def needs(name: str) -> str:
  """Returns the ability that `name` measures: see `NEEDS`; "" for samples."""
  return _declaration(name).needs


def how(name: str) -> tuple[str, ...]:
  """Returns which hyper-parameters of `name` the ability is given, too."""
  return _declaration(name).how


def values_of(name: str) -> list[str]:
  """Returns the values of the metric `name` that have a direction."""
  return list(_declaration(name).better)


def better(value: str) -> str:
  """Returns which of two `value`s is better: "lower", "higher" or ""."""
  return _of_value("better", value)


def format_of(value: str) -> str:
  """Returns how a table writes a value, such as ".1f"; "" by default."""
  return _of_value("formats", value)


def spread_of(value: str) -> str:
  """Returns the value that is the deviation or error of `value`, or ""."""
  return _of_value("spreads", value)


def total_of(value: str) -> str:
  """Returns the value that is the largest possible count `value`, or ""."""
  return _of_value("totals", value)


def _declaration(name: str) -> Declaration:
  return getattr(find(name), "declaration")  # noqa: B009


def _of_value(attribute: str, value: str) -> str:
  """Returns what the first metric with such a value says of it, or ""."""
  for name in names() if value else ():
    found = getattr(_declaration(name), attribute).get(value)
    if found:
      return found
  return ""
