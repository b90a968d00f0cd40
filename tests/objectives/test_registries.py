"""Every kind of objective is found by its name, or by where a user's own is."""

import pytest

from ganjax import errors
from ganjax.objectives import (
  augment,
  divergences,
  latents,
  losses,
  optimizers,
  penalties,
  relativism,
  schedules,
)

# Where each registry is.
REGISTRIES = {
  "augment.AUGMENTATIONS": augment.AUGMENTATIONS,
  "divergences.DIVERGENCES": divergences.DIVERGENCES,
  "latents.LATENTS": latents.LATENTS,
  "losses.LOSSES": losses.LOSSES,
  "optimizers.OPTIMIZERS": optimizers.OPTIMIZERS,
  "penalties.PENALTIES": penalties.PENALTIES,
  "relativism.RELATIVISM": relativism.RELATIVISM,
  "schedules.SCHEDULES": schedules.SCHEDULES,
}
# What configs look names up by, where it is not `find` of the registry.
FIND = {
  "optimizers.OPTIMIZERS": optimizers.find,
  "schedules.SCHEDULES": schedules.find_schedule,
}


@pytest.mark.parametrize("place", REGISTRIES)
def test_one_of_a_users_own(place, tmp_path):
  """A file registers one thing, and holds another that it does not."""
  module, _, name = place.partition(".")
  file = tmp_path / "mine.py"
  file.write_text(
    f"from ganjax.objectives.{module} import {name}\n"
    f"@{name}.register\n"
    f"def registered(): pass\n"
    f"def held(): pass\n"
  )
  registry = REGISTRIES[place]
  find = FIND.get(place, registry.find)
  with pytest.raises(errors.UserError, match="unknown .*'registered'"):
    find("registered")
  try:
    assert find(f"{file}:held").__name__ == "held"
    # To find one thing the file was imported, which registered the other.
    assert find("registered").__name__ == "registered"
    assert registry.keys() & {"registered", "held"} == {"registered"}
    with pytest.raises(errors.UserError, match="did you mean 'held'"):
      find(f"{file}:helt")
  finally:
    registry.pop("registered", None)
