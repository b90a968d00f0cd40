"""How much memory a training step needs, said before it is compiled.

A step is traced, which takes seconds where compiling takes minutes, and each
array of the trace is followed from where it is made to where it is last read.
Compilers make elementwise operations a part of what reads them, so that not
every array is written to memory. Here

- a product, a convolution, a reduction, a loop or a sort writes its result,
- what such an operation, but a reduction, reads is written, too,
- what is made elementwise is otherwise written only where it is smaller than
  what would have to be kept to make it again,
- the state is donated: the new one is written over the old one.

Compilers keep more than that, as copies in other layouts; `SHARE` is a factor
for each, chosen by what they say of some of the experiments. It is rough. What
is far too large a compiler makes smaller, in that it computes arrays twice (by
a quarter, in the one case that was seen); that is not predicted.
"""

import dataclasses
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
from jax.extend import core
from jax.interpreters import partial_eval

from ganjax import parallel, processes
from ganjax.training import loop

# What reads its operands from memory, and writes its results to it.
READERS = {
  "all_gather",
  "conv_general_dilated",
  "cholesky",
  "cond",
  "custom_call",
  "dot_general",
  "eigh",
  "fft",
  "ffi_call",
  "gather",
  "lu",
  "pallas_call",
  "psum",
  "psum_invariant",
  "qr",
  "scan",
  "scatter",
  "scatter-add",
  "select_and_gather_add",
  "select_and_scatter_add",
  "sort",
  "svd",
  "top_k",
  "triangular_solve",
  "while",
}
# What writes its results, but is one operation with what it reads.
WRITERS = {
  "argmax",
  "argmin",
  "cumsum",
  "random_bits",
  "reduce_and",
  "reduce_max",
  "reduce_min",
  "reduce_or",
  "reduce_prod",
  "reduce_sum",
  "reduce_window",
  "reduce_window_max",
  "reduce_window_sum",
}
# What gives an array another shape alone.
RENAMES = {"copy", "expand_dims", "reshape", "squeeze", "transpose"}
# Platform -> temporaries that its compiler takes, by those of the trace.
SHARE = {"gpu": 1.4, "tpu": 1.0}


class Prediction(NamedTuple):
  """Bytes that a step needs on one device.

  Attributes:
    state: of networks, optimizers, averages and what else is remembered.
    dataset: of the training set, where it stays on the device.
    temporary: of what a step makes on its way.
  """

  state: int
  dataset: int
  temporary: int

  @property
  def total(self) -> int:
    """All of them together."""
    return sum(self)


def predict(
  parts: loop.TrainingParts, batch_size: int = 0, members: int = 1
) -> Prediction:
  """Predicts the memory of a step; nothing is computed or compiled.

  Args:
    parts: of the run.
    batch_size: of an update on all devices; that of the run if 0.
    members: of a population, whose step is one program.
  """
  devices = parts.feed.devices
  num_batches, run_size = parts.feed.shape
  size = (batch_size or run_size) // len(devices)

  def chosen(x: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((num_batches, size, *x.shape[1:]), x.dtype)

  arrays = parts.feed.at_rest(jax.tree.map(_abstract, parts.feed.arrays))

  def step(state, batch, key):
    with parallel.traced_for(devices[0].platform):
      return parts.system.train_step(state, parts.prepare(batch), key)

  temporary = temporaries(
    step,
    parts.like,
    jax.tree.map(chosen, arrays),
    jax.eval_shape(jax.random.key, 0),
    num_devices=len(devices),
  )
  share = SHARE.get(devices[0].platform, 1.0)
  dataset = 0 if parts.feed.streams else _tree_bytes(arrays)
  return Prediction(
    state=members * _tree_bytes(parts.like),
    dataset=dataset,
    temporary=round(members * share * temporary),
  )


def warn(parts: loop.TrainingParts, members: int = 1) -> None:
  """Warns of a step that does not fit, where the device tells its memory.

  It is a warning, since it is a prediction. On a CPU nothing is traced.

  Args:
    parts: of the run.
    members: of a population.
  """
  devices = parts.feed.devices
  device = devices[processes.own(devices)[0]]
  limit = (device.memory_stats() or {}).get("bytes_limit")
  if not limit:
    return
  needed = predict(parts, members=members)
  if needed.total <= limit:
    return
  fitting = _largest_batch(parts, members, needed, limit)
  if fitting:
    advice = f"a smaller config.batch_size (it fits up to about {fitting})"
    advice += ", or more devices"
  else:
    advice = "no config.batch_size fits: a smaller network"
    if needed.dataset:
      advice += ", or config.stream.mode='always'"
  warnings.warn(
    f"this step needs about {needed.total / 1e9:.3g} GB and the device has "
    f"{limit / 1e9:.3g} GB: {advice}",
    stacklevel=2,
  )


def _largest_batch(
  parts: loop.TrainingParts, members: int, needed: Prediction, limit: int
) -> int:
  """Returns about how large a batch fits; 0 if none does.

  Temporaries are a line in the size of the batch, here through that of the
  run and through half of it.
  """
  num_devices = len(parts.feed.devices)
  size = parts.feed.shape[1] // num_devices
  half = size // 2
  if not half:
    return 0
  less = predict(parts, half * num_devices, members)
  each = max((needed.total - less.total) / (size - half), 1.0)
  fitting = min(int(half + (limit - less.total) / each), size - 1)
  if fitting > 8:  # More exact than what is known.
    fitting -= fitting % 8
  return max(fitting, 0) * num_devices


def refused(error: Exception) -> str:
  """Returns what to say of an error that comes of too little memory.

  Returns "" for an error that comes of anything else.
  """
  told = isinstance(error, jax.errors.JaxRuntimeError)
  if not (told and "RESOURCE_EXHAUSTED" in str(error)):
    return ""
  text = " ".join(str(error).split())[:200]
  return (
    "the memory of the device is not enough: a run needs a smaller "
    f"config.batch_size, or more devices ({text})"
  )


def temporaries(
  function: Callable, donated: Any, *args: Any, num_devices: int = 1
) -> int:
  """Returns the bytes that a function needs at once, but for what is donated.

  Args:
    function: `(donated, *args) -> results`, as `jax.jit` takes it. No result
      takes memory: most are written over what is donated, the others are small.
    donated: a pytree of arrays or of their shapes.
    *args: the same.
    num_devices: on the axis `parallel.AXIS`.
  """
  trace = jax.make_jaxpr(function, axis_env=[(parallel.AXIS, num_devices)])
  jaxpr: Any = trace(donated, *args).jaxpr
  used = [True] * len(jaxpr.outvars)
  jaxpr, _ = partial_eval.dce_jaxpr(jaxpr, used, instantiate=True)
  num_donated = len(jax.tree.leaves(donated))
  given = [0] * num_donated
  given += [_num_bytes(x.aval) for x in jaxpr.invars[num_donated:]]
  return _peak(jaxpr, given, results_count=False)


@dataclasses.dataclass(eq=False)
class _Array:
  """An array of a trace.

  Attributes:
    size: bytes.
    made: the place of the operation that makes it.
    last: the place of the last one that reads it.
    written: whether it is in memory.
  """

  size: int
  made: int
  last: int
  written: bool = False

  @classmethod
  def create(cls, size: int, made: int = 0, written: bool = False) -> "_Array":
    """Returns an array that nothing reads yet."""
    return cls(size, made, made, written)

  def read(self, place: int) -> None:
    """Notes that it is read at a place."""
    self.last = max(self.last, place)


class _Operation(NamedTuple):
  """An operation of a trace.

  Attributes:
    name: of its primitive.
    inputs: without those that are literals.
    outputs: what it makes.
    inside: bytes that a loop needs for itself.
  """

  name: str
  inputs: list[_Array]
  outputs: list[_Array]
  inside: int


def _peak(jaxpr: Any, given: Sequence[int], results_count: bool = True) -> int:
  """Returns the bytes that a function needs at once.

  Args:
    jaxpr: the function.
    given: the bytes of each input.
    results_count: whether its results take memory.
  """
  inputs = [_Array.create(size, written=True) for size in given]
  arrays = dict(zip(jaxpr.invars, inputs, strict=True))
  operations: list[_Operation] = []
  results = _flatten(jaxpr, arrays, operations)
  for result in results:
    result.written = True
    if results_count:
      result.read(len(operations))
    else:
      result.size = 0
  _choose_written(operations)
  made = [array for one in operations for array in one.outputs]
  changes = [0] * (len(operations) + 2)
  for array in (*inputs, *made):
    if array.written:
      changes[array.made] += array.size
      changes[array.last + 1] -= array.size
  now = 0
  largest = 0
  for place, one in enumerate(operations):
    now += changes[place]
    largest = max(largest, now + one.inside)
  return largest


def _choose_written(operations: Sequence[_Operation]) -> None:
  """Finds which arrays are written, and when each of them is last read.

  From the last operation to the first: whoever reads an array is then known
  before the one that makes it.
  """
  for place, one in reversed(list(enumerate(operations))):
    if one.name in READERS | WRITERS or len(one.outputs) != 1:
      for array in one.outputs:
        array.written = True
    if one.name in READERS:
      for array in one.inputs:
        array.written = True
    written = all(array.written for array in one.outputs)
    last = place
    if not written:
      (output,) = one.outputs
      last = output.last
      # Who makes it again, where it is last read, needs its inputs until then.
      kept = {id(x): x.size for x in one.inputs if x.last < last}
      written = sum(kept.values()) > output.size
      output.written = written
    for array in one.inputs:
      array.read(place if written else last)


def _flatten(
  jaxpr: Any, arrays: dict[Any, _Array], operations: list[_Operation]
) -> list[_Array]:
  """Appends the operations of a function and of those that it calls.

  Args:
    jaxpr: the function.
    arrays: variable -> array, of its inputs.
    operations: what is appended to.

  Returns:
    The results.
  """

  def read(variable: Any) -> _Array:
    if isinstance(variable, core.Literal):
      return _Array.create(0, written=True)
    return arrays[variable]

  for constant in jaxpr.constvars:
    arrays[constant] = _Array.create(0, written=True)
  for equation in jaxpr.eqns:
    name = equation.primitive.name
    inputs = [read(x) for x in equation.invars]
    called = list(functions(equation.params))
    place = len(operations)
    if name in RENAMES:
      outputs = inputs[:1]
    elif _is_call(equation, called):
      inner = dict(zip(called[0].invars, inputs, strict=True))
      outputs = _flatten(called[0], inner, operations)
    else:
      sizes = [_num_bytes(x.aval) for x in equation.outvars]
      outputs = [_Array.create(size, place) for size in sizes]
      inside = [_peak(x, [0] * len(x.invars)) for x in called]
      one = _Operation(name, inputs, outputs, max(inside, default=0))
      operations.append(one)
    arrays.update(zip(equation.outvars, outputs, strict=True))
  return [read(x) for x in jaxpr.outvars]


def _is_call(equation: Any, called: Sequence[Any]) -> bool:
  """Returns whether an equation only calls a function, once."""
  if not called or equation.primitive.name in READERS:
    return False
  return len(called[0].invars) == len(equation.invars)


def functions(params: Any) -> Iterator[Any]:
  """Yields the functions that stand in an equation's parameters."""
  for value in jax.tree.leaves(params, is_leaf=lambda x: hasattr(x, "jaxpr")):
    value = getattr(value, "jaxpr", value)  # A closed one has constants, too.
    if hasattr(value, "eqns"):
      yield value


def _abstract(x: Any) -> jax.ShapeDtypeStruct:
  """Returns the shape of an array."""
  return jax.ShapeDtypeStruct(x.shape, x.dtype)


def _tree_bytes(tree: Any) -> int:
  """Returns the bytes of all leaves."""
  return sum(map(_num_bytes, jax.tree.leaves(tree)))


def _num_bytes(x: Any) -> int:
  """Returns the bytes of an array, or of a shape."""
  # Keys of random numbers do not say how large they are: two words.
  return math.prod(x.shape) * getattr(x.dtype, "itemsize", 8)
