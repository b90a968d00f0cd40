"""Builds everything from the config, then the Python loop."""

import dataclasses
import functools
import math
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ganjax import (
  checkpoint,
  configs,
  data,
  errors,
  evaluate,
  health,
  logs,
  parallel,
  plots,
  report,
)
from ganjax import run as runs
from ganjax.data import scaling

# What a resumed run may change.
HARMLESS = {"num_steps", "log_every", "stop_when", "evals", "samples"}
HARMLESS |= {"checkpoint"}


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
    FloatingPointError: a loss became infinite or not a number.
  """
  config = configs.resolve(config)
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
  if config.evals and not num_classes:
    print("no scores: this dataset has no labels to train a classifier on")
  elif config.evals:
    held_out = configs.load_data(config, "test")
    name = config.dataset.get("builder", config.dataset.name)
    evaluator = evaluate.Evaluator(name, arrays, held_out)
    evaluator.prepare(config.evals.to_dict())

  def prepare(batch):
    return batch.replace(images=stored.to_network(jnp.asarray(batch.images)))

  with checkpoint.Checkpoints(
    workdir / "checkpoints", config.checkpoint.keep, config.checkpoint.best
  ) as checkpoints:
    key = jax.random.key(config.seed)
    start = max(checkpoints.steps(), default=0)
    if start:
      state = checkpoints.restore(like, start)
    else:
      init = jax.jit(lambda key, arrays: system.init(key, prepare(arrays)))
      state = init(jax.random.fold_in(key, 0), arrays)
    sampler = runs.make_sampler(system, stored)
    run = runs.Run(config, workdir, start, state, sampler)
    monitor = health.Monitor(run.history(), config.stop_when, until=start)
    if monitor.stop:
      print(f"stopped at step {start} before: {monitor.diagnosis}")
    elif start < config.num_steps:
      step_fn = _step_fn(system, prepare, devices)
      recorder = _Recorder(
        run, system.batches_per_step, checkpoints, evaluator, monitor
      )
      run = _loop(run, arrays, step_fn, recorder, devices)
  report.show(run, evaluator, arrays.images)
  return run


def _step_fn(system, prepare, devices):
  """Returns the mapped step, with `step` as its last argument.

  Which lazy parts rest is chosen here: each choice compiles once.
  """

  @functools.cache
  def mapped(skip):
    step = system.train_step
    step = functools.partial(step, skip=skip) if skip else step
    return parallel.map_step(step, prepare, devices)

  return lambda *args: mapped(system.skip(args[-1]))(*args)


def _loop(run, arrays, step_fn, recorder, devices) -> runs.Run:
  """Steps from `run.step` to the end; returns the trained run."""
  config, state = run.config, run.state
  shape = (recorder.batches_per_step, config.batch_size)
  per_step = math.prod(shape)
  key = jax.random.fold_in(jax.random.key(config.seed), 1)
  with recorder:
    if run.step == 0:
      recorder.snapshot(0, state)
    state, on_device = parallel.replicate((state, arrays), devices)
    seed, num_examples = config.seed, len(arrays.images)
    for step in range(run.step, config.num_steps):
      indices = data.batch_indices(
        seed, step * per_step, per_step, num_examples
      ).reshape(shape)
      indices = parallel.shard(indices, len(devices))
      state, metrics = step_fn(state, on_device, indices, key, step)
      if recorder(step + 1, state, metrics):
        break
  state = jax.device_get(parallel.local(state))
  return dataclasses.replace(run, state=state, step=step + 1)


class _Recorder:
  """What happens at intervals: log, samples, evaluation, checkpoint."""

  def __init__(
    self, run: runs.Run, batches_per_step, checkpoints, evaluator, monitor
  ):
    # Plain dicts: a look into a ConfigDict takes longer than a small step.
    config = run.config.to_dict()
    self.run, self.batches_per_step = run, batches_per_step
    self.num_steps = config["num_steps"]
    self.checkpoints, self.evaluator = checkpoints, evaluator
    self.monitor = monitor
    self.evals = config["evals"] if evaluator else {}
    self.every = {name: spec["every"] for name, spec in self.evals.items()}
    self.every["_log"] = config["log_every"]
    self.every |= {
      f"_{k}": config[k]["every"] for k in ("samples", "checkpoint")
    }
    images = batches_per_step * config["batch_size"]
    self.log = logs.Log(run.workdir, self.num_steps, images, run.step)
    # Since when, since which step, and how long of it was not training.
    self.since, self.paused = (time.perf_counter(), run.step), 0.0

  def __enter__(self):
    self.log.__enter__()
    if self.run.step:
      self.log.say(f"resuming at step {self.run.step}")
    return self

  def __exit__(self, *exception):
    self.log.__exit__(*exception)

  def __call__(self, done: int, state: Any, metrics: Any) -> bool:
    """Records step `done`; reads the device only where something is due.

    Returns:
      Whether the run is over, because it is at its end or by `stop_when`.
    """
    if done == self.run.step + 1:  # It compiled.
      self.since = time.perf_counter(), done
    self.log.progress(done, metrics)
    last = done == self.num_steps
    due = {k for k, n in self.every.items() if last or (n and done % n == 0)}
    if not due:
      return False
    row, values = self.row(done, metrics) if "_log" in due else {}, {}
    if row and self.monitor.stop:
      self.log.say(f"stopping at step {done}: {self.monitor.diagnosis}")
      due, last = {*self.every}, True
    start = time.perf_counter()
    state = parallel.local(state)
    if "_samples" in due:
      self.snapshot(done, state)
    if specs := {k: v for k, v in self.evals.items() if k in due}:
      draw = functools.partial(self.run.sampler, state)
      for record in self.evaluator.score(specs, draw).values():
        values |= record.values
    if row or values:
      self.log.write(done, row | values)
    if "_checkpoint" in due:
      self.checkpoints.save(done, state, values)
    self.paused += time.perf_counter() - start
    return last

  def row(self, done: int, metrics: Any) -> dict[str, Any]:
    """Returns what the step says of itself, with the diagnosis."""
    row = {k: float(v) for k, v in jax.device_get(metrics).items()}
    row["diagnosis"] = self.log.note = self.monitor(row)
    if self.log.note == "not finite":
      self.log.write(done, row)
      raise FloatingPointError(
        f"step {done}: {health.not_finite(row)}; the run stopped. Lower the "
        "learning rates, or resume from an earlier checkpoint with another "
        "config"
      )
    row["images_per_sec"] = self.speed(done)
    return row

  def speed(self, done: int) -> float:
    """Returns real images a second of training since the last call."""
    (before, step), now = self.since, time.perf_counter()
    seconds = now - before - self.paused
    self.since, self.paused = (now, done), 0.0
    return (done - step) * self.log.images_per_step / max(seconds, 1e-9)

  def snapshot(self, done: int, state: Any) -> None:
    """Draws the fixed latents."""
    images = self.run.sampler(state, self.run.config.samples.num)
    report.snapshot(self.run.workdir, done, images)
    if images.ndim == 4:
      self.log.images(done, "samples", plots.grid(images, 8))


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
