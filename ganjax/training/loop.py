"""One run as a generator: it asks for a step, and is given what came of it.

So several runs can take their steps together (`population`), and each of them
keeps its own logs, scores and checkpoints.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Generator
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from ganjax import errors, parallel, processes
from ganjax.evaluation import evaluator as evaluate
from ganjax.evaluation import metrics
from ganjax.runs import checkpoint, configs
from ganjax.runs import run as runs
from ganjax.runs.monitor import Monitor
from ganjax.runs.sampler import Sampler
from ganjax.systems import System
from ganjax.training import dispatch, faults, signals
from ganjax.training.recorder import Recorder


class Step(NamedTuple):
  """What a run asks for: the arguments of what `dispatch.make_step` returns."""

  state: Any
  arrays: Any
  indices: Any
  key: jax.Array
  step: int


# Sends `(state, metrics)` of the step that was asked for.
Steps: TypeAlias = Generator[Step, tuple[Any, Any], runs.Run]


class Parts(NamedTuple):
  """What a run is made of; runs with other seeds share it.

  Attributes:
    system: of the config.
    like: the shapes and types of its state.
    sampler: of the system.
    prepare: `batch -> batch`, from what is stored to what networks see.
    init: `(key, arrays) -> state`, from what is stored.
    feed: where batches come from.
    evaluator: for `config.evals`, or None.
  """

  system: System
  like: Any
  sampler: Sampler
  prepare: Callable
  init: Callable
  feed: dispatch.Feed
  evaluator: evaluate.Evaluator | None


def follow(
  config: configs.Config,
  workdir: pathlib.Path,
  parts: Parts,
  watch: signals.Watch,
  quiet: bool = False,
) -> Steps:
  """Follows a run from where `workdir` stopped to its end.

  Args:
    config: of the run, resolved.
    workdir: the run's folder.
    parts: of the config.
    watch: says when to stop.
    quiet: whether no progress is shown.

  Yields:
    Steps that are to be taken.

  Raises:
    what `train.train` says.
  """
  feed = dataclasses.replace(parts.feed, config=config)
  first = processes.is_first()
  keeper = checkpoint.Checkpoints if first else checkpoint.NoCheckpoints
  with keeper(
    workdir / "checkpoints",
    config.checkpoint.keep,
    config.checkpoint.best,
    metrics.better(config.checkpoint.best) or "lower",
  ) as checkpoints:
    retries = processes.together(faults.Retries, workdir)
    retries.steps = processes.agree(retries.steps)
    while True:
      start, state = processes.together(checkpoints.resume, parts.like)
      start = processes.agree(start)
      if not start:
        state = _first_state(config, parts)
      state = processes.from_first(state)
      run = runs.Run(config, workdir, start, state, parts.sampler)
      history = processes.agree(run.history())
      monitor = Monitor(history, config.stop_when, until=start)
      if monitor.stop and first:
        print(f"stopped at step {start} before: {monitor.diagnosis}")
      if monitor.stop or start >= config.num_steps:
        return run
      recorder = Recorder(
        run,
        parts.system.batches_per_step,
        checkpoints,
        parts.evaluator,
        monitor,
        watch,
        quiet,
      )
      try:
        return (yield from _loop(run, feed, recorder, retries))
      except faults.NotFinite as error:
        text = _keep(error, config, workdir, feed, retries)
        if config.on_nan != "rollback":
          text += "lower the learning rates, or set config.on_nan='rollback'"
          raise FloatingPointError(text) from error
        before = max(checkpoints.steps(), default=0)
        retries.add(processes.agree(before), text)


def _first_state(config: configs.Config, parts: Parts) -> Any:
  """Returns the state of a run at its start."""
  key = jax.random.fold_in(jax.random.key(config.seed), faults.INITIALISATION)
  state = parts.init(key, parts.feed.some())
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


def _loop(run, feed, recorder, retries) -> Steps:
  """Steps from `run.step` to the end; returns the trained run."""
  config, state, step = run.config, run.state, run.step
  key = retries.key(config.seed, step)
  with recorder, feed.open(step) as batches:
    if step == 0:
      recorder.snapshot(0, state)
    state = parallel.replicate(state, feed.devices)
    many, over = recorder.steps_per_dispatch(feed.devices), False
    many = 1 if feed.streams else many
    while not over:
      fits = step % many == 0 and step + many <= config.num_steps
      count = many if fits else 1
      arrays, indices = batches(step, count)
      state, metrics = yield Step(state, arrays, indices, key, step)
      step += count
      over = recorder(step, state, metrics)
  state = jax.device_get(parallel.local(state))
  return dataclasses.replace(run, state=state, step=step)
