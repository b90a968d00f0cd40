"""What a config may say of a thing: the signature of the thing is the schema.

The schema of a function or a class, a dataclass or a Flax module, has an entry
for each of its arguments that a config can hold: numbers, texts and tuples of
them. The schema of a whole config has schemas within.

A value has the type of the argument and lies in its range. The range stands in
the argument's annotation (`ganjax.ranges`), or in `RANGES` under its name.
Where a number is expected, not a whole one, the spec of a schedule may stand if
what the number is for follows schedules.
"""

import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from ganjax import errors, ranges, registry
from ganjax.ranges import Choice, Range

KINDS = {
  bool: "True or False",
  int: "a whole number",
  float: "a number",
  str: "a text",
  tuple: "a tuple such as (64, 64)",
}
MANY = {
  bool: "True or False",
  int: "whole numbers",
  float: "numbers",
  str: "texts",
  tuple: "tuples",
}
LARGEST = 3.4e38  # Just below the end of float32.
REQUIRED: Any = inspect.Parameter.empty

# The ranges of parameters of ganjax and of optax that have one meaning wherever
# they stand. A range in an annotation comes before that of the name.
RANGES: dict[str, Range] = {
  name: range_
  for range_, names in {
    ranges.SEED: "seed",
    ranges.AT_LEAST_1: """
      batch_size num keep z_dim
      width widths hidden channels pieces front embed_dim
      num_blocks group_size expansion pack
      num_examples num_test num_validation num_pairs num_subsets num_directions
      subset_size splits k iterations interval
      num_stairs stair_length decay_steps transition_steps
    """,
    ranges.AT_LEAST_0: """
      every num_samples size pad max_shift output_nonzero
      weight weight_real weight_fake weight_decay gamma sigma
      instance_noise instance_noise_steps
    """,
    ranges.ABOVE_0: """
      learning_rate eps decay_rate
      clip_gradients clip_weights max_column_norm
      d_weight g_weight std sigmas init_range output_range adjust_images
    """,
    ranges.FROM_0_TO_1: "p initial_p max_p color_strength share",
    ranges.BELOW_1: """
      decay momentum b1 b2 dropout input_dropout label_smoothing test_fraction
    """,
  }.items()
  for name in names.split()
}


@dataclasses.dataclass(frozen=True)
class Parameter:
  """What a config may say in one place.

  Attributes:
    default: `REQUIRED` if there is none, None for a number that may be absent.
    kind: one of `KINDS`.
    item: the kind of a tuple's items.
    range: of the value, or of each item; None for no limit.
  """

  default: Any
  kind: type
  item: type = str
  range: Range | Choice | None = None


Schema: TypeAlias = Mapping[str, "Parameter | Schema"]
Spec: TypeAlias = Mapping[str, Any]
# (path, spec of a schedule) -> the spec, its file named absolutely, and the
# schema of the schedule that it names.
FindSchedule: TypeAlias = Callable[[str, Spec], tuple[Spec, Schema]]


@functools.lru_cache(maxsize=1024)
def arguments(thing: Callable) -> Mapping[str, inspect.Parameter]:
  """Returns name -> argument of a function or a class.

  Annotations are what they mean, also where the file postpones them.
  """
  found = inspect.signature(thing).parameters
  if any(isinstance(p.annotation, str) for p in found.values()):
    try:
      hints = typing.get_type_hints(thing, include_extras=True)
    except Exception:  # A name that exists for type checkers alone.
      hints = {}
    found = {
      name: p.replace(annotation=hints.get(name, p.annotation))
      for name, p in found.items()
    }
  return types.MappingProxyType(
    {
      name: p
      for name, p in found.items()
      if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    }
  )


def of(thing: Callable, given: Iterable[str] = ()) -> Schema:
  """Returns the schema of what a function or a class takes.

  Args:
    thing: its numbers, texts and tuples are keys of a config.
    given: arguments that the caller of `thing` fills in.
  """
  # What a name means in somebody else's code is for them to say.
  named = {} if registry.origin(thing) else RANGES
  result: dict[str, Parameter | Schema] = {}
  for name, argument in arguments(thing).items():
    entry = _parameter(argument.annotation, argument.default, named.get(name))
    if entry is not None and name not in given:
      result[name] = entry
  return result


def alternatives(annotation: Any) -> tuple[list[Any], list[Any]]:
  """Takes an annotation apart.

  Args:
    annotation: `Annotated[float, ABOVE_0] | None`.

  Returns:
    The types that it allows, without None, and what is noted of them:
    `[float]`, `[ABOVE_0]`.
  """
  origin = typing.get_origin(annotation)
  if origin is typing.Annotated:
    inner, *own_notes = typing.get_args(annotation)
    kinds, notes = alternatives(inner)
    return kinds, [*notes, *own_notes]
  if origin in (typing.Union, types.UnionType):
    parts = [alternatives(part) for part in typing.get_args(annotation)]
    return (
      [kind for kinds, _ in parts for kind in kinds],
      [note for _, notes in parts for note in notes],
    )
  return [] if annotation is type(None) else [annotation], []


def _parameter(
  annotation: Any, default: Any, range_: Range | Choice | None
) -> Parameter | None:
  """Returns what a config may say of an argument; None if it cannot.

  Args:
    annotation: of the argument.
    default: of the argument.
    range_: where the annotation says none.
  """
  allowed, notes = alternatives(annotation)
  kind = _kind_of(allowed, default)
  if kind is None:
    return None
  for note in notes:
    if isinstance(note, (Range, Choice)):
      range_ = note
  item = str
  if kind is tuple:
    item = _item_of(allowed, default, range_)
  return Parameter(default=default, kind=kind, item=item, range=range_)


def _kind_of(allowed: list[Any], default: Any) -> type | None:
  """Returns the kind of an argument, one of `KINDS`; None if it has none.

  Args:
    allowed: the types of its annotation.
    default: its default. Where there is one, it decides: it is what is run.
      A whole one where any number may stand is any number.
  """
  kinds = [typing.get_origin(kind) or kind for kind in allowed]
  if default is None:
    # Of what may be absent a config knows numbers only.
    return float if float in kinds else None
  if type(default) is int and float in kinds:
    return float
  if default is not REQUIRED:
    return next((kind for kind in KINDS if isinstance(default, kind)), None)
  known = [kind for kind in kinds if kind in KINDS]
  # What has no annotation is a number, as nearly all of optax is.
  return known[0] if known and float not in known else float


def _item_of(allowed: list[Any], default: Any, range_: Any) -> type:
  """Returns the kind of a tuple's items."""
  for kind in allowed:
    inner = typing.get_args(kind)
    if inner and inner[0] in MANY:
      return inner[0]
  if isinstance(default, tuple) and default:
    return type(default[0])
  # Of an empty default, that there is a range says what it holds.
  return int if isinstance(range_, Range) else str


def defaults(schema: Schema) -> dict[str, Any]:
  """Returns key -> default, nested as the schema is."""
  return {
    key: entry.default if isinstance(entry, Parameter) else defaults(entry)
    for key, entry in schema.items()
  }


def copy(tree: Any) -> Any:
  """Returns `tree` with dicts of its own, also where one stood twice."""
  if not isinstance(tree, dict):
    return tree
  return {key: copy(value) for key, value in tree.items()}


def leaves(path: str, tree: Any) -> dict[str, Any]:
  """Returns the path of each value that is no dict, and the value."""
  if not isinstance(tree, dict):
    return {path: tree}
  parts = [leaves(f"{path}.{key}", value) for key, value in tree.items()]
  return {key: value for part in parts for key, value in part.items()}


def resolve(
  path: str,
  spec: Any,
  schema: Schema,
  find_schedule: FindSchedule | None = None,
) -> dict[str, Any]:
  """Returns `spec` with defaults written out and every value checked.

  Args:
    path: where the spec stands, for errors: "config.generator".
    spec: key -> value, with any subset of the schema's keys.
    schema: what it may say.
    find_schedule: finds the schedule of a number; None if numbers must not
      follow schedules.

  Raises:
    UserError: naming the first key that is unknown, missing, of the wrong
      type or out of range.
  """
  for key in check_dict(path, spec):
    if key not in schema:
      raise errors.unknown("config key", f"{path}.{key}", schema)
  result = {}
  for key, entry in schema.items():
    where = f"{path}.{key}"
    if not isinstance(entry, Parameter):
      result[key] = resolve(where, spec.get(key, {}), entry, find_schedule)
      continue
    value = spec.get(key, entry.default)
    if value is REQUIRED:
      raise errors.UserError(f"{where} is missing")
    if find_schedule and isinstance(value, Mapping) and entry.kind is float:
      # The schedule's own numbers are numbers: no schedule of a schedule.
      schedule, its_schema = find_schedule(where, value)
      result[key] = resolve(where, schedule, its_schema)
      continue
    check_value(where, value, entry)
    # JSON, in which a run keeps its config, has lists only.
    result[key] = tuple(value) if entry.kind is tuple else value
  return result


def check_dict(path: str, value: Any) -> Mapping[str, Any]:
  """Returns `value`, or raises a `UserError` if it is not a dict."""
  if not isinstance(value, Mapping):
    raise errors.UserError(f"{path}={value!r} must be a dict")
  return value


def check_value(path: str, value: Any, entry: Parameter) -> None:
  """Raises a `UserError` if `value` is not what `entry` allows."""
  if value is None and entry.default is None:
    return
  if not _fits(value, entry.kind):
    raise errors.UserError(f"{path}={value!r} must be {KINDS[entry.kind]}")
  if entry.kind is not tuple:
    _check_number(path, value, value, entry.range)
    return
  items: Any = value
  for item in items:
    if not _fits(item, entry.item):
      kind = MANY[entry.item]
      raise errors.UserError(f"{path}={value!r}: not all are {kind}")
    _check_number(path, value, item, entry.range)


def _check_number(
  path: str, value: Any, item: Any, range_: Range | Choice | None
) -> None:
  """Checks the range of a value, or of one item of it."""
  if isinstance(range_, Choice):
    if item not in range_.names:
      raise errors.unknown(path, item, range_.names)
    return
  largest = ranges.LARGEST_INT if range_ is None else range_.largest
  if _fits(item, int) and abs(item) > largest:
    raise errors.UserError(
      f"{path}={value!r} is out of range: whole numbers end at 2**31 - 1; "
      "a larger number is written as 5e9"
    )
  if _fits(item, float) and not abs(item) <= LARGEST:
    raise errors.UserError(f"{path}={value!r} must be finite in float32")
  if isinstance(item, str) or range_ is None:
    return
  if not range_.contains(item):
    raise errors.UserError(f"{path}={value!r} is out of range: {range_.text}")


def _fits(value: Any, kind: type) -> bool:
  """Returns whether a config may have `value` where a `kind` is expected."""
  if kind in (int, float):
    kinds = (int,) if kind is int else (int, float)
    return isinstance(value, kinds) and not isinstance(value, bool)
  return isinstance(value, (tuple, list) if kind is tuple else kind)
