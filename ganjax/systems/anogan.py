"""AnoGAN: anomalies are what a GAN of normal images cannot make.

Schlegl et al. 2017 (https://arxiv.org/abs/1703.05921). Training is a GAN's.
Afterwards a search finds for each image the z whose sample comes nearest,

    L(z) = (1 - w) sum |x - G(z)| + w sum |f(x) - f(G(z))|      (equations 2-5)

with f what D's last layer sees. What L stays at is the anomaly score A(x).
Theirs starts at a random z. Here all start at the same one, so that a score
belongs to its image, whatever stands beside it; near the prior's mean, but not
at it: with z = 0 a first layer without biases is silent, and has no gradient.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from ganjax import errors
from ganjax.objectives import losses
from ganjax.objectives.augment import Augmentation
from ganjax.objectives.penalties import Penalty
from ganjax.systems import System, features, gan

START = 0.3  # Standard deviation of the numbers of the first z.


class Parts(NamedTuple):
  """What the search is made of: see `make`; `gan` is the system it searches."""

  gan: Any
  z_dim: int
  steps: int
  rate: float
  feature_weight: float


def make(
  generator: nn.Module,
  discriminator: nn.Module,
  loss: losses.Loss,
  g_opt: optax.GradientTransformation,
  d_opt: optax.GradientTransformation,
  penalties: Mapping[str, Penalty] | None = None,
  augment: Augmentation | None = None,
  *,
  z_dim: int = 128,
  latent: str = "normal",
  search_steps: int = 500,
  search_rate: float = 0.05,
  feature_weight: float = 0.1,
  d_steps_per_g_step: int = 1,
  ema_decay: float | Callable[[Any], Any] = 0.0,
  precision: str = "float32",
  axis_name: str | None = None,
) -> System:
  """Returns a GAN whose score, codes and reconstructions come from a search.

  D's own judgement of an image is the score of system "gan", which trains alike
  from the same config.

  Args:
    generator: see `ganjax.nets`.
    discriminator: see `ganjax.nets`.
    loss: what each player minimises.
    g_opt: the generator's optimizer.
    d_opt: the discriminator's optimizer.
    penalties: name -> what is added to the losses.
    augment: what D sees in training instead of images.
    z_dim: the size of z.
    latent: the distribution of z, a key of `latents.LATENTS`.
    search_steps: of Adam, over z.
    search_rate: of Adam; z has unit variance.
    feature_weight: the weight w of D's features, from 0 to 1 (theirs: .1).
    d_steps_per_g_step: updates of D for one of G.
    ema_decay: of the averaged generator, in which the search then is.
    precision: of the networks' arithmetic in training; see `gan.make`.
    axis_name: the mapped axis, or None on one device.

  Raises:
    UserError: a number of the search is out of range.
  """
  for name, value, fits, text in (
    ("search_steps", search_steps, search_steps >= 1, "1 or more"),
    ("search_rate", search_rate, search_rate > 0, "above 0"),
    ("feature_weight", feature_weight, 0 <= feature_weight <= 1, "from 0 to 1"),
  ):
    if not fits:
      raise errors.UserError(f"config.system.{name}={value!r} must be {text}")
  players = generator, discriminator, loss, g_opt, d_opt, penalties, augment
  system = gan.make(
    *players,
    z_dim=z_dim,
    latent=latent,
    d_steps_per_g_step=d_steps_per_g_step,
    ema_decay=ema_decay,
    precision=precision,
    axis_name=axis_name,
  )
  parts = Parts(system, z_dim, search_steps, search_rate, feature_weight)
  return system._replace(
    score=functools.partial(score, parts),
    encode=functools.partial(encode, parts),
    reconstruct=functools.partial(reconstruct, parts),
  )


def search(parts: Parts, state: Any, images: jax.Array, labels=None):
  """Returns z `[n, z_dim]` near each image, and L(z) `[n]`.

  Each image is searched for by itself: Adam divides out what the sum over
  images leaves of scale, number by number.
  """
  see = functools.partial(features.watch, parts.gan.score, state, labels=labels)
  target = see(images=images)[1]

  def losses_of(z):
    found = parts.gan.decode(state, z, labels)
    pixels = _distances(images, found)
    seen = _distances(target, see(images=found)[1])
    return (1 - parts.feature_weight) * pixels + parts.feature_weight * seen

  adam = optax.adam(parts.rate)

  def step(_, carry):
    z, memory = carry
    grads = jax.grad(lambda z: losses_of(z).sum())(z)
    updates, memory = adam.update(grads, memory)
    return z + updates, memory

  # No kernel has a gradient here, so convolutions are fast within the loop.
  z = START * jax.random.normal(jax.random.key(0), (1, parts.z_dim))
  z = jnp.repeat(z, len(images), axis=0)
  z, _ = jax.lax.fori_loop(0, parts.steps, step, (z, adam.init(z)))
  return z, losses_of(z)


def _distances(x: jax.Array, y: jax.Array) -> jax.Array:
  """Returns sum |x - y| over each example `[n, ...]`, as `[n]`."""
  return jnp.abs(x - y).reshape(len(x), -1).sum(1)


def score(parts: Parts, state: Any, images, labels=None) -> jax.Array:
  """Returns -A(x) `[n]` of images as networks see them."""
  return -search(parts, state, images, labels)[1]


def encode(parts: Parts, state: Any, images, labels=None) -> jax.Array:
  """Returns the z `[n, z_dim]` that the search ends at."""
  return search(parts, state, images, labels)[0]


def reconstruct(parts: Parts, state: Any, images, labels=None) -> jax.Array:
  """Returns the nearest samples `[n, ...]` that the search finds."""
  z = encode(parts, state, images, labels)
  return parts.gan.decode(state, z, labels)
