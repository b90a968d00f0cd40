"""Systems: what is trained and how. Each file has `make(...) -> System`."""

import sys
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import flax.linen as nn
import jax

from ganjax import registry

# What systems share; not a system.
HELPERS = (
  "adversarial",
  "completion",
  "features",
  "refinements",
  "sampling",
  "variational",
)

# By what batch norm normalises while samples are drawn: see `gan.make`.
STATISTICS = ("running", "batch", "standing")


class System(NamedTuple):
  """All that a training loop, a checkpoint or a sampler knows of a model.

  Attributes:
    init: `(key, arrays) -> state`; `arrays` is the training set as networks
      see it, for shapes and for initialisations that depend on data.
    train_step: `(state, batch, key, skip=()) -> (state, metrics)`, pure, per
      device; `batch` is `[batches_per_step, n, ...]`, `metrics` a dict of
      scalars. `skip` names what of `lazy` rests in this step: it is chosen in
      Python, and each choice is a step of its own, since on CPU a convolution
      inside `lax.cond` runs fifty times slower.
    sample: `(state, key, n, labels=None, ema=True, truncation=None,
      batch=False) -> images`; `batch` for the statistics of these n.
    settle: `(state, key, n, labels, ema, truncation, weight) -> state`, whose
      running statistics moved by `weight` to those of n fresh samples.
    networks: name -> module, for parameter tables.
    latents: `(key, n, truncation=None) -> z [n, z_dim]`, or None without z.
    decode: `(state, z, labels=None, ema=True) -> images [n, ...]`.
    score: `(state, images, labels=None) -> logits [n]`, how real each image
      seems; None where nothing judges single images.
    encode: `(state, images, labels=None) -> z [n, z_dim]`, or None.
    reconstruct: `(state, images, labels=None) -> images`, deterministic: what
      is left of each image on its way through the system, or None.
    classify: `(state, images, labels=None) -> logits [n, num_classes]`, or
      None; labels, as in `score`, of what is conditional.
    traverse: `z [z_dim] -> {what changes: z [k, z_dim]}` for pictures of single
      codes, where some have a meaning of their own; or None.
    log_likelihood: `(state, images, labels=None, draws=50) -> {name: [n]}`,
      bounds on the log of each image's density in nats, and their parts; of
      what is sampled so many draws. Or None.
    updates: `(update, place)` one after the other, where a step is nothing but
      them: `update(state, real, key, skip=())` gets the batch at that place
      and the step's key folded with its own place among the updates.
    batches_per_step: real batches that one step uses.
    lazy: name -> every how many steps it is due, where that is above 1.
    statistics: of `STATISTICS`, for samples.
    num_classes: of the labels that `sample` is given, 0 for none.
    conditional: whether samples depend on them: the generator's attribute of
      that name, where there are labels.
  """

  init: Callable[[jax.Array, Any], Any]
  train_step: Callable[..., Any]
  sample: Callable[..., jax.Array]
  settle: Callable[..., Any]
  networks: Mapping[str, nn.Module]
  latents: Callable[..., jax.Array] | None = None
  decode: Callable[..., jax.Array] | None = None
  score: Callable[..., jax.Array] | None = None
  encode: Callable[..., jax.Array] | None = None
  reconstruct: Callable[..., jax.Array] | None = None
  classify: Callable[..., jax.Array] | None = None
  traverse: Callable[..., Any] | None = None
  log_likelihood: Callable[..., dict[str, jax.Array]] | None = None
  updates: tuple[tuple[Callable[..., Any], int], ...] = ()
  batches_per_step: int = 1
  lazy: Mapping[str, int] = MappingProxyType({})
  statistics: str = "running"
  num_classes: int = 0
  conditional: bool = False

  def skip(self, step: int) -> tuple[str, ...]:
    """Returns what of `lazy` rests in the step after `step` others."""
    return tuple(name for name, every in self.lazy.items() if step % every)


def find(name: str):
  """Returns the module of the system `name`; its `make` makes a `System`."""
  return registry.find_module(sys.modules[__name__], name, "system", HELPERS)


def names() -> list[str]:
  """Returns the names of the systems that there are."""
  return registry.module_names(sys.modules[__name__], HELPERS)
