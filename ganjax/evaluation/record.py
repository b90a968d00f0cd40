"""A measurement with its protocol: what every metric returns."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np


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
    """Returns the record as JSON: infinity and NaN become strings."""
    return {
      "values": {name: _plain(v) for name, v in self.values.items()},
      "protocol": {name: _plain(v) for name, v in self.protocol.items()},
      "flags": list(self.flags),
    }

  @classmethod
  def from_dict(cls, plain: Mapping[str, Any]) -> "Record":
    """Returns the record that `to_dict` wrote."""
    values: dict[str, float] = {
      name: v if isinstance(v, (int, float)) else float(v)
      for name, v in plain["values"].items()
    }
    return cls(values, dict(plain["protocol"]), tuple(plain["flags"]))


def _plain(value: Any) -> object:
  """Returns a value as JSON can hold it."""
  if isinstance(value, (np.generic, np.ndarray)):
    value = value.tolist()
  if isinstance(value, float) and not math.isfinite(value):
    return str(value)
  return value
