"""Systems: what is trained and how. Each file has `make(...) -> System`."""

import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax

from ganjax import registry


class System(NamedTuple):
  """All that a training loop, a checkpoint or a sampler knows of a model.

  Attributes:
    init: `(key, arrays) -> state`; `arrays` is the training set as networks
      see it, for shapes and for initialisations that depend on data.
    train_step: `(state, batch, key) -> (state, metrics)`, pure, per device;
      `batch` is `[batches_per_step, n, ...]`, `metrics` a dict of scalars.
    sample: `(state, key, n, labels=None, ema=True) -> images`.
    networks: name -> module, for parameter tables.
    batches_per_step: real batches that one step uses.
  """

  init: Callable[[jax.Array, Any], Any]
  train_step: Callable[..., Any]
  sample: Callable[..., jax.Array]
  networks: Mapping[str, nn.Module]
  batches_per_step: int = 1


def find(name: str):
  """Returns the module of the system `name`; its `make` makes a `System`."""
  return registry.find_module(sys.modules[__name__], name, "system")


def names() -> list[str]:
  """Returns the names of the systems that there are."""
  return registry.module_names(sys.modules[__name__])
