"""Builds everything from the config, then the Python loop."""

import dataclasses
import functools
import math
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ganjax import (
  checkpoint,
  configs,
  data,
  errors,
  extractors,
  faults,
  health,
  logs,
  metrics,
  parallel,
  report,
  signals,
)
from ganjax import run as runs
from ganjax.data import cache, scaling
from ganjax.evaluate import sources
from ganjax.recorder import Recorder
from ganjax.sampler import Sampler

# What a resumed run may change.
HARMLESS = {"num_steps", "log_every", "stop_when", "evals", "samples"}
HARMLESS |= {"checkpoint", "steps_per_dispatch", "extractor", "on_nan"}


def train(
  config: configs.Config,
  workdir: str | pathlib.Path,
  devices: Sequence[Any] | None = None,
) -> runs.Run:
  """Trains what `config` names, from where `workdir` stopped.

  Args:
    config: of an experiment.
    workdir: the run's folder; a run found there is resumed.
    devices: all of this process by default.

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
  devices = devices or jax.local_devices()
  configs.check_devices(config, len(devices))
  workdir = pathlib.Path(workdir)
  _check_same_config(config, workdir)

  arrays = configs.load_data(config, "train")
  shape, num_classes = arrays.images.shape[1:], arrays.num_classes
  stored = scaling.get(config.scaling, str(arrays.images.dtype))
  system = configs.build(config, shape, num_classes, parallel.AXIS)
  like = runs.abstract_state(system, shape, num_classes)
  _describe(config, arrays, workdir)
  print(_headline(system, like, arrays, devices, workdir), flush=True)
  evaluator = None
  embedded = config.extractor.name == "classifier" and any(
    metrics.input_of(name) in extractors.Features._fields
    for name in config.evals
  )
  if embedded and not num_classes:
    print("no scores: this dataset has no labels to train a classifier on")
  elif config.evals:
    evaluator = sources.evaluator_of(config, arrays)
    evaluator.prepare(config.evals.to_dict())

  def prepare(batch):
    return batch.replace(images=stored.to_network(jnp.asarray(batch.images)))

  with checkpoint.Checkpoints(
    workdir / "checkpoints",
    config.checkpoint.keep,
    config.checkpoint.best,
    metrics.better(config.checkpoint.best) or "lower",
  ) as checkpoints:
    sampler, retries = Sampler(system, stored), faults.Retries(workdir)
    step_fn = make_step(system, prepare, devices)
    run = None
    while run is None:
      start, state = checkpoints.resume(like)
      if state is None:
        state = _first_state(config, system, arrays, prepare)
      first = runs.Run(config, workdir, start, state, sampler)
      monitor = health.Monitor(first.history(), config.stop_when, until=start)
      if monitor.stop:
        print(f"stopped at step {start} before: {monitor.diagnosis}")
      if monitor.stop or start >= config.num_steps:
        run = first
        break
      with signals.Watch() as watch:
        recorder = Recorder(
          first, system.batches_per_step, checkpoints, evaluator, monitor, watch
        )
        try:
          run = _loop(first, arrays, step_fn, recorder, devices, retries)
        except faults.NotFinite as error:
          per_step = system.batches_per_step
          text = _keep(error, config, workdir, arrays, per_step, retries)
          if config.on_nan != "rollback":
            text += "lower the learning rates, or set config.on_nan='rollback'"
            raise FloatingPointError(text) from error
          retries.add(max(checkpoints.steps(), default=0), text)
  report.show(run, evaluator, arrays)
  return run


def _first_state(config, system, arrays, prepare) -> Any:
  """Returns the state of a run at its start."""
  init = jax.jit(lambda key, arrays: system.init(key, prepare(arrays)))
  key = jax.random.fold_in(jax.random.key(config.seed), faults.INITIALISATION)
  state = init(key, arrays)
  return _start_from(config.start_from, state) if config.start_from else state


def _keep(error, config, workdir, arrays, batches_per_step, retries) -> str:
  """Keeps what a bad step was made of; returns what to say of it."""
  step = error.step - 1
  shape = batches_per_step, config.batch_size
  places = _places(config.seed, step, 1, shape, len(arrays.images))[0]
  batch = jax.tree.map(lambda x: x[places], arrays)
  key = jax.random.fold_in(retries.key(config.seed, step), step)
  path = faults.dump(workdir, error, batch, key)
  return f"{error}; its batch and key are in {path}; "


def _places(seed: int, step: int, count: int, shape, num_examples: int):
  """Returns which examples `count` steps see, int32 `[count, *shape]`."""
  per_step = math.prod(shape)
  places = data.batch_indices(
    seed, step * per_step, count * per_step, num_examples
  )
  return places.reshape(count, *shape)


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


def make_step(system, prepare, devices):
  """Returns `(state, arrays, indices, key, step) -> (state, metrics)`.

  `indices [num_devices, num_steps, batches_per_step, n]` choose the batches.
  Several steps are one program. A single step is one, too, on which lazy parts
  rest; but where it repeats an update on CPU, each kind of update is a program:
  it compiles once, and updates do not fight for the cores.
  """

  @functools.cache
  def mapped(function, skip, several=False):
    step = functools.partial(function, skip=skip) if skip else function
    return parallel.map_step(step, prepare, devices, several)

  any_step = _any_step(system)
  updates = [update for update, _ in system.updates]
  repeats = len(set(updates)) < len(updates)
  apart = repeats and devices[0].platform == "cpu"

  def call(state, arrays, indices, key, step):
    if indices.shape[1] > 1:
      step_fn = mapped(any_step, (), several=True)
      return step_fn(state, arrays, indices, key, step)
    skip, indices = system.skip(step), indices[:, 0]
    if not apart:
      step_fn = mapped(system.train_step, skip)
      return step_fn(state, arrays, indices, key, step)
    key, metrics = jax.random.fold_in(key, step), {}
    for i, (update, place) in enumerate(system.updates):
      step_fn = mapped(update, skip)
      state, new = step_fn(state, arrays, indices[:, place], key, i)
      metrics |= new
    return state, metrics

  return call


def _any_step(system):
  """Returns a step that chooses on the device which lazy parts rest."""
  period = math.lcm(*system.lazy.values())
  skips = [system.skip(i) for i in range(period)]
  choices = sorted(set(skips))
  if len(choices) == 1:
    return system.train_step
  branches = [functools.partial(system.train_step, skip=s) for s in choices]
  table = np.array([choices.index(skip) for skip in skips])

  def any_step(state, batch, key):
    choice = jnp.asarray(table)[state.step % period]
    return jax.lax.switch(choice, branches, state, batch, key)

  return any_step


def _loop(run, arrays, step_fn, recorder, devices, retries) -> runs.Run:
  """Steps from `run.step` to the end; returns the trained run."""
  config, state = run.config, run.state
  shape = (recorder.batches_per_step, config.batch_size)
  key = retries.key(config.seed, run.step)
  with recorder:
    if run.step == 0:
      recorder.snapshot(0, state)
    state, on_device = parallel.replicate((state, arrays), devices)
    seed, num_examples = config.seed, len(arrays.images)
    step, many = run.step, recorder.steps_per_dispatch(devices)
    over = False
    while not over:
      fits = step % many == 0 and step + many <= config.num_steps
      count = many if fits else 1
      places = _places(seed, step, count, shape, num_examples)
      places = parallel.shard(places, len(devices))
      state, metrics = step_fn(state, on_device, places, key, step)
      step += count
      over = recorder(step, state, metrics)
  state = jax.device_get(parallel.local(state))
  return dataclasses.replace(run, state=state, step=step)


def _headline(system, like, arrays, devices, workdir) -> str:
  """Says what is about to be trained, where, and how large it is."""
  sizes = [
    f"{name} of {sum(x.size for x in jax.tree.leaves(params)):,} parameters"
    for name, params in (
      (role, getattr(like, role).params) for role in system.networks
    )
  ]
  images = f"{len(arrays.images):,} images {list(arrays.images.shape[1:])}"
  where = f"{len(devices)} {devices[0].device_kind} device"
  where += "s" * (len(devices) > 1)
  return f"{workdir}: {', '.join([images, *sizes])}, on {where}"


def _check_same_config(config: configs.Config, workdir: pathlib.Path) -> None:
  if not (workdir / "config.json").is_file():
    return
  old, new = runs.read_config(workdir)[0].to_dict(), config.to_dict()
  for key in sorted((old.keys() | new.keys()) - HARMLESS):
    if old.get(key) != new.get(key):
      raise errors.UserError(
        f"{workdir} holds a run with config.{key}={old.get(key)}, not "
        f"{new.get(key)}; give another --workdir, or the same config"
      )


def _describe(
  config: configs.Config, arrays: data.Arrays, workdir: pathlib.Path
) -> None:
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    dataset = dict(
      image_shape=list(arrays.images.shape[1:]),
      num_classes=arrays.num_classes,
      num_examples=len(arrays.images),
    )
    logs.write_json(
      workdir / "config.json", dict(config=config.to_dict(), dataset=dataset)
    )
    logs.write_json(workdir / "environment.json", logs.environment())
  except OSError as error:
    raise errors.UserError(f"cannot write to {workdir}: {error}") from error
