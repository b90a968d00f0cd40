"""Many seeds in one program: `config.population.seeds=8`.

A member is a run of its own in `workdir/seed_S`, with its own logs, samples,
scores and checkpoints: what knows a run knows a member. Only the steps are
made together, as one program with an axis of members, or one after another.
"""

import itertools
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ganjax import errors, processes
from ganjax.runs import configs
from ganjax.runs import report as reports
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
  devices: Sequence[processes.Device] | None = None,
  *,
  report: bool = True,
) -> dict[str, runs.Run]:
  """Trains the members of a population, from where each of them stopped.

  A member that fails ends alone, and is named at the end.

  Args:
    config: of an experiment, with `population.seeds` from `config.seed` on,
      for each choice of `population.sweep`: "g_opt.learning_rate=1e-4,1e-3".
    workdir: of the members' folders.
    devices: those of all processes by default.
    report: whether each member's figures are drawn and its scores shown at the
      end.

  Returns:
    name -> run of the members that came to their end.

  Raises:
    UserError: something in the config, the data or a workdir is wrong.
    FloatingPointError, SaveError: no member came to its end; the first's.
    Interrupted: SIGTERM or SIGINT came; the states are saved.
  """
  config = configs.resolve(config)
  workdir = pathlib.Path(workdir)
  named = members(config)
  places = {workdir / name: member for name, member in named.items()}
  parts = training.set_up(places, workdir, devices)
  stepper = lockstep.PopulationStepper(_whole(config, named), named, parts)
  if processes.is_first():
    print(f"{len(named)} members, {stepper.mapping}: {', '.join(named)}")
  steps: dict[str, loop.Steps] = {}
  with signals.Watch() as watch:
    for place, member in places.items():
      # One progress line is shown, the first member's.
      quiet = bool(steps)
      steps[place.name] = loop.follow(member, place, parts, watch, quiet)
    finished, failed = loop.drive_all(steps, stepper)
  for name, error in failed.items():
    print(f"{name}: {error}", file=sys.stderr)
    if isinstance(error, KeyboardInterrupt) or not finished:
      raise error
  if processes.is_first():
    if report:
      _report(finished, parts)
    print(f"\nover all: ganjax compare {workdir}")
  processes.agree(None)  # The others wait for the first one's report.
  return finished


def _report(
  finished: Mapping[str, runs.Run], parts: loop.TrainingParts
) -> None:
  """Draws and scores the members that came to their end."""
  for run in finished.values():
    print(f"\n{run.workdir}")
    reports.show(run, parts.evaluator, parts.feed.arrays)


def members(config: configs.Config) -> dict[str, configs.Config]:
  """Returns name -> config of each member, each that of a run by itself.

  Raises:
    UserError: the population is none, or names what has no number to sweep.
  """
  spec = config.population
  if spec.mapping not in MAPPINGS:
    raise errors.unknown("config.population.mapping", spec.mapping, MAPPINGS)
  swept = [_swept(config, text) for text in spec.sweep]
  paths = [path for path, _ in swept]
  seeds = range(config.seed, config.seed + max(1, spec.seeds))
  result = {}
  for choice in itertools.product(*(values for _, values in swept)):
    numbers = dict(zip(paths, choice, strict=True))
    constants = {
      path: {"name": "constant", "value": number}
      for path, number in numbers.items()
    }
    name = [f"{path}={number:g}" for path, number in numbers.items()]
    for seed in seeds:
      member = _with(config, constants)
      member.update(seed=seed, population=configs.DEFAULTS["population"])
      result["_".join([*name, f"seed_{seed}"])] = configs.resolve(member)
  return result


def _swept(config: configs.Config, text: str) -> tuple[str, list[float]]:
  """Returns the path and the values of "g_opt.learning_rate=1e-4,1e-3".

  Raises:
    UserError: the text has another form, or no key of the config is there.
  """
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


def _with(config: configs.Config, values: Mapping[str, Any]) -> configs.Config:
  """Returns an unlocked copy with other values, path -> value."""
  tree = schema.copy(config.to_dict())
  for path, value in values.items():
    *sections, key = path.split(".")
    node = tree
    for section in sections:
      node = node[section]
    node[key] = value
  return type(config)(tree)


def _whole(
  config: configs.Config, named: Mapping[str, configs.Config]
) -> configs.Config:
  """Returns the config of a step of all members, each with its own numbers."""
  trees = [schema.leaves("", member.to_dict()) for member in named.values()]
  tables = {}
  for text in config.population.sweep:
    path, _ = _swept(config, text)
    values = tuple(tree[f".{path}.value"] for tree in trees)
    tables[path] = {"name": "of_member", "values": values}
  return configs.resolve(_with(config, tables))
