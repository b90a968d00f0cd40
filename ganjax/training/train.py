"""Trains what a config names: builds its parts and moves the run to its end."""

import dataclasses
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp

from ganjax import data, errors, files, processes
from ganjax.data import cache, scaling, sources
from ganjax.evaluation import evaluator as evaluate
from ganjax.evaluation import extractors, metrics
from ganjax.runs import configs, environment, scoring
from ganjax.runs import report as reports
from ganjax.runs import run as runs
from ganjax.runs.configs import schema
from ganjax.runs.sampler import Sampler
from ganjax.training import feed as feeds
from ganjax.training import loop, memory, program, signals

# What a run writes into its workdir beside `config.json` and the like.
KINDS = {
  "checkpoints": "folder",
  "samples": "folder",
  "figures": "folder",
  "evaluations": "folder",
  "faults": "folder",
  "metrics.jsonl": "file",
  "evaluation.json": "file",
}


def train(
  config: configs.Config,
  workdir: str | pathlib.Path,
  devices: Sequence[processes.Device] | None = None,
  *,
  report: bool = True,
  around_step: Callable[[program.StepFunction], program.StepFunction]
  | None = None,
) -> runs.Run:
  """Trains what `config` names, from where `workdir` stopped.

  Args:
    config: of an experiment.
    workdir: the run's folder; a run found there is resumed.
    devices: those of all processes by default.
    report: whether the figures are drawn and the scores shown at the end.
    around_step: what an instrument makes of the function that makes a step; it
      returns one with the same arguments, which is called in its place.

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
      "config.population is for ganjax.training.population.train: set its "
      "seeds to 0 and its sweep to ()"
    )
  workdir = pathlib.Path(workdir)
  parts = set_up({workdir: config}, workdir, devices)
  step_fn = build_step(parts)
  if around_step is not None:
    step_fn = around_step(step_fn)
  with signals.Watch() as watch:
    run = loop.drive(loop.follow(config, workdir, parts, watch), step_fn)
  if report and processes.is_first():
    reports.show(run, parts.evaluator, parts.feed.arrays)
  processes.agree(None)  # The others wait for the first one's report.
  return run


def build_step(parts: loop.TrainingParts) -> program.StepFunction:
  """Returns the function that makes a run's steps: see `program.make_step`."""
  feed = parts.feed
  return program.make_step(
    parts.system, parts.prepare, feed.devices, feed.streams
  )


def set_up(
  members: Mapping[pathlib.Path, configs.Config],
  workdir: pathlib.Path,
  devices: Sequence[processes.Device] | None,
) -> loop.TrainingParts:
  """Makes this process and the workdirs ready; returns the parts of the runs.

  Whatever a user can get wrong is found here, before a run begins.

  Args:
    members: workdir -> config, resolved; they differ in their seeds.
    workdir: of them all.
    devices: to run on, those of all processes by default.

  Raises:
    UserError: something in a config, the data or a workdir is wrong.
  """
  program.cache_compilations(str(cache.root() / "xla"))
  # Before anything asks JAX for its devices.
  program.keep_memory()
  devices = devices or processes.devices()
  some_config = next(iter(members.values()))
  configs.check_devices(some_config, len(devices))
  return processes.raise_on_all(_set_up, members, workdir, devices)


def _set_up(
  members: Mapping[pathlib.Path, configs.Config],
  workdir: pathlib.Path,
  devices: Sequence[processes.Device],
) -> loop.TrainingParts:
  """Does the part of `set_up` in which one process alone may fail."""
  for place, config in members.items():
    _check_same_config(config, place)
  config = next(iter(members.values()))
  source, arrays = feeds.load(config, devices)
  parts = build_parts(config, arrays, devices, source)
  if processes.is_first():
    for place, member in members.items():
      _describe(member, arrays, len(parts.feed), place)
    print(f"{workdir}: {_headline(parts)}", flush=True)
    advice = _advice(config, devices[0])
    if advice:
      print(advice, flush=True)
    memory.warn(parts, len(members))
  return dataclasses.replace(parts, evaluator=_evaluator_of(config, arrays))


def build_parts(
  config: configs.Config,
  arrays: data.Arrays,
  devices: Sequence[processes.Device],
  source: sources.Source | None = None,
) -> loop.TrainingParts:
  """Returns the parts of a run, without an evaluator.

  Args:
    config: resolved.
    arrays: the training set, or some of it if it is streamed.
    devices: to run on.
    source: what a stream reads; None for what is kept on the devices.

  Raises:
    UserError: the parts do not fit each other or the data.
  """
  stored = scaling.get(config.scaling, str(arrays.images.dtype))
  shape = arrays.images.shape[1:]
  num_classes = arrays.num_classes
  system = configs.build(config, shape, num_classes)

  def prepare(batch):
    images = jnp.asarray(batch.images)  # Rows, see `feed.rows`.
    images = images[..., : math.prod(shape)]
    images = images.reshape(*images.shape[:-1], *shape)
    return batch.replace(images=stored.to_network(images))

  def init(key, arrays):
    return system.init(key, prepare(feeds.rows(arrays)))

  return loop.TrainingParts(
    system=system,
    like=runs.abstract_state(system, shape, num_classes),
    sampler=Sampler(system, stored),
    prepare=prepare,
    init=jax.jit(init),
    feed=feeds.Feed(
      source=source,
      arrays=arrays,
      shape=(system.batches_per_step, config.batch_size),
      devices=devices,
      workers=config.stream.workers,
    ),
  )


def _evaluator_of(
  config: configs.Config, arrays: data.Arrays
) -> evaluate.Evaluator | None:
  """Returns who takes `config.evals`, or None where nothing can be scored."""
  if not config.evals:
    return None
  # Metrics of features need a classifier, unless an extractor brings its own.
  inputs = {metrics.input_of(name) for name in config.evals}
  embeds = not inputs.isdisjoint(extractors.Features._fields)
  trains_classifier = embeds and config.extractor.name == "classifier"
  if trains_classifier and not arrays.num_classes:
    print("no scores: this dataset has no labels to train a classifier on")
    return None
  evaluator = scoring.evaluator_of(config, arrays)
  if processes.is_first():
    evaluator.prepare(config.evals.to_dict())
  return evaluator


def _headline(parts: loop.TrainingParts) -> str:
  """Says what is about to be trained, on what, and how large it is."""
  feed = parts.feed
  facts = [f"{len(feed):,} images {list(feed.arrays.images.shape[1:])}"]
  if feed.streams:
    facts.append("streamed")
  nets = parts.like.nets
  for name in parts.system.networks:
    size = sum(x.size for x in jax.tree.leaves(nets[name].params))
    facts.append(f"{name} of {size:,} parameters")
  devices = feed.devices
  where = f"{len(devices)} {devices[0].device_kind} device"
  if len(devices) > 1:
    where += "s"
  _, num_processes = processes.part(devices)
  if num_processes > 1:
    where += f" of {num_processes} processes"
  return f"{', '.join(facts)}, on {where}"


def _advice(config: configs.Config, device: processes.Device) -> str:
  """Returns what may be said of a config on a device, or nothing."""
  if device.platform != "tpu" or config.precision != "bfloat16":
    return ""
  # By what its compiler estimates: results/accelerators.md.
  return (
    "config.precision='bfloat16' may save memory here, but no time: a TPU "
    "makes the products of float32 numbers of bfloat16 ones, too"
  )


def _check_same_config(config: configs.Config, workdir: pathlib.Path) -> None:
  """Raises a `UserError` if `workdir` holds a run that another config made."""
  if not (workdir / "config.json").is_file():
    return
  stored, _, _ = runs.read_config(workdir)
  old = _fixed_leaves(stored)
  new = _fixed_leaves(config)
  different = []
  for key in sorted(old.keys() | new.keys()):
    if key in old and key in new and old[key] == new[key]:
      continue
    before = old.get(key, "absent")
    different.append(f"{key}={before}, not {new.get(key, 'absent')}")
  if different:
    raise errors.UserError(
      f"{workdir} holds a run with {'; '.join(different)}; give another "
      "--workdir, or the same config"
    )


def _fixed_leaves(config: configs.Config) -> dict[str, object]:
  """Returns path -> value of all that a resumed run must not change."""
  tree = config.to_dict()
  fixed = {k: v for k, v in tree.items() if k not in configs.RESUMABLE_KEYS}
  return schema.leaves("config", fixed)


def _describe(
  config: configs.Config,
  arrays: data.Arrays,
  num_examples: int,
  workdir: pathlib.Path,
) -> None:
  """Writes into a workdir what is needed to load the run again.

  Raises:
    UserError: the workdir, or what is to come into it, cannot be written.
  """
  for name, kind in KINDS.items():
    path = workdir / name
    if path.exists() and path.is_dir() != (kind == "folder"):
      raise errors.UserError(f"cannot write to {path}: it is no {kind}")
  dataset = {
    "image_shape": list(arrays.images.shape[1:]),
    "num_classes": arrays.num_classes,
    "num_examples": num_examples,
  }
  document = {"config": config.to_dict(), "dataset": dataset}
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    files.write_json(workdir / "config.json", document)
    files.write_json(workdir / "environment.json", environment.environment())
  except OSError as error:
    raise errors.UserError(f"cannot write to {workdir}: {error}") from error
