"""Which operations a step spends its time in: a trace of JAX's profiler."""

import collections
import contextlib
import gzip
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import jax

from ganjax import errors

NUM_STEPS = 3  # that are traced, at least


@contextlib.contextmanager
def record(folder: str) -> Iterator[None]:
  """Writes a trace of what runs inside the context.

  TensorBoard and Perfetto read it, too.

  Raises:
    UserError: `folder` cannot be written.
  """
  options = jax.profiler.ProfileOptions()
  options.python_tracer_level = 0  # Python's calls would be most of the file.
  try:
    with jax.profiler.trace(folder, profiler_options=options):
      yield
  except OSError as error:
    raise errors.UserError(f"cannot write to {folder}: {error}") from error


def read(folder: str, num_steps: int) -> dict[str, float]:
  """Returns operation -> milliseconds a step, from the newest trace.

  Args:
    folder: what `record` took.
    num_steps: how many steps the trace is of.

  Returns:
    The longest first; nothing where the profiler wrote no file that this can
    read.
  """
  pattern = "plugins/profile/*/*.trace.json.gz"
  paths = sorted(
    pathlib.Path(folder).glob(pattern), key=lambda path: path.stat().st_mtime
  )
  if not paths:
    return {}
  with gzip.open(paths[-1], "rt", encoding="utf-8") as file:
    events = json.load(file)["traceEvents"]
  return {k: v / 1e3 / num_steps for k, v in self_times(events).items()}


def self_times(events: list[dict[str, Any]]) -> dict[str, float]:
  """Returns operation -> microseconds without those of what it calls.

  Args:
    events: of a trace, in Chrome's format: an operation has the name that the
      compiler gave it in `args.hlo_op` or, on TPUs, a line "XLA Ops".

  Returns:
    The longest first. They are sums over threads, so they may be more than
    passed on the clock.
  """
  # A line is a thread of a process. Devices other than CPUs have lines of their
  # own for operations, and then nothing else counts.
  lines = {
    (event["pid"], event["tid"])
    for event in events
    if event.get("name") == "thread_name"
    and event["args"].get("name") == "XLA Ops"
  }
  ops = []
  for event in events:
    if event.get("ph") == "X":
      line, name = (event["pid"], event["tid"]), event.get("name", "")
      if not lines:
        name = event.get("args", {}).get("hlo_op")
      if name and (not lines or line in lines):
        ops.append((line, event["ts"], -event.get("dur", 0.0), name))
  times = collections.Counter()
  # A stack of the operations that run: (line, end, name). By line and start,
  # and the longest first of those that start together, each operation comes
  # after the one that it runs inside of.
  running: list[tuple[tuple[int, int], float, str]] = []
  for line, start, negative, name in sorted(ops):
    length = -negative
    while running and not _is_inside(line, start, running[-1]):
      running.pop()
    if running:
      _, _, caller = running[-1]
      times[caller] -= length
    times[name] += length
    running.append((line, start + length, name))
  return dict(times.most_common())


def _is_inside(
  line: tuple[int, int], start: float, other: tuple[tuple[int, int], float, str]
) -> bool:
  """Returns whether what starts on a line does so while `other` runs there."""
  other_line, end, _ = other
  return line == other_line and start < end
