"""What happens between steps: logs, samples, scores and checkpoints."""

import functools
import time
from typing import Any

import jax

from ganjax import errors, parallel, processes
from ganjax.runs import monitor, plots, report
from ganjax.runs import run as runs
from ganjax.runs.log import Log
from ganjax.training import faults, signals


class NoLog:
  """In place of `Log` in a process that leaves it to another."""

  def __init__(self, workdir, num_steps, images_per_step, *_):
    """Takes what `Log` takes."""
    self.images_per_step, self.note = images_per_step, ""

  def __enter__(self):
    """Returns itself."""
    return self

  def __exit__(self, *exception):
    """Does nothing."""

  def write(self, *_):
    """Does nothing, as the others."""

  images = progress = say = warn = write


class Recorder:
  """Knows what is due after which step; a context, in which logs are open."""

  def __init__(
    self,
    run: runs.Run,
    batches_per_step,
    checkpoints,
    evaluator,
    monitor,
    watch: signals.Watch,
    quiet: bool = False,
  ):
    """Takes a `Run` at its start, and who saves, scores and watches it."""
    # Plain dicts: a look into a ConfigDict takes longer than a small step.
    config = run.config.to_dict()
    self.run, self.batches_per_step = run, batches_per_step
    self.num_steps = config["num_steps"]
    self.checkpoints, self.evaluator = checkpoints, evaluator
    self.monitor, self.watch = monitor, watch
    self.retries = config["checkpoint"]["retries"]
    # Of the steps since the last row, to know which one went wrong.
    self.recent: list[tuple[int, Any]] = []
    self.evals = config["evals"] if evaluator else {}
    self.every = {name: spec["every"] for name, spec in self.evals.items()}
    self.every["_log"] = config["log_every"]
    self.every |= {
      f"_{k}": config[k]["every"] for k in ("samples", "checkpoint")
    }
    images = batches_per_step * config["batch_size"]
    # Of several processes, all must know what is due, and one does it.
    self.writes = processes.is_first()
    log = Log if self.writes else NoLog
    self.log = log(run.workdir, self.num_steps, images, run.step, quiet)
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

    Raises:
      NotFinite: the numbers of a step since the last look are not.
      SaveError: a checkpoint could not be written, as often as allowed.
      Interrupted: a signal came; the state is saved.
    """
    if self.since[1] < 0:  # It compiled.
      self.since = time.perf_counter(), done
    self.log.progress(done, metrics)
    self.recent.append((done, metrics))
    last = done == self.num_steps
    due = {k for k, n in self.every.items() if last or (n and done % n == 0)}
    stop = self.watch.stop()  # What comes later stops after the next step.
    if stop or ("_log" in due and self.failed_to_save()):
      due.add("_checkpoint")
    if not due:
      return False
    row, values = self.check(metrics), {}
    row = self.row(done, row) if "_log" in due else {}
    if row and self.monitor.stop:
      self.log.say(f"stopping at step {done}: {self.monitor.diagnosis}")
      due, last = {*self.every}, True
    start = time.perf_counter()
    state = parallel.local(state)
    if "_samples" in due:
      self.snapshot(done, state)
    specs = {k: v for k, v in self.evals.items() if k in due}
    if specs and self.writes:
      draw = functools.partial(self.run.sampler, state)
      sampler = self.run.sampler
      scores = self.evaluator.score(
        specs, draw, sampler.labels, sampler.abilities(state)
      )
      for record in scores.values():
        values |= record.values
    if twice := row.keys() & values.keys():  # One would hide the other.
      raise ValueError(f"a step and a metric both log {sorted(twice)}")
    if row or values:
      self.log.write(done, row | values)
    if "_checkpoint" in due:
      self.save(done, state, values)
    self.paused += time.perf_counter() - start
    if stop:
      text = f"stopped after step {done}; the same command resumes there"
      raise signals.Interrupted(stop, text)
    return last

  def check(self, metrics: Any) -> dict[str, Any]:
    """Returns what the step says of itself, as numbers.

    Raises:
      NotFinite: they are not; of the first such step since the last look.
    """
    recent, self.recent = self.recent, []
    last: dict[str, Any] = _row(metrics)
    if not monitor.not_finite(last):
      return last
    step, row = next(
      (step, row)
      for step, row in ((step, _row(metrics)) for step, metrics in recent)
      if monitor.not_finite(row)
    )
    self.log.note = "not finite"
    self.log.write(step, row | {"diagnosis": self.log.note})
    text = f"step {step}: {monitor.not_finite(row)}"
    raise faults.NotFinite(step, row, text)

  def save(self, done: int, state: Any, values: dict[str, float]) -> None:
    """Saves a state; again if that fails, as often as the config allows."""
    while True:
      try:
        return self.checkpoints.save(done, state, values)
      except errors.SaveError as error:
        self.retry(error)
      except FloatingPointError as error:
        raise faults.NotFinite(done, {}, str(error)) from error

  def failed_to_save(self) -> bool:
    """Returns whether the last save failed, and is to be tried again."""
    try:
      self.checkpoints.poll()
    except errors.SaveError as error:
      self.retry(error)
      return True
    return False

  def retry(self, error: errors.SaveError) -> None:
    """Counts a failed save; raises the error if there were too many."""
    if not self.retries:
      raise error
    self.retries -= 1
    self.log.say(f"warning: {error}; trying again")

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

  def row(self, done: int, row: dict[str, Any]) -> dict[str, Any]:
    """Returns what the step says of itself, with diagnosis and speed."""
    self.log.note = self.monitor(row)
    return row | dict(diagnosis=self.log.note, images_per_sec=self.speed(done))

  def speed(self, done: int) -> float:
    """Returns real images a second of training since the last call."""
    (before, step), now = self.since, time.perf_counter()
    seconds = now - before - self.paused
    self.since, self.paused = (now, done), 0.0
    return (done - step) * self.log.images_per_step / max(seconds, 1e-9)

  def snapshot(self, done: int, state: Any) -> None:
    """Draws the fixed latents."""
    if not self.writes:
      return
    images = self.run.sampler(state, self.run.config.samples.num)
    try:
      report.snapshot(self.run.workdir, done, images)
    except OSError as error:  # A picture is not worth a run.
      self.log.warn(f"samples could not be written: {error}")
    if images.ndim == 4:
      self.log.images(done, "samples", plots.grid(images, 8))


def _row(metrics: Any) -> dict[str, float]:
  """Returns the scalars of a step as numbers."""
  return {k: float(v) for k, v in jax.device_get(dict(metrics)).items()}
