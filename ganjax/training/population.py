"""Many seeds in one program: `config.population.seeds=8`.

A member is a run of its own in `workdir/seed_S`, with its own logs, samples,
scores and checkpoints: what knows a run knows a member. Only the steps are
taken together, as one program with an axis of members, or one after another.
"""

import contextlib
import itertools
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ganjax import errors, parallel, processes
from ganjax.data import cache
from ganjax.runs import configs, report
from ganjax.runs import run as runs
from ganjax.runs.configs import schema
from ganjax.training import lockstep, loop, signals
from ganjax.training import train as training

MAPPINGS = ("auto", "vmap", "loop")


def is_wanted(config: configs.Config) -> bool:
  """Returns whether a config is that of a population."""
  return bool(config.population.seeds or config.population.sweep)


def train(
  config: configs.Config,
  workdir: str | pathlib.Path,
  devices: Sequence[Any] | None = None,
) -> dict[str, runs.Run]:
  """Trains the members of a population, from where each of them stopped.

  A member that fails ends alone, and is named at the end.

  Args:
    config: of an experiment, with `population.seeds` from `config.seed` on,
      for each choice of `population.sweep`: "g_opt.learning_rate=1e-4,1e-3".
    workdir: of the members' folders.
    devices: those of all processes by default.

  Returns:
    name -> run of the members that came to their end.

  Raises:
    UserError: something in the config, the data or a workdir is wrong.
    FloatingPointError, SaveError: no member came to its end; the first's.
    Interrupted: SIGTERM or SIGINT came; the states are saved.
  """
  config, workdir = configs.resolve(config), pathlib.Path(workdir)
  named = members(config)
  parallel.cache_compilations(str(cache.root() / "xla"))
  parallel.keep_memory()
  devices = devices or processes.devices()
  configs.check_devices(config, len(devices))
  places = {workdir / name: member for name, member in named.items()}
  parts = processes.together(training.set_up, places, workdir, devices)
  take = lockstep.Taker(_whole(config, named), named, parts)
  first = processes.is_first()
  if first:
    print(f"{len(named)} members, {take.mapping}: {', '.join(named)}")
  with signals.Watch() as watch, contextlib.ExitStack() as stack:
    steps = {}
    for place, member in places.items():
      follow = loop.follow(member, place, parts, watch, quiet=bool(steps))
      steps[place.name] = stack.enter_context(contextlib.closing(follow))
    found, failed = _follow(steps, take)
  for name, error in failed.items():
    print(f"{name}: {error}", file=sys.stderr)
    if isinstance(error, KeyboardInterrupt) or not found:
      raise error
  for run in found.values():
    if first:
      print(f"\n{run.workdir}")
      report.show(run, parts.evaluator, parts.feed.arrays)
  if first:
    print(f"\nover all: ganjax compare {workdir}")
  processes.agree(None)  # The others wait for the first one's report.
  return found


def members(config: configs.Config) -> dict[str, configs.Config]:
  """Returns name -> config of each member, each that of a run by itself.

  Raises:
    UserError: the population is none, or names what has no number to sweep.
  """
  spec = config.population
  if spec.mapping not in MAPPINGS:
    raise errors.unknown("config.population.mapping", spec.mapping, MAPPINGS)
  swept = [_swept(config, text) for text in spec.sweep]
  result = {}
  for choice in itertools.product(*(values for _, values in swept)):
    paths = [path for path, _ in swept]
    for seed in range(config.seed, config.seed + max(1, spec.seeds)):
      numbers = [dict(name="constant", value=x) for x in choice]
      member = _with(config, paths, numbers)
      member.update(seed=seed, population=configs.DEFAULTS["population"])
      pairs = zip(paths, choice, strict=True)
      name = [f"{path}={number:g}" for path, number in pairs]
      result["_".join([*name, f"seed_{seed}"])] = configs.resolve(member)
  return result


def _swept(config: configs.Config, text: str) -> tuple[str, list[float]]:
  """Returns the path and the values of "g_opt.learning_rate=1e-4,1e-3"."""
  path, _, values = text.partition("=")
  known = schema.leaves("", config.to_dict())
  if "." + path not in known:
    raise errors.unknown(
      "config key", f"config.{path}", [f"config{key}" for key in known]
    )
  try:
    return path, [float(value) for value in values.split(",")]
  except ValueError:
    raise errors.UserError(
      f"config.population.sweep: {text!r} is not KEY=NUMBER,NUMBER,..."
    ) from None


def _with(config: configs.Config, paths, values) -> configs.Config:
  """Returns an unlocked copy with other values at some paths."""
  tree = schema.copy(config.to_dict())
  for path, value in zip(paths, values, strict=True):
    *sections, key = path.split(".")
    node = tree
    for section in sections:
      node = node[section]
    node[key] = value
  return type(config)(tree)


def _whole(config, named: Mapping[str, configs.Config]) -> configs.Config:
  """Returns the config of a step of all members, each with its own numbers."""
  trees = [schema.leaves("", member.to_dict()) for member in named.values()]
  paths = [_swept(config, text)[0] for text in config.population.sweep]
  tables = [
    dict(name="of_member", values=tuple(x[f".{path}.value"] for x in trees))
    for path in paths
  ]
  return configs.resolve(_with(config, paths, tables))


def _follow(steps: Mapping[str, loop.Steps], take: lockstep.Taker):
  """Lets all runs take their steps.

  Returns:
    name -> the run at its end, and name -> what ended it before.
  """
  found: dict[str, runs.Run] = {}
  failed: dict[str, BaseException] = {}
  wanted: dict[str, loop.Step] = {}

  def send(name, answer):
    try:
      wanted[name] = steps[name].send(answer)
    except StopIteration as end:
      found[name] = end.value
    except (FloatingPointError, errors.SaveError, signals.Interrupted) as error:
      failed[name] = error

  for name in steps:
    send(name, None)
  while wanted:
    for name, answer in take(wanted).items():
      del wanted[name]
      send(name, answer)
  return _in_order(steps, found), _in_order(steps, failed)


def _in_order(names, some: Mapping[str, Any]) -> dict[str, Any]:
  return {name: some[name] for name in names if name in some}
