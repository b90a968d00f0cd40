"""Metrics: each file `metrics/<name>.py` has a factory of its own name.

`frechet() -> metric(real [N, d], fake [M, d]) -> Record`. Statistics are
float64 on the host. Two constants stand beside the factory. `ON` says what its
metric compares: an extractor's "features" or "logits", the "samples" as
float64 `[N, d]`, or the "images" as they are stored. `BETTER` says of each
value that has a direction whether "lower" or "higher" is better. Parameters
named as in `GIVEN` are given by whoever evaluates, not by a config.

A metric of held-out images themselves names in `NEEDS` the ability of a system
(see `System`) that it measures. It is called with what there should be and with
what the ability makes of the images: see `NEEDS` below.
"""

import dataclasses
import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from ganjax import errors, registry

HELPERS = ("ssim",)

# What a factory may ask for beside its hyper-parameters; None where it is not
# there. All but labels stand in the form that `ON` names.
GIVEN = {
  "labels": "int [N], of the reals",
  "fake_labels": "int [M], of the fakes",
  "held_out": "the test split",
  "held_out_labels": "its int labels",
  "validation": "a split for choosing a hyper-parameter of the metric",
}


# Ability of a system -> what its outcome is compared with.
NEEDS = {
  "reconstruct": "the images `[N, H, W, C]`",
  "classify": "their labels `[N]`",
  "score": "bool `[N]`, whether an image is of a class that training had",
  "log_likelihood": "the images",
}


@dataclasses.dataclass(frozen=True)
class Record:
  """A measurement: its values and how they were made, never a bare float.

  Attributes:
    values: name -> value.
    protocol: what has to agree before two records may be compared: numbers
      of samples, extractor, split. Strings, booleans, integers and floats.
    flags: what makes the values doubtful, in a few words each: "rank
      deficient", "constant".
  """

  values: dict[str, float]
  protocol: dict[str, object]
  flags: tuple[str, ...] = ()

  def to_dict(self) -> dict[str, Any]:
    """Returns all as JSON can hold them: infinity and NaN become strings."""
    return {
      "values": {name: _plain(v) for name, v in self.values.items()},
      "protocol": {name: _plain(v) for name, v in self.protocol.items()},
      "flags": list(self.flags),
    }

  @classmethod
  def from_dict(cls, plain: dict[str, Any]) -> "Record":
    """Returns what `to_dict` made plain."""
    values: dict[str, float] = {
      name: v if isinstance(v, (int, float)) else float(v)
      for name, v in plain["values"].items()
    }
    return cls(values, dict(plain["protocol"]), tuple(plain["flags"]))


Metric = Callable[[Any, Any], Record]


def find(name: str) -> Callable[..., Metric]:
  """Returns the factory of the metric `name`, or raises a `UserError`."""
  return getattr(_module(name), name)


def get(name: str, **hyper: Any) -> Metric:
  """Returns the metric `name` with its hyper-parameters bound."""
  return find(name)(**hyper)


def input_of(name: str) -> str:
  """Returns what `name` compares: see `ON` above."""
  return _module(name).ON


def needs(name: str) -> str:
  """Returns the ability that `name` measures: see `NEEDS`; "" for samples."""
  return getattr(_module(name), "NEEDS", "")


def how(name: str) -> tuple[str, ...]:
  """Returns which hyper-parameters of `name` the ability is given, too."""
  return getattr(_module(name), "HOW", ())


def values_of(name: str) -> list[str]:
  """Returns the values of `name` that have a direction: see `BETTER`."""
  return list(_module(name).BETTER)


def better(value: str) -> str:
  """Returns which of two `value`s is better: "lower", "higher" or ""."""
  for name in names() if value else ():
    if direction := _module(name).BETTER.get(value):
      return direction
  return ""


def names() -> list[str]:
  """Returns the names of the metrics that there are."""
  return registry.module_names(sys.modules[__name__], HELPERS)


def check(
  metric: str, real: Any, fake: Any, min_samples: int = 1
) -> tuple[np.ndarray, np.ndarray]:
  """Returns both samples as float64 `[N, d]` and `[M, d]`.

  Args:
    metric: its name, for the errors.
    real: array `[N, d]`.
    fake: array `[M, d]`.
    min_samples: how many samples each of them needs.

  Raises:
    UserError: shapes that do not fit, too few samples, or samples that are
      not finite, as those of a generator that diverged.
  """
  arrays = []
  for kind, array in (("real", real), ("fake", fake)):
    array = np.asarray(array, np.float64)
    if array.ndim != 2 or array.shape[1:] != np.shape(real)[1:]:
      raise errors.UserError(
        f"{metric}: real {np.shape(real)} and fake {np.shape(fake)} must be "
        "[N, d] and [M, d]"
      )
    if len(array) < min_samples:
      raise errors.UserError(
        f"{metric}: {len(array)} {kind} samples are too few, it needs at "
        f"least {min_samples}"
      )
    bad = len(array) - np.isfinite(array).all(axis=1).sum()
    if bad:
      raise errors.UserError(
        f"{metric}: {bad} of {len(array)} {kind} samples are not finite"
      )
    arrays.append(array)
  return arrays[0], arrays[1]


def check_finite(metric: str, what: str, array: np.ndarray) -> None:
  """Raises a `UserError` unless each row of `array [N, ...]` is finite."""
  finite = np.isfinite(array).reshape(len(array), -1).all(axis=1)
  if not finite.all():
    raise errors.UserError(
      f"{metric}: {np.sum(~finite)} of {len(array)} {what} are not finite"
    )


def check_labels(
  metric: str, **given: tuple[Any, np.ndarray]
) -> list[np.ndarray]:
  """Returns the labels of some samples, int `[N]`, in the order given.

  A factory says itself what a dataset lacks. Whether fakes have labels is known
  when they are drawn: until then a metric is made without them.

  Args:
    metric: its name, for the errors.
    **given: "real", "fake" or "held_out" -> labels and their samples.

  Raises:
    UserError: fakes have none, or there is not one for each sample.
  """
  arrays = []
  for kind, (labels, samples) in given.items():
    if labels is None:
      raise errors.UserError(
        f"{metric}: the samples have no labels, it needs those of a "
        "conditional run"
      )
    arrays.append(np.asarray(labels))
    if arrays[-1].shape != (len(samples),):
      raise errors.UserError(
        f"{metric}: labels {arrays[-1].shape} must be one for each of the "
        f"{len(samples)} {kind.replace('_', '-')} samples"
      )
  return arrays


def check_images(
  metric: str, real: Any, fake: Any, min_samples: int = 1
) -> tuple[np.ndarray, np.ndarray]:
  """Returns two sets of images `[N, H, W, C]`, `[M, H, W, C]`, or raises.

  Args:
    metric: its name, for the errors.
    real: uint8, or floats in [0, 1].
    fake: of the same shape of one image, and the same type.
    min_samples: how many images each of them needs.

  Raises:
    UserError: no images, shapes or types that do not fit, too few of them, or
      images that are not finite.
  """
  real, fake = np.asarray(real), np.asarray(fake)
  if real.ndim != 4 or fake.shape[1:] != real.shape[1:]:
    raise errors.UserError(
      f"{metric}: real {real.shape} and fake {fake.shape} must be images "
      "[N, H, W, C] and [M, H, W, C]"
    )
  if real.dtype != fake.dtype:
    raise errors.UserError(
      f"{metric}: real images are {real.dtype}, fake ones {fake.dtype}"
    )
  for kind, images in (("real", real), ("fake", fake)):
    if len(images) < min_samples:
      raise errors.UserError(
        f"{metric}: {len(images)} {kind} images are too few, it needs at "
        f"least {min_samples}"
      )
    if images.dtype != np.uint8:
      bad = len(images) - np.isfinite(images).all(axis=(1, 2, 3)).sum()
      if bad:
        raise errors.UserError(
          f"{metric}: {bad} of {len(images)} {kind} images are not finite"
        )
  return real, fake


def _module(name: str):
  return registry.find_module(sys.modules[__name__], name, "metric", HELPERS)


def _plain(value: Any) -> object:
  if isinstance(value, (np.generic, np.ndarray)):
    value = value.tolist()
  if isinstance(value, float) and not math.isfinite(value):
    return str(value)
  return value
