"""How samples of a GAN are made of latents, and images judged."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ganjax import parallel
from ganjax.systems import adversarial
from ganjax.systems.adversarial import GANState, Parts

# The collection in which batch norm keeps its running statistics.
BATCH = "batch_stats"


def latents(parts: Parts, key: jax.Array, n: int, truncation=None) -> jax.Array:
  """Draws z `[n, z_dim]`; `truncation` bounds its components unless None."""
  draw_z: Any = functools.partial(parts.draw_z, truncation=truncation)
  return jax.vmap(draw_z)(parallel.example_keys(key, n, None))


def decode(
  parts: Parts, state: GANState, z: jax.Array, labels=None, ema: bool = True
) -> jax.Array:
  """Returns the images `[n, ...]` of z `[n, z_dim]`, as networks see them.

  Each by itself, with batch norm's running statistics. The other arguments are
  those of `sample`.
  """
  net = getattr(state, _drawn(state, ema))
  variables = {"params": net.params, **net.stats}
  images: Any = parts.generator.apply(variables, z, labels, train=False)
  return images


def score(
  parts: Parts, state: GANState, images: jax.Array, labels=None
) -> jax.Array:
  """Returns D's logits `[n]` of images as networks see them, one by one.

  A discriminator of several images at once (Lin et al. 2018) is shown each
  image beside itself.
  """
  net = state.discriminator
  variables = {"params": net.params, **net.stats}
  pack = getattr(parts.discriminator, "pack", 1)
  if pack > 1:
    images = jnp.repeat(images, pack, axis=0)
    labels = None if labels is None else jnp.repeat(labels, pack, axis=0)
  judge: Any = functools.partial(parts.discriminator.apply, train=False)
  return judge(variables, images, labels).reshape(-1)


def sample(
  parts: Parts,
  state: GANState,
  key: jax.Array,
  n: int,
  labels=None,
  ema: bool = True,
  truncation=None,
  batch: bool = False,
) -> jax.Array:
  """Draws images `[n, ...]` as networks see them.

  Args:
    parts: of the system.
    state: of the system.
    key: the samples are a function of it.
    n: how many.
    labels: int32 `[n]`, or None.
    ema: from the averaged generator where there is one.
    truncation: the largest component of z, or None.
    batch: whether in training mode, by the statistics of these n.
  """
  z = latents(parts, key, n, truncation)
  if not batch:
    return decode(parts, state, z, labels, ema)
  net = getattr(state, _drawn(state, ema))
  return adversarial.generate(parts, (net.params, net.stats), z, labels, key)[0]


def settle(
  parts: Parts,
  state: GANState,
  key: jax.Array,
  n: int,
  labels,
  ema: bool,
  truncation,
  weight,
) -> GANState:
  """Moves batch norm's running statistics by `weight` to a fresh batch's.

  With the weights 1, 1/2, 1/3, ... they become the mean over the batches of
  their means and of their variances. The other arguments are those of `sample`.
  """
  drawn = _drawn(state, ema)
  net, z = getattr(state, drawn), latents(parts, key, n, truncation)
  if BATCH not in net.stats:
    return state

  def update(running):
    before = net.params, {**net.stats, BATCH: running}
    return adversarial.generate(parts, before, z, labels, key)[1][BATCH]

  new = moved(update, net.stats[BATCH], weight)
  stats = {**net.stats, BATCH: new}
  return dataclasses.replace(state, **{drawn: net.replace(stats=stats)})


def moved(update, running: Any, weight: Any) -> Any:
  """Returns running statistics moved by `weight` to those of a batch.

  Args:
    update: running statistics -> those after a batch in training mode.
    running: statistics, a pytree.
    weight: 1 for those of the batch alone.
  """
  # Batch norm returns m * running + (1 - m) * batch: from 0, with slope m.
  zeros = jax.tree.map(jnp.zeros_like, running)
  ones = jax.tree.map(jnp.ones_like, zeros)
  after, slope = jax.jvp(update, (zeros,), (ones,))
  batch = jax.tree.map(lambda x, m: x / (1 - m), after, slope)
  return optax.incremental_update(batch, running, weight)


def _drawn(state: GANState, ema: bool) -> str:
  """Returns which network of `state` samples are drawn from."""
  return "generator" if state.ema is None or not ema else "ema"
