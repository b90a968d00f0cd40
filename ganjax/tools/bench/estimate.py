"""A training step, compiled for accelerators that are not here, and read.

Nothing runs. A TPU's compiler estimates the cycles of most operations; that of
GPUs estimates no time, and what can be counted are kernels.
"""

import collections
import math
import os
import pathlib
import re
import sys
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ganjax import data
from ganjax.data import sources
from ganjax.runs import configs
from ganjax.tools.bench import hlo, measure, targets
from ganjax.training import feed, program, recorder, train

NUM_DEAREST = 10
# The folder of the package: the repository, or where it was installed.
PACKAGE = str(pathlib.Path(__file__).parents[3])
BENCH = str(pathlib.Path(__file__).parent)
# What a TPU's compiler says of a program that is too large: how much it needs.
_NEEDED = re.compile(
  r"Used ([\d.]+)([KMGT]?) of [\d.]+[KMGT]? hbm"
  r"|\(([\d.]+)([KMGT]?)\) exceeds available HBM"
)
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


class Part(NamedTuple):
  """A program that makes a step, and how often.

  Attributes:
    share: of the steps that it makes.
    program: what the compiler made, read.
    compiled: what the compiler made.
  """

  share: float
  program: hlo.Program
  compiled: Any


def abstract_arrays(
  config: configs.Config,
  image_shape: tuple[int, ...] | None = None,
  num_classes: int = 0,
  num_images: int = 0,
) -> data.Arrays:
  """Returns the shapes of the training set: what is compiled depends on them.

  The arguments are those of `measure.load_arrays`; `num_images` is the size of
  the training set where it is neither known nor there.
  """
  arrays = measure.load_arrays(config, image_shape, num_classes)
  known = measure.KNOWN.get(config.dataset.to_dict().get("builder", ""))
  size = num_images or (known.num_train if known else len(arrays.images))

  def resized(x):
    return jax.ShapeDtypeStruct((size, *x.shape[1:]), x.dtype)

  return jax.tree.map(resized, arrays)


def estimate(
  config: configs.Config,
  arrays: data.Arrays,
  target: targets.Target,
  scan: bool = False,
) -> tuple[dict[str, Any], list[str]]:
  """Compiles a training step for a target, and reads what came of it.

  Args:
    config: of an experiment, resolved.
    arrays: the shapes of the training set.
    target: for what.
    scan: whether the steps are compiled that training dispatches at once
      there, in place of one.

  Returns:
    The record, and the compiled texts. Where parts of a step are lazy and no
    scan is asked for, there is a text for each kind of step, and numbers are
    means over the steps of a period.

  Raises:
    UserError: something in the config is wrong.
  """
  devices = target.devices
  configs.check_devices(config, len(devices))
  size = _num_bytes(arrays.images)
  streams = feed.is_streamed(config, size, target.chip.memory)
  if config.stream.mode == "files":
    feed.file_opener(config)  # Refuses what has none; none is read here.
  source = sources.Rows(_few(arrays)) if streams else None
  parts = train.build_parts(config, arrays, devices, source)
  num_steps = 1
  if scan and not streams:
    num_steps = recorder.steps_per_dispatch(config.to_dict(), devices)
  members = config.population.seeds
  step = program.make_step(
    parts.system, parts.prepare, devices, streams, members > 0
  )
  arguments = _arguments(parts, arrays, num_steps, members)
  count = measure.count_flops(config, _few(arrays))
  useful = count.flops * max(members, 1)
  record: dict[str, Any] = dict(
    target=target.name,
    precision=config.precision,
    batch_size=config.batch_size,
    d_steps=config.d_steps_per_g_step,
    steps_per_call=num_steps,
    dataset="streamed" if streams else list(arrays.images.shape),
    population=members,
    flops=useful,
  )
  started = time.perf_counter()
  lowered = list(_lowered(step, parts.system, arguments, num_steps))
  record["lower_s"] = time.perf_counter() - started
  started = time.perf_counter()
  # Of all threads: it says more of a program than a clock, on a busy machine.
  worked = time.process_time()
  needed = None
  compiled = []
  try:
    for share, each in lowered:
      made = each.compile(compiler_options=targets.compiler_options(target))
      compiled.append((share, made))
  except jax.errors.JaxRuntimeError as error:
    needed = _needed(str(error))
    if needed is None:
      raise
  record["compile_s"] = time.perf_counter() - started
  record["compile_cpu_s"] = time.process_time() - worked
  if needed is not None:
    return record | dict(fits=False, needed_bytes=needed) | _where(target), []
  texts = [made.as_text() for _, made in compiled]
  branches = _shares(parts.system) if num_steps > 1 else ()
  programs = [
    Part(share, hlo.Program(text, branches), made)
    for (share, made), text in zip(compiled, texts, strict=True)
  ]
  record |= _time(programs, target, useful, num_steps, parts, config)
  record |= _memory(programs, target)
  record |= _work(programs, num_steps)
  record["collectives"] = _collectives(programs, num_steps)
  record["dearest"] = _dearest(programs, target, num_steps)
  at_rest = parts.feed.at_rest(arrays).images
  record["dataset_bytes"] = 0 if streams else _num_bytes(at_rest)
  record["touch_dataset"] = _touching(programs, at_rest)
  record["open_loops"] = sum(part.program.open_loops for part in programs)
  if target.chip.sheet:
    record |= _kernels(programs, num_steps)
  return record | _where(target), texts


def _few(arrays: data.Arrays) -> data.Arrays:
  """Returns arrays of as good as no images, with the same shapes."""
  return jax.tree.map(lambda x: np.zeros((2, *x.shape[1:]), x.dtype), arrays)


def _arguments(
  parts: Any, arrays: data.Arrays, num_steps: int, members: int
) -> tuple[Any, ...]:
  """Returns the shapes of what a step is called with."""
  shape = jax.ShapeDtypeStruct
  devices = parts.feed.devices
  batches, size = parts.feed.shape
  state = parts.like
  key = jax.eval_shape(jax.random.key, 0)
  several = (num_steps,) if num_steps > 1 else ()
  many = (members,) if members else ()
  if members:
    state = jax.tree.map(lambda x: shape((members, *x.shape), x.dtype), state)
    key = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), members))
  chosen = (len(devices), *several, *many, batches, size // len(devices))
  at_rest = parts.feed.at_rest(arrays)
  if parts.feed.streams:  # The batches themselves.
    given = jax.tree.map(
      lambda x: shape((*chosen, *x.shape[1:]), x.dtype), at_rest
    )
    at_rest = None
  else:
    given = shape(chosen, jnp.int32)
  return state, at_rest, given, key, shape((), jnp.int32)


def _lowered(
  step: program.Step, system: Any, arguments: tuple[Any, ...], num_steps: int
) -> Iterator[tuple[float, Any]]:
  """Yields the share of steps that a program makes, and it, not compiled."""
  if num_steps > 1:
    yield 1.0, step.several().lower(*arguments)
    return
  period = measure.period_of(system)
  skips = collections.Counter(system.skip(i) for i in range(period))
  for skip, times in skips.items():
    yield times / period, step.single(skip).lower(*arguments)


def _shares(system: Any) -> tuple[float, ...]:
  """Returns the share of steps that make each choice, as a scan has them."""
  period = measure.period_of(system)
  skips = collections.Counter(system.skip(i) for i in range(period))
  return tuple(skips[skip] / period for skip in sorted(skips))


def _needed(text: str) -> int | None:
  """Returns how many bytes a compiler says that are needed, if it does."""
  found = _NEEDED.search(text)
  if found is None:
    return None
  number = float(found[1] or found[3])
  return int(number * _UNITS[found[2] or found[4] or ""])


def _time(
  programs: list[Part],
  target: targets.Target,
  useful: int,
  num_steps: int,
  parts: Any,
  config: configs.Config,
) -> dict[str, Any]:
  """Returns what the compiler's estimate of cycles comes to."""
  if not target.chip.clock:
    return {}
  cycles = sum(part.share * part.program.cycles for part in programs)
  cycles /= num_steps
  seconds = cycles / target.chip.clock
  peak = target.chip.flops * len(target.devices)
  images = parts.system.batches_per_step * config.batch_size
  images *= max(config.population.seeds, 1)
  return dict(
    cycles=round(cycles),
    ms=1e3 * seconds,
    steps_per_sec=1 / seconds,
    images_per_sec=images / seconds,
    share=useful / seconds / peak,
  )


def _memory(programs: list[Part], target: targets.Target) -> dict[str, Any]:
  """Returns the bytes of a device that the largest program takes."""
  largest: dict[str, int] = {"total": -1}
  for part in programs:
    stats = part.compiled.memory_analysis()
    found = dict(
      arguments=stats.argument_size_in_bytes,
      temporary=stats.temp_size_in_bytes,
      # What is not written over the arguments.
      results=stats.output_size_in_bytes - stats.alias_size_in_bytes,
      code=stats.generated_code_size_in_bytes,
    )
    found["total"] = sum(found.values())
    largest = max(largest, found, key=lambda x: x["total"])
  fits = largest["total"] <= target.chip.memory
  return dict(memory=largest, fits=fits, needed_bytes=largest["total"])


def _work(programs: list[Part], num_steps: int) -> dict[str, Any]:
  """Returns what the compiler counts a step and a device."""
  totals: dict[str, float] = collections.defaultdict(float)
  for part in programs:
    found = part.compiled.cost_analysis() or {}  # None for GPUs.
    found = found[0] if isinstance(found, list) else found
    # The compiler counts the body of a loop once: there it says nothing.
    if found and num_steps == 1:
      totals["compiled_flops"] += part.share * found.get("flops", 0.0)
      totals["bytes"] += part.share * found.get("bytes accessed", 0.0)
    running = [o for o in part.program.operations if o.opcode not in hlo.FREE]
    times = sum(one.times for one in running)
    totals["operations"] += part.share * times / num_steps
  return {name: round(value) for name, value in totals.items()}


def _collectives(programs: list[Part], num_steps: int) -> dict[str, Any]:
  """Returns opcode -> how many a step, and their bytes."""
  found: dict[str, Any] = {}
  for part in programs:
    for one in part.program.collectives():
      times = part.share * one.times / num_steps
      row = found.setdefault(
        one.opcode.removesuffix("-start"), dict(count=0.0, bytes=0.0)
      )
      # What is begun may return its operands beside its result.
      more = one.result_bytes - (one.moved_bytes - one.result_bytes)
      begun = one.opcode.endswith("-start") and more > 0
      row["count"] += times
      row["bytes"] += times * (more if begun else one.result_bytes)
  return found


def _dearest(
  programs: list[Part], target: targets.Target, num_steps: int
) -> list[dict[str, Any]]:
  """Returns the operations that take most: cycles, or bytes on a GPU."""
  rows = []
  for part in programs:
    for one in part.program.operations:
      if one.opcode in hlo.FREE:
        continue
      each = one.cycles if target.chip.clock else one.moved_bytes
      rows.append((part.share * one.times * each / num_steps, part, one))
  rows.sort(key=lambda row: -row[0])
  unit = "cycles" if target.chip.clock else "bytes"
  return [
    {
      unit: round(value),
      "operation": one.opcode,
      "name": one.name,
      "result": one.result[:120],
      "asked_by": one.asked_by,
      "source": _relative(part.program.source(one, _is_ours)),
    }
    for value, part, one in rows[:NUM_DEAREST]
    if value
  ]


def _is_ours(file: str) -> bool:
  """Returns whether a file is ganjax's own or its user's, not a library's.

  This wing's does not count: it asks for the whole step.
  """
  if file.startswith(BENCH):
    return False
  if "site-packages" in file or file.startswith("<"):
    return file.startswith(PACKAGE) and f"{os.sep}ganjax{os.sep}" in file
  return not file.startswith(sys.prefix)


def _relative(source: str) -> str:
  """Returns a place in a file as it stands in the repository."""
  return source.removeprefix(PACKAGE + os.sep)


def _num_bytes(array: Any) -> int:
  """Returns the bytes of an array, or of a shape."""
  return math.prod(array.shape) * array.dtype.itemsize


def _touching(programs: list[Part], images: Any) -> list[str]:
  """Returns the operations that read or write all images of a dataset."""
  dtype = {"uint8": "u8", "float32": "f32"}[str(images.dtype)]
  found = {
    f"{one.opcode} {one.result}"[:120]
    for part in programs
    for one in part.program.touching(dtype, math.prod(images.shape))
  }
  return sorted(found)


def _kernels(programs: list[Part], num_steps: int) -> dict[str, Any]:
  """Returns what a GPU is asked to run in a step."""
  kernels = 0.0
  changes = 0.0
  changed_bytes = 0.0
  libraries: dict[str, float] = collections.defaultdict(float)
  for part in programs:
    for one in part.program.operations:
      times = part.share * one.times / num_steps
      if one.opcode in hlo.FREE or one.opcode.endswith("-done"):
        continue
      kernels += times
      name = one.attribute("custom_call_target")
      if name:
        libraries[name] += times
      if _changes_layout(one):
        changes += times
        changed_bytes += times * one.result_bytes
  most_first = sorted(libraries.items(), key=lambda item: -item[1])
  return dict(
    kernels=round(kernels),
    library_calls={name: round(times) for name, times in most_first},
    layout_changes=round(changes),
    layout_change_bytes=round(changed_bytes),
  )


def _changes_layout(operation: hlo.Operation) -> bool:
  """Returns whether an operation only moves numbers to other places."""
  if operation.opcode in ("copy", "transpose"):
    return True
  name = operation.name
  return operation.opcode == "fusion" and (
    "transpose" in name or name.startswith(("copy", "wrapped_copy"))
  )


def _where(target: targets.Target) -> dict[str, Any]:
  """Returns what the numbers depend on beside the experiment."""
  found = measure.where(target.devices)
  return found | dict(
    compilers=targets.versions(),
    memory_limit=target.chip.memory,
    peak_flops=target.chip.flops,
  )
