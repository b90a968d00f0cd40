"""Which records may be compared: those whose protocols agree."""

from collections.abc import Mapping

from ganjax import errors

# Keys that may differ between two records that are compared: they are what the
# records are compared for.
NOT_COMPARED = {"step", "samples"}
# How a run draws its samples, which nobody knows of images from elsewhere.
HOW_DRAWN = {"weights", "statistics", "truncation", "labels"}


def check_same(
  metric: str, one: Mapping[str, object], other: Mapping[str, object]
) -> None:
  """Raises a `UserError` unless two protocols of a metric are the same.

  Args:
    metric: its name, for the error.
    one: the protocol of a record.
    other: the protocol of another record.
  """
  differences = []
  for key in sorted((one.keys() | other.keys()) - NOT_COMPARED):
    mine = one.get(key)
    theirs = other.get(key)
    unknown = key in HOW_DRAWN and None in (mine, theirs)
    if mine != theirs and not unknown:
      mine = one.get(key, "unstated")
      theirs = other.get(key, "unstated")
      differences.append(f"{key} {mine} and {theirs}")
  if differences:
    raise errors.UserError(
      f"{metric} cannot be compared, its protocols differ: "
      f"{'; '.join(differences)}"
    )
