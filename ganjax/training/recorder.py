"""What happens between steps: logs, samples, scores and checkpoints."""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from ganjax import errors, processes
from ganjax.evaluation import evaluator as evaluate
from ganjax.runs import checkpoint, plots, report
from ganjax.runs import run as runs
from ganjax.runs.log import Log
from ganjax.runs.monitor import Monitor, not_finite
from ganjax.training import faults, program, signals


class NoLog:
  """In place of `Log` in a process that leaves it to the first one.

  Attributes:
    note: as that of `Log`; nobody sees it.
  """

  def __init__(self):
    """Opens nothing."""
    self.note = ""

  def __enter__(self) -> "NoLog":
    """Returns itself."""
    return self

  def __exit__(self, *exception: object) -> None:
    """Does nothing."""

  def write(self, step: int, scalars: Mapping[str, Any]) -> None:
    """Writes nothing."""

  def images(self, step: int, tag: str, image: np.ndarray) -> None:
    """Writes nothing."""

  def progress(self, step: int, scalars: Mapping[str, Any]) -> None:
    """Shows nothing."""

  def say(self, text: str) -> None:
    """Prints nothing."""

  def warn(self, text: str) -> None:
    """Prints nothing."""


@dataclasses.dataclass
class Speed:
  """Measures how fast a run trains: compilation and pauses are left out.

  Attributes:
    images_per_step: real images that one step uses.
  """

  images_per_step: int
  _since: float = 0.0  # When the measured time began, in seconds.
  _step: int = -1  # After how many steps; -1 before the first one.
  _paused: float = 0.0  # Seconds since then in which nothing was trained.

  def step_done(self, done: int) -> None:
    """Begins to measure after the first step, which had to compile."""
    if self._step < 0:
      self._restart(done, time.perf_counter())

  @contextlib.contextmanager
  def pause(self) -> Iterator[None]:
    """Does not count the time of its block."""
    start = time.perf_counter()
    yield
    self._paused += time.perf_counter() - start

  def since_last(self, done: int) -> float:
    """Returns real images a second since the last call."""
    now = time.perf_counter()
    seconds = now - self._since - self._paused
    images = (done - self._step) * self.images_per_step
    self._restart(done, now)
    return images / max(seconds, 1e-9)

  def _restart(self, done: int, now: float) -> None:
    """Measures from now on, after `done` steps."""
    self._since = now
    self._step = done
    self._paused = 0.0


@dataclasses.dataclass(frozen=True)
class Due:
  """What is to be done after a step.

  Attributes:
    log: whether a row is written.
    samples: whether the fixed latents are drawn.
    checkpoint: whether the state is saved.
    evals: the metrics that are taken.
  """

  log: bool
  samples: bool
  checkpoint: bool
  evals: Sequence[str] = ()

  def __bool__(self) -> bool:
    """Returns whether anything is due."""
    return self.log or self.samples or self.checkpoint or bool(self.evals)


class Recorder:
  """Does what is due after each step; a context, in which the log is open.

  In a run of several processes all of them record, since all must agree on
  what is due; but only the first one logs, draws and scores.
  """

  def __init__(
    self,
    run: runs.Run,
    batches_per_step: int,
    checkpoints: checkpoint.Checkpoints | checkpoint.NoCheckpoints,
    evaluator: evaluate.Evaluator | None,
    monitor: Monitor,
    watch: signals.Watch,
    quiet: bool = False,
  ):
    """Opens the log.

    Args:
      run: at its start.
      batches_per_step: real batches that one step uses.
      checkpoints: keep the states.
      evaluator: for `config.evals`, or None where nothing is scored.
      monitor: names the state of the game, with the rows so far.
      watch: says when to stop.
      quiet: whether no progress is shown.
    """
    # A plain dict: a look into a ConfigDict takes longer than a small step.
    config = run.config.to_dict()
    self._run = run
    self._checkpoints = checkpoints
    self._evaluator = evaluator
    self._monitor = monitor
    self._watch = watch
    self._num_steps = config["num_steps"]
    self._save_retries = config["checkpoint"]["retries"]
    self._evals = config["evals"] if evaluator else {}
    self._every_log = config["log_every"]
    self._every_samples = config["samples"]["every"]
    self._every_checkpoint = config["checkpoint"]["every"]
    # The steps since the last look at the device, to know which one went wrong.
    self._unread: list[tuple[int, Any]] = []
    self._is_first = processes.is_first()
    self._speed = Speed(batches_per_step * config["batch_size"])
    self._log: Log | NoLog = NoLog()
    if self._is_first:
      self._log = Log(
        run.workdir,
        self._num_steps,
        self._speed.images_per_step,
        resume_step=run.step,
        quiet=quiet,
      )

  def __enter__(self) -> "Recorder":
    """Shows the log."""
    self._log.__enter__()
    if self._run.step:
      self._log.say(f"resuming at step {self._run.step}")
    return self

  def __exit__(self, *exception: object) -> None:
    """Closes the log."""
    self._log.__exit__(*exception)

  def __call__(self, done: int, state: Any, metrics: program.Metrics) -> bool:
    """Records step `done`; reads the device only where something is due.

    Args:
      done: how many steps are done.
      state: after them, on the devices.
      metrics: of the last one, on the devices.

    Returns:
      Whether the run is over, because it is at its end or by `stop_when`.

    Raises:
      NotFinite: the numbers of a step since the last look are not.
      SaveError: a checkpoint could not be written, as often as allowed.
      Interrupted: a signal came; the state is saved.
    """
    self._speed.step_done(done)
    self._log.progress(done, metrics)
    self._unread.append((done, metrics))
    over = done == self._num_steps
    due = self._due_after(done, everything=over)
    # A signal that comes after this look stops the run after the next step.
    signal = self._watch.stop()
    if signal or (due.log and self._last_save_failed()):
      due = dataclasses.replace(due, checkpoint=True)
    if not due:
      return False
    numbers = self._read(metrics)
    row: dict[str, Any] = {}
    if due.log:
      row = self._row(done, numbers)
      if self._monitor.stop:
        self._log.say(f"stopping at step {done}: {self._monitor.diagnosis}")
        over = True
        due = self._due_after(done, everything=True)
    with self._speed.pause():
      self._do(due, done, program.local(state), row)
    if signal:
      text = f"stopped after step {done}; the same command resumes there"
      raise signals.Interrupted(signal, text)
    return over

  def _due_after(self, done: int, everything: bool) -> Due:
    """Returns what is due after `done` steps.

    Args:
      done: how many steps are done.
      everything: whether all is due, whatever its interval, as at the end.
    """

    def is_due(every: int) -> bool:
      return everything or (every > 0 and done % every == 0)

    return Due(
      log=is_due(self._every_log),
      samples=is_due(self._every_samples),
      checkpoint=is_due(self._every_checkpoint),
      evals=[k for k, spec in self._evals.items() if is_due(spec["every"])],
    )

  def _do(self, due: Due, done: int, state: Any, row: dict[str, Any]) -> None:
    """Draws, scores, logs and saves.

    Args:
      due: what of it.
      done: how many steps are done.
      state: after them, one device's copy.
      row: what the step says of itself, for the log.
    """
    if due.samples:
      self.snapshot(done, state)
    values = self._scores(due.evals, state)
    # One of them would hide the other.
    if twice := row.keys() & values.keys():
      raise errors.UserError(
        f"a step and a metric of config.evals both log {sorted(twice)}: give "
        "the metric's values other names"
      )
    if row or values:
      self._log.write(done, {**row, **values})
    if due.checkpoint:
      self._save(done, state, values)

  def _read(self, metrics: program.Metrics) -> dict[str, float]:
    """Returns what the last step says of itself, as numbers.

    Raises:
      NotFinite: they are not finite; it names the first such step since the
        last look.
    """
    unread = self._unread
    self._unread = []
    last = _to_host(metrics)
    if not not_finite(last):
      return last
    rows = ((step, _to_host(step_metrics)) for step, step_metrics in unread)
    step, row = next(x for x in rows if not_finite(x[1]))
    self._log.note = "not finite"
    self._log.write(step, {**row, "diagnosis": self._log.note})
    text = f"step {step}: {not_finite(row)}"
    raise faults.NotFinite(step, row, text)

  def _row(self, done: int, numbers: dict[str, float]) -> dict[str, Any]:
    """Returns the row of the log: the step's numbers, diagnosis and speed."""
    self._log.note = self._monitor(numbers)
    return {
      **numbers,
      "diagnosis": self._log.note,
      "images_per_sec": self._speed.since_last(done),
    }

  def _scores(self, names: Sequence[str], state: Any) -> dict[str, float]:
    """Returns the values of metrics of a state; none in other processes."""
    if not names or not self._is_first or self._evaluator is None:
      return {}
    sampler = self._run.sampler
    scores = self._evaluator.score(
      {name: self._evals[name] for name in names},
      functools.partial(sampler, state),
      sampler.labels,
      sampler.abilities(state),
    )
    values: dict[str, float] = {}
    for record in scores.values():
      values.update(record.values)
    return values

  def _save(self, done: int, state: Any, values: dict[str, float]) -> None:
    """Saves a state; again if that fails, as often as the config allows."""
    while True:
      try:
        return self._checkpoints.save(done, state, values)
      except errors.SaveError as error:
        self._count_failed_save(error)
      except FloatingPointError as error:
        raise faults.NotFinite(done, {}, str(error)) from error

  def _last_save_failed(self) -> bool:
    """Returns whether the last save failed, and is to be tried again."""
    try:
      self._checkpoints.poll()
    except errors.SaveError as error:
      self._count_failed_save(error)
      return True
    return False

  def _count_failed_save(self, error: errors.SaveError) -> None:
    """Counts a failed save; raises the error if there were too many."""
    if not self._save_retries:
      raise error
    self._save_retries -= 1
    self._log.say(f"warning: {error}; trying again")

  def steps_per_dispatch(self, devices: Sequence[processes.Device]) -> int:
    """Returns how many steps may pass between two looks at what is due.

    Raises:
      UserError: the config's number does not divide every interval.
    """
    config = self._run.config.to_dict()
    return steps_per_dispatch({**config, "evals": self._evals}, devices)

  def snapshot(self, done: int, state: Any) -> None:
    """Draws the fixed latents of a state after `done` steps."""
    if not self._is_first:
      return
    images = self._run.sampler(state, self._run.config.samples.num)
    try:
      report.snapshot(self._run.workdir, done, images)
    except OSError as error:  # A picture is not worth a run.
      self._log.warn(f"samples could not be written: {error}")
    if images.ndim == 4:
      self._log.images(done, "samples", plots.grid(images, 8))


def steps_per_dispatch(
  config: Mapping[str, Any], devices: Sequence[processes.Device]
) -> int:
  """Returns how many steps of a config may pass between two looks.

  Args:
    config: as a dict, with the evals that are taken.
    devices: the devices to run on.

  Raises:
    UserError: the config's number does not divide every interval.
  """
  wanted = config["steps_per_dispatch"]
  every = {name: spec["every"] for name, spec in config["evals"].items()}
  every["log"] = config["log_every"]
  every["samples"] = config["samples"]["every"]
  every["checkpoint"] = config["checkpoint"]["every"]
  intervals = {name: steps for name, steps in every.items() if steps}
  for name, steps in intervals.items():
    if wanted and steps % wanted:
      raise errors.UserError(
        f"config.steps_per_dispatch={wanted} does not divide {steps}, the "
        f"interval of {name!r}; set it to 0 to let ganjax choose"
      )
  return program.steps_per_dispatch(wanted, [*intervals.values()], devices)


def _to_host(metrics: Mapping[str, Any]) -> dict[str, float]:
  """Returns the scalars of a step as numbers, read at once."""
  found = jax.device_get(dict(metrics))
  return {name: float(value) for name, value in found.items()}
