"""Builds everything from the config, then the Python loop."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ganjax import (
  checkpoint,
  configs,
  data,
  dispatch,
  errors,
  extractors,
  faults,
  health,
  logs,
  metrics,
  parallel,
  processes,
  report,
  schema,
  signals,
)
from ganjax import run as runs
from ganjax.data import cache, scaling
from ganjax.evaluate import sources
from ganjax.recorder import Recorder
from ganjax.sampler import Sampler

# What a resumed run may change.
HARMLESS = {"num_steps", "log_every", "stop_when", "evals", "samples"}
HARMLESS |= {
  "checkpoint",
  "steps_per_dispatch",
  "extractor",
  "on_nan",
  "stream",
}
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
  parallel.cache_compilations(str(cache.root() / "xla"))
  parallel.keep_memory()
  devices = devices or processes.devices()
  configs.check_devices(config, len(devices))
  workdir = pathlib.Path(workdir)
  feed, system, like, stored, evaluator = processes.together(
    _set_up, config, workdir, devices
  )

  def prepare(batch):
    return batch.replace(images=stored.to_network(jnp.asarray(batch.images)))

  first = processes.is_first()
  keeper = checkpoint.Checkpoints if first else checkpoint.NoCheckpoints
  with keeper(
    workdir / "checkpoints",
    config.checkpoint.keep,
    config.checkpoint.best,
    metrics.better(config.checkpoint.best) or "lower",
  ) as checkpoints:
    sampler = Sampler(system, stored)
    retries = processes.together(faults.Retries, workdir)
    retries.steps = processes.agree(retries.steps)
    step_fn = dispatch.make_step(system, prepare, devices, feed.streams)
    run = None
    while run is None:
      start, state = processes.together(checkpoints.resume, like)
      start = processes.agree(start)
      if not start:
        state = _first_state(config, system, feed.some(), prepare)
      state = processes.from_first(state)
      begun = runs.Run(config, workdir, start, state, sampler)
      history = processes.agree(begun.history())
      monitor = health.Monitor(history, config.stop_when, until=start)
      if monitor.stop and first:
        print(f"stopped at step {start} before: {monitor.diagnosis}")
      if monitor.stop or start >= config.num_steps:
        run = begun
        break
      with signals.Watch() as watch:
        recorder = Recorder(
          begun, system.batches_per_step, checkpoints, evaluator, monitor, watch
        )
        try:
          run = _loop(begun, feed, step_fn, recorder, devices, retries)
        except faults.NotFinite as error:
          text = _keep(error, config, workdir, feed, retries)
          if config.on_nan != "rollback":
            text += "lower the learning rates, or set config.on_nan='rollback'"
            raise FloatingPointError(text) from error
          before = max(checkpoints.steps(), default=0)
          retries.add(processes.agree(before), text)
  if first:
    report.show(run, evaluator, feed.arrays)
  processes.agree(None)  # The others wait for the first one's report.
  return run


def _set_up(config, workdir, devices) -> tuple[Any, ...]:
  """Returns the feed, the system, its state's shapes, scaling and evaluator.

  Here is what a user can get wrong before a run begins.
  """
  _check_same_config(config, workdir)
  source, arrays = dispatch.load(config, devices)
  shape, num_classes = arrays.images.shape[1:], arrays.num_classes
  stored = scaling.get(config.scaling, str(arrays.images.dtype))
  system = configs.build(config, shape, num_classes, parallel.AXIS)
  like = runs.abstract_state(system, shape, num_classes)
  shape = system.batches_per_step, config.batch_size
  feed = dispatch.Feed(source, arrays, config, shape, devices)
  if processes.is_first():
    _describe(config, arrays, len(feed), workdir)
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
  return feed, system, like, stored, evaluator


def _first_state(config, system, arrays, prepare) -> Any:
  """Returns the state of a run at its start."""
  init = jax.jit(lambda key, arrays: system.init(key, prepare(arrays)))
  key = jax.random.fold_in(jax.random.key(config.seed), faults.INITIALISATION)
  state = init(key, arrays)
  return _start_from(config.start_from, state) if config.start_from else state


def _keep(error, config, workdir, feed, retries) -> str:
  """Keeps what a bad step was made of; returns what to say of it."""
  step = error.step - 1
  key = jax.random.fold_in(retries.key(config.seed, step), step)
  path = faults.dump(workdir, error, feed.batch(step), key)
  return f"{error}; its batch and key are in {path}; "


def _start_from(workdir: str, state: Any) -> Any:
  """Gives the generator those layers that another run's has, too.

  The layers of which 2014 trained the generator of TFD in two stages.
  """
  trained = runs.load(workdir).state
  if not (hasattr(trained, "generator") and hasattr(state, "generator")):
    raise errors.UserError(
      f"config.start_from={workdir!r}: both runs need a generator"
    )
  trained, fresh = trained.generator.params, state.generator.params
  params = jax.tree.map(jnp.copy, {**fresh, **trained})
  if jax.tree.map(jnp.shape, params) != jax.tree.map(jnp.shape, fresh):
    raise errors.UserError(
      f"config.start_from={workdir!r}: its generator is no part of this one"
    )
  generator = state.generator.replace(params=params)
  ema = state.ema and state.ema.create(generator)
  return state.replace(generator=generator, ema=ema)


def _loop(run, feed, step_fn, recorder, devices, retries) -> runs.Run:
  """Steps from `run.step` to the end; returns the trained run."""
  config, state, step = run.config, run.state, run.step
  key = retries.key(config.seed, step)
  with recorder, feed.open(step) as batches:
    if step == 0:
      recorder.snapshot(0, state)
    state = parallel.replicate(state, devices)
    many, over = recorder.steps_per_dispatch(devices), False
    many = 1 if feed.streams else many
    while not over:
      fits = step % many == 0 and step + many <= config.num_steps
      count = many if fits else 1
      state, metrics = step_fn(state, *batches(step, count), key, step)
      step += count
      over = recorder(step, state, metrics)
  state = jax.device_get(parallel.local(state))
  return dataclasses.replace(run, state=state, step=step)


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
    logs.write_json(
      workdir / "config.json", dict(config=config.to_dict(), dataset=dataset)
    )
    logs.write_json(workdir / "environment.json", logs.environment())
  except OSError as error:
    raise errors.UserError(f"cannot write to {workdir}: {error}") from error
