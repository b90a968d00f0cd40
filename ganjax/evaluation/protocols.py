"""Which records may be compared: those whose protocols agree."""

from collections.abc import Mapping
from typing import Any

from ganjax import errors

# What may differ between two records that are compared: it is what they are
# compared for.
FREE = {"step", "samples"}
# How a run draws; nobody knows it of images from elsewhere.
DRAWN = {"weights", "statistics", "truncation", "labels"}


def check_same(name: str, one: Mapping[str, Any], other: Mapping[str, Any]):
  """Raises a `UserError` unless two protocols of a metric are the same.

  Args:
    name: of the metric.
    one: a record's protocol.
    other: that of another one.
  """
  differ = [
    f"{key} {one.get(key, 'unstated')} and {other.get(key, 'unstated')}"
    for key in sorted((one.keys() | other.keys()) - FREE)
    if one.get(key) != other.get(key)
    and not (key in DRAWN and None in (one.get(key), other.get(key)))
  ]
  if differ:
    raise errors.UserError(
      f"{name} cannot be compared, its protocols differ: {'; '.join(differ)}"
    )
