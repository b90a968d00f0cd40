"""Time, memory and work of a training step, as `train` runs it."""

import collections
import contextlib
import functools
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.compilation_cache import compilation_cache

import ganjax
from ganjax import data, errors
from ganjax.nets import conv
from ganjax.runs import configs
from ganjax.runs import run as runs
from ganjax.runs.environment import environment as environment_of
from ganjax.tools.bench import flops, trace
from ganjax.training import faults, loop, program, train


class Known(NamedTuple):
  """What is known of a dataset without a look at it.

  Attributes:
    shape: of an image.
    num_classes: of the labels.
    num_train: images of the training set.
  """

  shape: tuple[int, ...]
  num_classes: int
  num_train: int


# By their names in TFDS.
KNOWN = {
  "cifar10": Known((32, 32, 3), 10, 50_000),
  "cifar100": Known((32, 32, 3), 100, 50_000),
  "fashion_mnist": Known((28, 28, 1), 10, 60_000),
  "mnist": Known((28, 28, 1), 10, 60_000),
  "svhn_cropped": Known((32, 32, 3), 10, 73_257),
}
NUM_IMAGES = 4096  # of random data; how many there are changes no speed
# The side of the matrices whose product is the measure of the machine: large
# enough to keep it busy, and for some milliseconds.
PRODUCT_SIZE = {"cpu": 2048, "other": 8192}
NUM_PRODUCTS = 5  # before the steps, and as many after them


def load_arrays(
  config: configs.Config,
  image_shape: tuple[int, ...] | None = None,
  num_classes: int = 0,
) -> data.Arrays:
  """Returns random images like those of the dataset, else the dataset.

  Args:
    config: of an experiment.
    image_shape: of random images, whatever the dataset; None to find out.
    num_classes: of their labels; 0 for none.

  Raises:
    UserError: neither the shape of the images is known nor are they there.
  """
  spec = config.dataset.to_dict()
  known = KNOWN.get(spec.get("builder", ""))
  if image_shape is None and known:
    image_shape, num_classes = known.shape, known.num_classes
    if spec.get("size"):
      image_shape = (spec["size"], spec["size"], image_shape[-1])
  if image_shape is None:
    try:
      return configs.load_data(config, "train")
    except errors.UserError as error:
      raise errors.UserError(
        f"{error}; or do without: --image-shape 32,32,3 --num-classes 10"
      ) from error
  random = np.random.default_rng(0)
  images = random.integers(0, 256, (NUM_IMAGES, *image_shape), np.uint8)
  labels = None
  if num_classes:
    labels = random.integers(0, num_classes, NUM_IMAGES, np.int32)
  return data.Arrays(images, labels, num_classes)


def build_step(
  config: configs.Config, arrays: data.Arrays, devices: Sequence[Any]
):
  """Returns `(system, state, call, steps_per_call)`, all as in `train`.

  `call(state, i) -> (state, metrics)` makes the steps after `i` others, from
  the choice of their batches on; `state` is donated.
  """
  parts = train.build_parts(config, arrays, devices)
  step_fn = train.build_step(parts)
  state = program.replicate(loop.fresh_state(config, parts), devices)
  key = faults.training_key(config.seed)
  batches = parts.feed.resident(config.seed)
  count = program.steps_per_dispatch(
    config.steps_per_dispatch, [config.log_every], devices
  )

  def call(state, i):
    on_device, indices = batches(i, count)
    return step_fn(state, on_device, indices, key, i)

  return parts.system, state, call, count


def period_of(system: Any) -> int:
  """Returns after how many steps lazy penalties fall due as before."""
  return math.lcm(*system.lazy.values())


def count_flops(config: configs.Config, arrays: data.Arrays) -> flops.Count:
  """Counts a step of the whole batch; the mean, if penalties are lazy."""
  shape = arrays.images.shape[1:]
  num_classes = arrays.num_classes
  system = configs.build(config, shape, num_classes)
  state = runs.abstract_state(system, shape, num_classes)
  sizes = (system.batches_per_step, config.batch_size)
  images = jax.ShapeDtypeStruct((*sizes, *shape), jnp.float32)
  labels = jax.ShapeDtypeStruct(sizes, jnp.int32) if num_classes else None
  batch = data.Arrays(images, labels, num_classes)
  key = jax.random.key(0)
  period = period_of(system)
  total = 0
  # Each kind of step is counted once, and weighs as often as it comes.
  skips = collections.Counter(map(system.skip, range(period)))
  for skip, times in skips.items():
    step = functools.partial(system.train_step, skip=skip)
    count = flops.count(step, state, batch, key)
    total += times * count.flops
  return count._replace(flops=round(total / period))


class _Steps:
  """Makes steps one after another, each call awaited.

  No step of a training is awaited; but nothing else can be timed.

  Attributes:
    done: how many steps are made.
  """

  def __init__(
    self, call: Callable[[Any, int], Any], state: Any, per_call: int
  ):
    """Takes what `build_step` returns."""
    self.done = 0
    self._call = call
    self._state = state
    self._per_call = per_call

  def make(self, num_steps: int) -> None:
    """Makes at least so many steps, in whole calls."""
    for _ in range(-(-num_steps // self._per_call)):
      made = jax.block_until_ready(self._call(self._state, self.done))
      self._state = made[0]
      self.done += self._per_call


def measure(
  config: configs.Config,
  arrays: data.Arrays,
  num_steps: int,
  plain: bool = False,
  profile: str = "",
  show: Callable[[int, int], None] = lambda done, total: None,
  devices: Sequence[Any] | None = None,
) -> tuple[dict[str, Any], dict[str, float]]:
  """Measures the training step that `config` names.

  Args:
    config: of an experiment, resolved.
    arrays: a training set.
    num_steps: how many steps are timed. Where penalties are lazy or a call
      makes several steps, what is timed is the mean over a period, and there
      are at least three.
    plain: whether convolutions take the form in which they are written.
    profile: a folder for a trace of a few more steps; none if empty.
    show: called before the first step and between the timed ones, with how
      many of these are done and of how many.
    devices: all of this process by default.

  Returns:
    The record, and the milliseconds a step of each operation of the trace.
  """
  program.keep_memory()
  devices = devices or jax.local_devices()
  configs.check_devices(config, len(devices))
  with conv.plain() if plain else contextlib.nullcontext(), _cold():
    count = count_flops(config, arrays)
    system, state, call, per_call = build_step(config, arrays, devices)
    steps = _Steps(call, state, per_call)
    del state  # The first one must not stay in memory.
    # What is timed is whole periods, in which each kind of step comes as often
    # as in training: a median over single steps would not see a penalty that is
    # due in one of four.
    period = math.lcm(period_of(system), per_call)
    num_periods = -(-num_steps // period)
    if period > 1:
      num_periods = max(num_periods, 3)
    num_steps = num_periods * period
    show(0, num_steps)
    start = time.perf_counter()
    # A call more than there are kinds of steps, lest a second compiles, too.
    num_first = period + per_call
    steps.make(num_first)
    first = time.perf_counter() - start
    memory = _peak_memory(devices[0])
    # The machine is measured on both sides of the steps: its speed may change.
    product = _make_product(config.precision, devices[0])
    rates = [product() for _ in range(NUM_PRODUCTS)]
    of_calls = []
    for done in range(per_call, num_steps + 1, per_call):
      start = time.perf_counter()
      steps.make(per_call)
      of_calls.append(time.perf_counter() - start)
      show(done, num_steps)
    rates += [product() for _ in range(NUM_PRODUCTS)]
    ops = {}
    if profile:
      before = steps.done
      with trace.record(profile):
        steps.make(trace.NUM_STEPS)
      ops = trace.read(profile, steps.done - before)
  # The host's part of the memory is at its highest at the end.
  memory, memory_of = memory or _resident_peak()
  seconds = np.reshape(of_calls, (num_periods, -1)).sum(axis=1) / period
  # The median: on a shared machine single steps take many times as long.
  middle = float(np.median(seconds))
  # Fake devices of one CPU are all the same cores.
  machines = 1 if devices[0].platform == "cpu" else len(devices)
  rate = float(np.median(rates)) * machines
  record = dict(
    form="plain" if plain else "fast",
    precision=config.precision,
    batch_size=config.batch_size,
    d_steps=config.d_steps_per_g_step,
    steps=num_steps,
    steps_per_call=per_call,
    ms=1e3 * middle,
    ms_min=1e3 * float(seconds.min()),
    ms_quartiles=[1e3 * float(x) for x in np.percentile(seconds, (25, 75))],
    images_per_sec=system.batches_per_step * config.batch_size / middle,
    compile_s=max(first - num_first * middle, 0.0),
    peak_bytes=memory,
    peak_of=memory_of,
    flops=count.flops,
    open_loops=count.open_loops,
    gflops_per_s=count.flops / middle / 1e9,
    dense_gflops_per_s=rate / 1e9,
    share=count.flops / middle / rate,
    **where(devices),
  )
  return record, ops


@contextlib.contextmanager
def _cold() -> Iterator[None]:
  """Compiles everything anew, whatever cache there is."""
  option = "jax_enable_compilation_cache"
  before = getattr(jax.config, option)
  jax.config.update(option, False)
  compilation_cache.reset_cache()  # JAX looks at the option only once.
  try:
    yield
  finally:
    jax.config.update(option, before)
    compilation_cache.reset_cache()


def _make_product(precision: str, device: Any) -> Callable[[], float]:
  """Returns a function that times a dense product, in operations a second.

  The product of two n x n matrices has n^3 multiplications and as many
  additions.
  """
  size = PRODUCT_SIZE.get(device.platform, PRODUCT_SIZE["other"])
  x = jax.random.uniform(jax.random.key(0), (size, size)).astype(precision)
  multiply = jax.jit(jnp.matmul)
  multiply(x, x).block_until_ready()  # Compiles.

  def rate() -> float:
    start = time.perf_counter()
    multiply(x, x).block_until_ready()
    return 2 * size**3 / (time.perf_counter() - start)

  return rate


def _peak_memory(device: Any) -> tuple[int, str] | None:
  """Returns the most bytes that `device` held so far, and of what they are.

  None where the device does not tell, as a CPU.
  """
  stats = device.memory_stats() or {}
  if "peak_bytes_in_use" not in stats:
    return None
  return stats["peak_bytes_in_use"], "device"


def _resident_peak() -> tuple[int, str]:
  """Returns the most bytes of this process in memory, and of what they are."""
  import resource  # Which Windows has not.

  # Bytes on macOS, units of 1,024 on Linux.
  unit = 1 if sys.platform == "darwin" else 1024
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return peak * unit, "process, with compilation"


def where(devices: Sequence[Any]) -> dict[str, Any]:
  """Returns what the numbers depend on beside the experiment."""
  environment = environment_of()
  versions = environment["versions"]
  names = ("python", "jax", "jaxlib", "flax")
  commit = environment["git_commit"]
  if commit and environment["git_dirty"]:
    commit += "+"
  return dict(
    device=devices[0].device_kind,
    devices=len(devices),
    cores=environment["cpu_count"],
    versions={
      **{name: versions.get(name) for name in names},
      "ganjax": ganjax.__version__,
    },
    commit=commit,
    time=environment["time"],
  )
