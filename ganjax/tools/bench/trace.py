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

NUM_STEPS = 3  # At least.


@contextlib.contextmanager
def record(folder: str) -> Iterator[None]:
  """Writes a trace of what runs inside, for TensorBoard or Perfetto, too."""
  options = jax.profiler.ProfileOptions()
  options.python_tracer_level = 0  # Python's calls would be most of the file.
  try:
    with jax.profiler.trace(folder, profiler_options=options):
      yield
  except OSError as error:
    raise errors.UserError(f"cannot write to {folder}: {error}") from error


def read(folder: str, num_steps: int) -> dict[str, float]:
  """Returns operation -> milliseconds a step, of the newest trace of so many.

  Empty where the profiler wrote no such file as this can read.
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
  open_ops: list[tuple[Any, float, str]] = []  # Those that run: line, end.
  for line, start, negative, name in sorted(ops):
    while open_ops and not (
      open_ops[-1][0] == line and start < open_ops[-1][1]
    ):
      open_ops.pop()
    if open_ops:
      times[open_ops[-1][2]] += negative
    times[name] -= negative
    open_ops.append((line, start - negative, name))
  return dict(times.most_common())
