"""What a config may say of a thing: the signature of the thing is the schema.

A schema is a dict of key -> default: `REQUIRED` where there is none, None for
a number that may be absent. A value has the default's type and lies in the
range of its key. Where a number is expected, not a whole one, the spec of a
schedule may stand if what it is for follows schedules.
"""

import inspect
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ganjax import errors
from ganjax.objectives.schedules import find_schedule

KINDS = {
  bool: "True or False",
  int: "a whole number",
  float: "a number",
  str: "a text",
  tuple: "a tuple such as (64, 64)",
}
MANY = {int: "whole numbers", float: "numbers", str: "texts"}
LARGEST = 3.4e38  # Just below the end of float32.
REQUIRED = inspect.Parameter.empty

_above_0 = ("above 0", lambda x: x > 0)
_whole = ("0 or more", lambda x: x >= 0)
_count = ("1 or more", lambda x: x >= 1)
_part = ("from 0 to 1", lambda x: 0 <= x <= 1)
_share = ("at least 0 and below 1", lambda x: 0 <= x < 1)
# A name means one thing everywhere, so its range is said once.
RANGES: dict[str, tuple[str, Callable[[Any], bool]]] = {
  "seed": ("from 0 to 2**32 - 1", lambda x: 0 <= x < 2**32),
  # Each is a compiled update: a billion of them would fill the memory.
  "d_steps_per_g_step": ("from 1 to 1000", lambda x: 1 <= x <= 1000),
  **dict.fromkeys(
    "num_steps batch_size log_every num keep z_dim width "
    "pieces hidden num_examples channels num_stairs stair_length decay_steps "
    "transition_steps iterations interval pack front "
    "widths num_blocks group_size expansion embed_dim k num_subsets "
    "subset_size num_directions splits num_pairs num_validation "
    "num_test".split(),
    _count,
  ),
  **dict.fromkeys(
    "every num_samples retries workers size weight_decay weight weight_real "
    "weight_fake gamma "
    "instance_noise instance_noise_steps leave_out sigma max_shift half_life "
    "steps_per_dispatch output_nonzero pad".split(),
    _whole,
  ),
  **dict.fromkeys(
    "learning_rate init_range eps decay_rate std d_weight g_weight sigmas "
    "clip_gradients clip_weights max_column_norm output_range "
    "adjust_images".split(),
    _above_0,
  ),
  **dict.fromkeys("p initial_p max_p color_strength share".split(), _part),
  **dict.fromkeys(
    "decay momentum b1 b2 dropout input_dropout test_fraction "
    "label_smoothing".split(),
    _share,
  ),
}


def of(function: Callable, given: Iterable[str]) -> dict[str, Any]:
  """Returns the schema of a function's arguments.

  Args:
    function: its scalar, string and tuple arguments are keys of a config.
    given: arguments that the caller of `function` gives.
  """
  parameters = inspect.signature(function).parameters.values()
  plain = (bool, int, float, str, tuple)

  def absent(p):
    return p.default is None and float in typing.get_args(p.annotation)

  return {
    p.name: p.default
    for p in parameters
    if p.name not in given
    and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    and (p.default is REQUIRED or isinstance(p.default, plain) or absent(p))
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


def find(path: str, spec: Any, finder: Callable[[str], Callable]) -> Callable:
  """Returns what `spec["name"]` names; an error says where it stood."""
  if "name" not in check_dict(path, spec):
    raise errors.UserError(f"{path}.name is missing")
  _check_value(f"{path}.name", spec["name"], "")
  try:
    return finder(spec["name"])
  except errors.UserError as error:
    raise errors.UserError(f"{path}.name: {error}") from error


def resolve(
  path: str, spec: Any, schema: Mapping[str, Any], schedules: bool = False
) -> dict[str, Any]:
  """Returns `spec` with defaults written out and every value checked.

  Args:
    path: where the spec stands, for errors: "config.generator".
    spec: key -> value, with any subset of the schema's keys.
    schema: key -> default.
    schedules: whether a number may be the spec of a schedule; those of a dict
      within may be always.

  Raises:
    UserError: naming the first key that is unknown, missing, of the wrong
      type or out of range.
  """
  for key in check_dict(path, spec):
    if key not in schema:
      raise errors.unknown("config key", f"{path}.{key}", schema)
  result = {}
  for key, default in schema.items():
    value, where = spec.get(key, default), f"{path}.{key}"
    if value is REQUIRED:
      raise errors.UserError(f"{where} is missing")
    if isinstance(default, Mapping):
      result[key] = resolve(where, value, default, schedules=True)
    elif schedules and isinstance(value, Mapping) and _is_number(default):
      schedule = find(where, value, find_schedule)
      inner = {"name": value["name"], **of(schedule, ())}
      result[key] = resolve(where, value, inner)
    else:
      _check_value(where, value, default)
      # JSON, in which a run keeps its config, has lists only.
      result[key] = tuple(value) if isinstance(default, tuple) else value
  return result


def check_dict(path: str, value: Any) -> Mapping:
  """Returns `value`, or raises a `UserError` if it is not a dict."""
  if not isinstance(value, Mapping):
    raise errors.UserError(f"{path}={value!r} must be a dict")
  return value


def _is_number(default: Any) -> bool:
  return default in (REQUIRED, None) or isinstance(default, float)


def _check_value(path: str, value: Any, default: Any) -> None:
  if value is default is None:
    return
  if default in (REQUIRED, None):
    default = 0.0
  if not _fits(value, type(default)):
    raise errors.UserError(f"{path}={value!r} must be {KINDS[type(default)]}")
  items: Any = value if isinstance(default, tuple) else [value]
  key = path.rsplit(".", 1)[1]
  text, within = RANGES.get(key, ("", None))
  for item in items:
    if isinstance(default, tuple):
      # Of an empty default, that there is a range says what it holds.
      kind = type(default[0]) if default else int if within else str
      if not _fits(item, kind):
        raise errors.UserError(f"{path}={value!r}: not all are {MANY[kind]}")
    if _fits(item, int) and abs(item) >= 2**31 and key != "seed":
      raise errors.UserError(
        f"{path}={value!r} is out of range: whole numbers end at 2**31 - 1; "
        "a larger number is written as 5e9"
      )
    if _fits(item, float) and not abs(item) <= LARGEST:
      raise errors.UserError(f"{path}={value!r} must be finite in float32")
    if within and not within(item):
      raise errors.UserError(f"{path}={value!r} is out of range: {text}")


def _fits(value: Any, kind: type) -> bool:
  """Returns whether a config may have `value` where a `kind` is expected."""
  if kind in (int, float):
    kinds = (int,) if kind is int else (int, float)
    return isinstance(value, kinds) and not isinstance(value, bool)
  return isinstance(value, (tuple, list) if kind is tuple else kind)
