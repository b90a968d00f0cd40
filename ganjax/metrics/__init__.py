"""Metrics: each file `metrics/<name>.py` has a factory of its own name.

`frechet() -> metric(real [N, d], fake [M, d]) -> Record`. Statistics are
float64 on the host. A file's constant `ON` says what its metric compares: an
extractor's "features" or "logits", or the "samples" as they are. A factory
with a parameter `labels` is given those of the real samples.
"""

import dataclasses
import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from ganjax import errors, registry

HELPERS = ("classifier",)


@dataclasses.dataclass(frozen=True)
class Record:
  """A measurement: its values and how they were made, never a bare float.

  Attributes:
    values: name -> value.
    protocol: what has to agree before two records may be compared: numbers
      of samples, extractor, split. Strings, booleans, integers and floats.
  """

  values: dict[str, float]
  protocol: dict[str, object]

  def to_dict(self) -> dict[str, dict[str, object]]:
    """Returns both as JSON can hold them: infinity and NaN become strings."""
    return {
      "values": {name: _plain(v) for name, v in self.values.items()},
      "protocol": {name: _plain(v) for name, v in self.protocol.items()},
    }


Metric = Callable[[np.ndarray, np.ndarray], Record]


def find(name: str) -> Callable[..., Metric]:
  """Returns the factory of the metric `name`, or raises a `UserError`."""
  return getattr(_module(name), name)


def get(name: str, **hyper: Any) -> Metric:
  """Returns the metric `name` with its hyper-parameters bound."""
  return find(name)(**hyper)


def input_of(name: str) -> str:
  """Returns what `name` compares: "features", "logits" or "samples"."""
  return _module(name).ON


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


def _module(name: str):
  return registry.find_module(sys.modules[__name__], name, "metric", HELPERS)


def _plain(value: Any) -> object:
  if isinstance(value, (np.generic, np.ndarray)):
    value = value.tolist()
  if isinstance(value, float) and not math.isfinite(value):
    return str(value)
  return value
