"""What happens between steps: logs, samples, scores and checkpoints."""

import functools
import time
from typing import Any

import jax

from ganjax import errors, health, logs, parallel, plots, report
from ganjax import run as runs


class Recorder:
  """Knows what is due after which step; a context, in which logs are open."""

  def __init__(
    self, run: runs.Run, batches_per_step, checkpoints, evaluator, monitor
  ):
    """Takes a `Run` at its start, and who saves, scores and watches it."""
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
    self.since, self.paused = (0.0, -1), 0.0

  def __enter__(self):
    """Opens the log."""
    self.log.__enter__()
    if self.run.step:
      self.log.say(f"resuming at step {self.run.step}")
    return self

  def __exit__(self, *exception):
    """Closes the log."""
    self.log.__exit__(*exception)

  def __call__(self, done: int, state: Any, metrics: Any) -> bool:
    """Records step `done`; reads the device only where something is due.

    Returns:
      Whether the run is over, because it is at its end or by `stop_when`.
    """
    if self.since[1] < 0:  # It compiled.
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
      sampler = self.run.sampler
      scores = self.evaluator.score(
        specs, draw, sampler.labels, sampler.abilities(state)
      )
      for record in scores.values():
        values |= record.values
    if row or values:
      self.log.write(done, row | values)
    if "_checkpoint" in due:
      self.checkpoints.save(done, state, values)
    self.paused += time.perf_counter() - start
    return last

  def steps_per_dispatch(self, devices) -> int:
    """Returns how many steps may pass between two looks at what is due."""
    wanted = self.run.config.steps_per_dispatch
    intervals = {k.lstrip("_"): n for k, n in self.every.items() if n}
    for name, every in intervals.items():
      if wanted and every % wanted:
        raise errors.UserError(
          f"config.steps_per_dispatch={wanted} does not divide {every}, the "
          f"interval of {name!r}; set it to 0 to let ganjax choose"
        )
    return parallel.steps_per_dispatch(wanted, [*intervals.values()], devices)

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
