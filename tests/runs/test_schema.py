"""Signatures as schemas: what annotations and defaults say of a value."""

import dataclasses
import inspect
import re
from typing import Annotated

import flax.linen as nn
import pytest

from ganjax import errors
from ganjax.ranges import (
  ABOVE_0,
  Above0,
  Choice,
  Count,
  Counts,
  Decay,
  Range,
  Seed,
)
from ganjax.runs.configs import keys, schema

Even = Annotated[int, Range("even", lambda x: x % 2 == 0)]


def function(
  required: Above0,
  count: Count = 1,
  even: Even = 2,
  sizes: Counts = (),
  shares: tuple[float, ...] = (),
  names: tuple[str, ...] = (),
  decay: Decay | None = None,
  either: Annotated[float | None, ABOVE_0] = None,
  number: float = 1,
  seed: Seed = 0,
  mode: Annotated[str, Choice(("fast", "slow"))] = "fast",
  decay_rate: float = 2.0,  # In ganjax, not here, a name with a range.
  momentum: float = 1.0,
  array: object = None,
  *arguments,
  **others,
):
  """Has an argument of every kind."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Base:
  count: "Count" = 1  # As in a file that postpones its annotations.


class Net(nn.Module):
  sizes: Counts = (4, 4)


@dataclasses.dataclass(frozen=True, kw_only=True)
class System(Base):
  net: nn.Module
  decay: Decay = 0.5


GOOD = {
  "required": [1, 1e-9],
  "count": [1, 2**31 - 1],
  "even": [0, -2],
  "sizes": [(), (3,), [1, 2]],
  "shares": [(), (0.5, 1)],
  "names": [("a", "b")],
  "decay": [None, 0, 0.99],
  "either": [None, 0.5],
  "number": [0.5, -3],
  "seed": [0, 2**32 - 1],
  "mode": ["slow"],
  "decay_rate": [-1.0],
  "momentum": [2.0],
}


@pytest.mark.parametrize("key", GOOD)
def test_what_fits_is_taken(key):
  known = schema.of(function)
  for value in GOOD[key]:
    spec = {"required": 1.0, key: value}
    found = schema.resolve("x", spec, known)[key]
    assert found == (tuple(value) if isinstance(value, list) else value)


BAD = [
  ("required", 0.0, "out of range: above 0"),
  ("required", float("nan"), "must be finite"),
  ("required", True, "must be a number"),
  ("count", 0, "out of range: 1 or more"),
  ("count", 1.0, "must be a whole number"),
  ("count", 2**31, "whole numbers end at 2**31 - 1"),
  ("even", 3, "out of range: even"),
  ("sizes", (3, 0), "out of range: 1 or more"),
  ("sizes", (3.0,), "not all are whole numbers"),
  ("sizes", 3, "must be a tuple"),
  ("shares", ("a",), "not all are numbers"),
  ("names", (1,), "not all are texts"),
  ("decay", 1.0, "at least 0 and below 1"),
  ("either", 0.0, "above 0"),
  ("seed", 2**32, "from 0 to 2**32 - 1"),
  ("mode", "slw", "did you mean 'slow'"),
  ("array", 1, "unknown config key 'x.array'"),
  ("others", 1, "unknown config key 'x.others'"),
]


@pytest.mark.parametrize("key, value, text", BAD)
def test_what_does_not_fit_is_named(key, value, text):
  spec = {"required": 1.0, key: value}
  with pytest.raises(errors.UserError, match=re.escape(text)) as e:
    schema.resolve("x", spec, schema.of(function))
  assert f"x.{key}" in str(e.value) and "\n" not in str(e.value)


def test_what_is_required_must_be_there():
  with pytest.raises(errors.UserError, match="x.required is missing"):
    schema.resolve("x", {}, schema.of(function))


def test_classes_have_schemas_too():
  system = schema.of(System, given=("net",))
  assert schema.resolve("x", {}, system) == {"count": 1, "decay": 0.5}
  with pytest.raises(errors.UserError, match="x.count=0 is out of range"):
    schema.resolve("x", {"count": 0}, system)
  net = schema.of(Net, given=("parent", "name"))
  assert schema.resolve("x", {"sizes": [2]}, net) == {"sizes": (2,)}


def test_every_key_of_a_config_is_explained():
  """The keys of every config stand in the docstrings, and nothing else."""
  for kind in (
    keys.Keys,
    keys.Average,
    keys.Population,
    keys.Stream,
    keys.Samples,
    keys.Checkpoint,
  ):
    # Newer Pythons take the indentation out of docstrings themselves.
    text = inspect.cleandoc(kind.__doc__ or "")
    told = re.findall(r"^  (\w+): ", text, re.MULTILINE)
    assert told == [field.name for field in dataclasses.fields(kind)]
  assert keys.RESUMABLE_KEYS <= {*keys.DEFAULTS, "evals", "extractor"}
