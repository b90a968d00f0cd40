"""Devices: what a step says to the other devices that share its batch.

A step is written for one device. What it must say to the others goes through
`mean`, `gather` and `example_keys`, which ask JAX whether the step is mapped
over devices at all, and do nothing where it is not. `training/program.py` maps
it, and says for which platform by `traced_for`: it may be another than that of
the process, as when a program for a TPU is compiled where there is none.
"""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

AXIS = "devices"
LANES = 128  # Of a TPU: numbers of the last axis that lie side by side.
MEMBERS = "members"  # Of a population, see `population`.

# Members of a population are traced by several threads at once.
_platform = contextvars.ContextVar("platform", default="")


@contextlib.contextmanager
def traced_for(platform: str) -> Iterator[None]:
  """What is traced inside will run on a platform: "cpu", "gpu" or "tpu"."""
  token = _platform.set(platform)
  try:
    yield
  finally:
    _platform.reset(token)


def platform() -> str:
  """Returns where the code that is traced now will run."""
  return _platform.get() or jax.default_backend()


def axis_is_bound(axis_name: str = AXIS) -> bool:
  """Returns whether the code that is traced now is mapped over an axis.

  JAX knows it, so that nobody has to be told: the same function is a device's
  share of a step inside of `pmap`, and the whole of it outside.
  """
  try:
    lax.axis_size(axis_name)
  except NameError:  # What JAX raises for an axis that is not bound.
    return False
  return True


def mean(tree: Any) -> Any:
  """Averages every leaf of `tree` over the devices."""
  return lax.pmean(tree, AXIS) if axis_is_bound() else tree


def gather(x: jax.Array) -> jax.Array:
  """Returns the global batch `[N, ...]` of the local ones `[n, ...]`.

  A loss of gathered logits is the same number on every device. Its gradient
  through `gather` counts each device's copy of it, and `mean` of the gradients
  takes that factor out again: together they are the global batch's gradient.
  """
  return lax.all_gather(x, AXIS, tiled=True) if axis_is_bound() else x


def example_keys(key: jax.Array, num_examples: int) -> jax.Array:
  """Returns a key for each of this device's examples, `[num_examples]`.

  The key belongs to the example's place in the global batch, so noise does not
  depend on how many devices share the batch.
  """
  first = lax.axis_index(AXIS) * num_examples if axis_is_bound() else 0
  places = first + jnp.arange(num_examples)
  return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, places)
