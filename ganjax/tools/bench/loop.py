"""Memory and host time of the loop, over a run of `train.train`."""

import gc
import math
import pathlib
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from ganjax import errors
from ganjax.runs import configs
from ganjax.tools.bench import measure
from ganjax.training import program, train

NUM_LOOKS = 200  # At the memory, at most; each takes a tenth of a millisecond.
NUM_ROWS = 10  # Of the log, at least, lest there are too few looks.


def run(
  config: configs.Config,
  num_steps: int,
  devices: Sequence[Any] | None = None,
) -> dict[str, Any]:
  """Trains what `config` names in a temporary folder, and measures the loop.

  Logs, samples, scores and checkpoints come at the config's intervals: what
  they take is in the last of the record's rows alone. One more step is made
  than is measured, since after a run's last step everything is due, whatever
  its interval; what `train` does after the loop is left out.

  Args:
    config: of an experiment, resolved.
    num_steps: how many steps are measured, the first of which compile.
    devices: all of this process by default.

  Returns:
    The record. Its "memory" has two looks, one after everything was due once
    and one at the end, and what lies between; its "rows" have milliseconds a
    step: "inside_ms" of the compiled step, JAX's dispatch included, until its
    result is ready, "loop_ms" in all, and "host_share", what is not inside.

  Raises:
    UserError: there are too few steps, something in the config is wrong, a
      loss is not finite, or a checkpoint could not be written.
  """
  config = configs.resolve(config)
  if num_steps < NUM_ROWS * config.log_every:
    raise errors.UserError(
      f"--steps {num_steps} are too few: --loop needs {NUM_ROWS} rows of the "
      f"log, so --steps {NUM_ROWS * config.log_every}, or a smaller "
      "--config.log_every"
    )
  program.keep_memory()  # As `train` does, before there are devices.
  devices = devices or jax.local_devices()
  config.num_steps = num_steps + 1
  # A run is measured to its end, or not at all.
  config.stop_when = ""
  config.on_nan = "raise"
  watch = Watch(num_steps, _intervals(config))
  with tempfile.TemporaryDirectory() as place:
    try:
      train.train(
        config,
        pathlib.Path(place) / "run",
        devices,
        report=False,
        around_step=watch.timed,
      )
    except errors.SaveError as error:
      raise errors.UserError(str(error)) from error
    except FloatingPointError as error:
      # The batch that it tells of is gone with the folder.
      text = f"nothing is measured: {error.__cause__}"
      raise errors.UserError(text) from error
  return dict(
    precision=config.precision,
    batch_size=config.batch_size,
    steps=num_steps,
    intervals=watch.intervals,
    memory=watch.memory(),
    rows=rows(watch.times, watch.intervals.values(), watch.warm),
    **measure.where(devices),
  )


def _intervals(config: configs.Config) -> dict[str, int]:
  """Returns what is due -> after how many steps, where it ever is."""
  every = {
    "log": config.log_every,
    "samples": config.samples.every,
    "checkpoint": config.checkpoint.every,
    **{name: metric.every for name, metric in config.evals.items()},
  }
  return {name: n for name, n in every.items() if n}


class Watch:
  """Times each call of a step, and looks at the memory between some.

  All of its own memory is taken at the start. Each step is awaited: on CPU
  under Linux it is over in any case (`program.keep_memory`), elsewhere host
  and device no longer overlap.

  Attributes:
    intervals: what is due -> after how many steps.
    warm: the step after which everything was due that comes twice or more,
      and a tenth is done.
    times: `[num_steps + 1, 3]` when the call that makes the steps from this
      one on began and ended, and how long the look after it took, in seconds;
      NaN where no call began.
  """

  def __init__(self, num_steps: int, intervals: dict[str, int]):
    """Takes the number of steps, and what is due when."""
    self.intervals = intervals
    twice = [n for n in intervals.values() if 2 * n <= num_steps]
    self.warm = max(num_steps // 10, *twice)
    self.times = np.full((num_steps + 1, 3), np.nan)
    # Always as long after the last row of the log: what waits for the next
    # row is as much at each look.
    log_every = intervals["log"]
    every = log_every * math.ceil(num_steps / (log_every * NUM_LOOKS))
    first = (self.warm // every + 1) * every
    self.looks = np.arange(first, num_steps + 1, every)
    self.resident = np.full(len(self.looks), np.nan)
    self.ends: list[dict[str, int]] = []

  def timed(self, step_fn: program.StepFunction) -> program.StepFunction:
    """Returns the function that makes a step, each of whose calls is timed."""

    def timed(state, arrays, indices, key, step):
      start = time.perf_counter()
      result = step_fn(state, arrays, indices, key, step)
      # All of a program is ready at once, and the state has many leaves.
      jax.block_until_ready(result[1])
      end = time.perf_counter()
      # A stream, which has no arrays, makes single steps.
      self.look(step + (1 if arrays is None else indices.shape[1]))
      self.times[step] = start, end, time.perf_counter() - end
      return result

    return timed

  def look(self, done: int) -> None:
    """Looks at the memory after step `done`, if it is one of `looks`."""
    place = int(np.searchsorted(self.looks, done))
    if place == len(self.looks) or self.looks[place] != done:
      return
    if done in (self.looks[0], self.looks[-1]):
      gc.collect()
      # A list of all objects would leave a hole in the memory, in which a
      # leak could hide for long.
      self.ends.append(
        dict(
          step=done,
          live_arrays=len(jax.live_arrays()),
          python_blocks=sys.getallocatedblocks(),
        )
      )
    self.resident[place] = resident()[0] / 1024

  def memory(self) -> dict[str, Any]:
    """Returns the record's part on memory, in units of 1,024 bytes."""
    first, last = self.ends
    slope = np.polyfit(self.looks, self.resident, 1)[0]
    return dict(
      resident_of=resident()[1],
      first={**first, "resident_kb": float(self.resident[0])},
      last={**last, "resident_kb": float(self.resident[-1])},
      most_kb=float(self.resident.max()),
      looks=len(self.looks),
      kb_per_1000_steps=1000 * float(slope),
    )


def resident() -> tuple[int, str]:
  """Returns the bytes of this process in memory, and of what they are.

  Where there is no /proc it is their peak, which never falls.
  """
  try:
    status = pathlib.Path("/proc/self/status").read_text(encoding="utf-8")
  except OSError:
    return measure._resident_peak()
  line = next(x for x in status.splitlines() if x.startswith("VmRSS:"))
  return 1024 * int(line.split()[1]), "process"


def rows(times: np.ndarray, intervals: Any, warm: int) -> list[dict[str, Any]]:
  """Returns what a step takes where nothing is due after it, and in all.

  A step's time in the loop is that from its call to the next: its call, what
  is recorded of it, and the choice of the next batch. Rare work that is not
  due at an interval, as a new order at the start of an epoch, is seen by
  means alone.

  Args:
    times: of a `Watch`.
    intervals: of what is due, in steps.
    warm: only steps after this one count.
  """
  calls = np.flatnonzero(~np.isnan(times[:, 0]))
  start, end, looked = times[calls].T
  # Many steps may be one call.
  done = calls[1:]
  counts = np.diff(calls)
  inside = (end - start)[:-1]
  loop = np.diff(start) - looked[:-1]
  after = done > warm
  quiet = after & np.all([done % n != 0 for n in intervals], axis=0)

  def row(of, how, chosen, middle):
    parts = [
      1e3 * float(middle(x[chosen], counts[chosen])) for x in (inside, loop)
    ]
    return dict(
      of=of,
      how=how,
      steps=int(counts[chosen].sum()),
      inside_ms=parts[0],
      loop_ms=parts[1],
      host_share=1 - parts[0] / parts[1],
    )

  def median(x, n):
    return np.median(x / n)

  def mean(x, n):
    return x.sum() / n.sum()

  found = [row("everything", "mean", after, mean)]
  # Long dispatches may all end where something is due.
  if quiet.any():
    between = [("median", median), ("mean", mean)]
    found = [row("between", how, quiet, f) for how, f in between] + found
  return found


def lines(record: dict[str, Any]) -> list[str]:
  """Returns what people read of a record."""
  memory = record["memory"]
  name = {"between": "where nothing is due", "everything": "in all"}
  found = [
    f"after step {look['step']:,}: {look['resident_kb'] / 1024:,.1f} MiB of "
    f"memory ({memory['resident_of']}), {look['live_arrays']:,} live arrays, "
    f"{look['python_blocks']:,} blocks of Python"
    for look in (memory["first"], memory["last"])
  ]
  found += [
    f"at most {memory['most_kb'] / 1024:,.1f} MiB in {memory['looks']} looks, "
    f"{memory['kb_per_1000_steps']:+,.1f} kB in 1,000 steps by least squares"
  ]
  found += [
    f"a step {name[row['of']]}, {row['how']} of {row['steps']:,}: "
    f"{row['loop_ms']:.3f} ms, {row['inside_ms']:.3f} of them inside: the "
    f"host's share is {100 * row['host_share']:.2f} %"
    for row in record["rows"]
  ]
  if record["device"] != "cpu":
    found += ["each step was awaited: host and device do not overlap here"]
  return found
