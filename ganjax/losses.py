"""Adversarial objectives on logits: `losses.get("hinge")`.

A loss is a pair of functions `(real_logits [N], fake_logits [N]) -> scalar
float32`, both to be minimised, both means over N. The expectation is over the
*global* batch: a step gathers the logits of all devices first. Every generator
loss takes `real_logits` too, since some objectives use them; XLA removes what
is not used. `D(x) = sigmoid(logit)` where a paper speaks of probabilities.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ganjax import errors, registry

LogitLoss = Callable[[jax.Array, jax.Array], jax.Array]

LOSSES = registry.Registry("loss")


class Loss(NamedTuple):
  """What each player minimises.

  Attributes:
    discriminator: `(real_logits [N], fake_logits [N]) -> scalar`.
    generator: `(real_logits [N], fake_logits [N]) -> scalar`.
    boundary: the logit above which D calls an image real.
  """

  discriminator: LogitLoss
  generator: LogitLoss
  boundary: float = 0.0


def get(name: str, d_weight: float = 1.0, g_weight: float = 1.0, **hyper):
  """Returns the loss `name`.

  Args:
    name: a key of `LOSSES`.
    d_weight: a factor on the discriminator's loss. The papers' codes differ
      in it (2014: 0.5); it matters with SGD and beside penalties.
    g_weight: the same for the generator's loss.
    **hyper: the loss's own parameters, e.g. `real_target` of `least_squares`.

  Returns:
    A `Loss` in float32, whatever the logits' type.

  Raises:
    UserError: there is no such loss, or a weight is not positive.
  """
  if d_weight <= 0 or g_weight <= 0:
    raise errors.UserError(
      f"loss {name!r}: d_weight={d_weight} and g_weight={g_weight} "
      "must both be above 0"
    )
  loss = LOSSES.find(name)(**hyper)
  return loss._replace(
    discriminator=_weighted(loss.discriminator, d_weight),
    generator=_weighted(loss.generator, g_weight),
  )


def _weighted(loss: LogitLoss, weight: float) -> LogitLoss:
  def weighted_loss(real_logits, fake_logits):
    if real_logits.shape != fake_logits.shape or real_logits.ndim != 1:
      raise ValueError(
        "logits must be [N] and [N], not "
        f"{list(real_logits.shape)} and {list(fake_logits.shape)}"
      )
    real, fake = (x.astype(jnp.float32) for x in (real_logits, fake_logits))
    return weight * loss(real, fake)

  return weighted_loss


def _cross_entropy(real_logits, fake_logits):
  """-V(D, G): binary cross-entropy with the labels real = 1, fake = 0."""
  real_loss = jax.nn.softplus(-real_logits).mean()
  return real_loss + jax.nn.softplus(fake_logits).mean()


@LOSSES.register
def minimax() -> Loss:
  """The zero-sum game (Goodfellow et al. 2014, eq. 1).

  D: -E log D(x) - E log(1 - D(G(z))). G: E log(1 - D(G(z))), whose gradient
  vanishes where D is sure that a sample is fake.
  """

  def generator(real_logits, fake_logits):
    del real_logits
    return -jax.nn.softplus(fake_logits).mean()

  return Loss(_cross_entropy, generator)


@LOSSES.register
def non_saturating() -> Loss:
  """G maximises log D(G(z)) instead (Goodfellow et al. 2014, section 3).

  Same fixed point as `minimax`; per sample the generator's gradient points
  the same way and is (1 - D) / D times as long.
  """

  def generator(real_logits, fake_logits):
    del real_logits
    return jax.nn.softplus(-fake_logits).mean()

  return Loss(_cross_entropy, generator)


@LOSSES.register
def least_squares(
  fake_target: float = 0.0,
  real_target: float = 1.0,
  generator_target: float = 1.0,
) -> Loss:
  """LSGAN (Mao et al. 2017, eq. 2) without its factors 1/2.

  Args:
    fake_target: the paper's a, the label of fakes in D's loss.
    real_target: the paper's b, the label of real images in D's loss.
    generator_target: the paper's c, what G wants D to say of fakes.

  Returns:
    D: E (r - b)^2 + E (f - a)^2. G: E (f - c)^2.
  """

  def discriminator(real_logits, fake_logits):
    real_loss = jnp.square(real_logits - real_target).mean()
    return real_loss + jnp.square(fake_logits - fake_target).mean()

  def generator(real_logits, fake_logits):
    del real_logits
    return jnp.square(fake_logits - generator_target).mean()

  return Loss(discriminator, generator, (fake_target + real_target) / 2)


@LOSSES.register
def hinge() -> Loss:
  """The geometric GAN (Lim & Ye 2017; Miyato et al. 2018, eqs. 16-17).

  D: E max(0, 1 - r) + E max(0, 1 + f). G: -E f.
  """

  def discriminator(real_logits, fake_logits):
    real_loss = jax.nn.relu(1.0 - real_logits).mean()
    return real_loss + jax.nn.relu(1.0 + fake_logits).mean()

  return Loss(discriminator, _raise_fake)


@LOSSES.register
def wasserstein() -> Loss:
  """WGAN (Arjovsky et al. 2017, eq. 2): D: E f - E r. G: -E f.

  It bounds a distance only while D is kept Lipschitz, by a penalty or by
  clipping; alone it diverges.
  """

  def discriminator(real_logits, fake_logits):
    return fake_logits.mean() - real_logits.mean()

  return Loss(discriminator, _raise_fake)


def _raise_fake(real_logits, fake_logits):
  del real_logits
  return -fake_logits.mean()
