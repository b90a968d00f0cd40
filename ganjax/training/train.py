"""Builds everything from the config, and takes the steps that a run wants."""

import contextlib
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ganjax import data, errors, files, parallel, processes
from ganjax.data import cache, scaling
from ganjax.evaluation import extractors, metrics
from ganjax.runs import configs, logs, report
from ganjax.runs import run as runs
from ganjax.runs import scoring as sources
from ganjax.runs.configs import schema
from ganjax.runs.sampler import Sampler
from ganjax.training import dispatch, loop, signals

# What a resumed run may change.
HARMLESS = configs.RESUMABLE_KEYS
# What a run writes into its workdir.
KINDS = dict.fromkeys(
  ("checkpoints", "samples", "figures", "evaluations", "faults"), "folder"
)
KINDS |= dict.fromkeys(("metrics.jsonl", "evaluation.json"), "file")


def train(
  config: configs.Config,
  workdir: str | pathlib.Path,
  devices: Sequence[Any] | None = None,
) -> runs.Run:
  """Trains what `config` names, from where `workdir` stopped.

  Args:
    config: of an experiment.
    workdir: the run's folder; a run found there is resumed.
    devices: those of all processes by default.

  Returns:
    The trained run.

  Raises:
    UserError: something in the config, the data or the workdir is wrong.
    FloatingPointError: a loss became infinite or not a number, too often if
      `config.on_nan` is "rollback".
    SaveError: a checkpoint could not be written.
    Interrupted: SIGTERM or SIGINT came; the state is saved.
  """
  config = configs.resolve(config)
  if config.population.seeds or config.population.sweep:
    raise errors.UserError(
      "config.population is for ganjax.population.train: set its seeds to 0"
    )
  parallel.cache_compilations(str(cache.root() / "xla"))
  parallel.keep_memory()
  devices = devices or processes.devices()
  configs.check_devices(config, len(devices))
  workdir = pathlib.Path(workdir)
  parts = processes.together(set_up, {workdir: config}, workdir, devices)
  step_fn = dispatch.make_step(
    parts.system, parts.prepare, devices, parts.feed.streams
  )
  with signals.Watch() as watch:
    steps = loop.follow(config, workdir, parts, watch)
    with contextlib.closing(steps):
      try:
        wanted = next(steps)
        while True:
          wanted = steps.send(step_fn(*wanted))
      except StopIteration as end:
        run = end.value
  if processes.is_first():
    report.show(run, parts.evaluator, parts.feed.arrays)
  processes.agree(None)  # The others wait for the first one's report.
  return run


def set_up(
  members: Mapping[pathlib.Path, configs.Config],
  workdir: pathlib.Path,
  devices: Sequence[Any],
) -> loop.Parts:
  """Returns the parts of runs that differ in their seeds.

  Here is what a user can get wrong before a run begins.

  Args:
    members: workdir -> config, resolved.
    workdir: of them all.
    devices: to run on.

  Raises:
    UserError: something in a config, the data or a workdir is wrong.
  """
  for place, config in members.items():
    _check_same_config(config, place)
  config = next(iter(members.values()))
  source, arrays = dispatch.load(config, devices)
  shape, num_classes = arrays.images.shape[1:], arrays.num_classes
  stored = scaling.get(config.scaling, str(arrays.images.dtype))
  system = configs.build(config, shape, num_classes)
  like = runs.abstract_state(system, shape, num_classes)
  shape = system.batches_per_step, config.batch_size
  feed = dispatch.Feed(source, arrays, config, shape, devices)
  if processes.is_first():
    for place, member in members.items():
      _describe(member, arrays, len(feed), place)
    print(_headline(system, like, arrays, feed, devices, workdir), flush=True)
  evaluator = None
  embedded = config.extractor.name == "classifier" and any(
    metrics.input_of(name) in extractors.Features._fields
    for name in config.evals
  )
  if embedded and not num_classes:
    print("no scores: this dataset has no labels to train a classifier on")
  elif config.evals:
    evaluator = sources.evaluator_of(config, arrays)
    if processes.is_first():
      evaluator.prepare(config.evals.to_dict())

  def prepare(batch):
    return batch.replace(images=stored.to_network(jnp.asarray(batch.images)))

  init = jax.jit(lambda key, arrays: system.init(key, prepare(arrays)))
  sampler = Sampler(system, stored)
  return loop.Parts(system, like, sampler, prepare, init, feed, evaluator)


def _headline(system, like, arrays, feed, devices, workdir) -> str:
  """Says what is about to be trained, where, and how large it is."""
  sizes = [
    f"{name} of {sum(x.size for x in jax.tree.leaves(params)):,} parameters"
    for name, params in (
      (role, getattr(like, role).params) for role in system.networks
    )
  ]
  images = f"{len(feed):,} images {list(arrays.images.shape[1:])}"
  images += ", streamed" * feed.streams
  where = f"{len(devices)} {devices[0].device_kind} device"
  where += "s" * (len(devices) > 1)
  if (count := processes.part(devices)[1]) > 1:
    where += f" of {count} processes"
  return f"{workdir}: {', '.join([images, *sizes])}, on {where}"


def _check_same_config(config: configs.Config, workdir: pathlib.Path) -> None:
  if not (workdir / "config.json").is_file():
    return
  old, new = runs.read_config(workdir)[0].to_dict(), config.to_dict()
  before, now = (
    schema.leaves("config", {k: v for k, v in x.items() if k not in HARMLESS})
    for x in (old, new)
  )
  different = [
    f"{key}={before.get(key, 'absent')}, not {now.get(key, 'absent')}"
    for key in sorted(before.keys() | now.keys())
    if before.get(key, NotImplemented) != now.get(key, NotImplemented)
  ]
  if different:
    raise errors.UserError(
      f"{workdir} holds a run with {'; '.join(different)}; give another "
      "--workdir, or the same config"
    )


def _describe(
  config: configs.Config,
  arrays: data.Arrays,
  num_examples: int,
  workdir: pathlib.Path,
) -> None:
  for name, kind in KINDS.items():
    path = workdir / name
    if path.exists() and path.is_dir() != (kind == "folder"):
      raise errors.UserError(f"cannot write to {path}: it is no {kind}")
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    dataset = dict(
      image_shape=list(arrays.images.shape[1:]),
      num_classes=arrays.num_classes,
      num_examples=num_examples,
    )
    files.write_json(
      workdir / "config.json", dict(config=config.to_dict(), dataset=dataset)
    )
    files.write_json(workdir / "environment.json", logs.environment())
  except OSError as error:
    raise errors.UserError(f"cannot write to {workdir}: {error}") from error
