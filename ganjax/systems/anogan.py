"""AnoGAN: anomalies are what a GAN of normal images cannot make.

Schlegl et al. 2017 (https://arxiv.org/abs/1703.05921). Training is a GAN's.
Afterwards a search finds for each image the z whose sample comes nearest,

    L(z) = (1 - w) sum |x - G(z)| + w sum |f(x) - f(G(z))|      (equations 2-5)

with f what D's last layer sees. What L stays at is the anomaly score A(x).
Theirs starts at a random z. Here all start at the same one, so that a score
belongs to its image, whatever stands beside it; near the prior's mean, but not
at it: with z = 0 a first layer without biases is silent, and has no gradient.
"""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from ganjax import errors
from ganjax.state import State
from ganjax.systems import SYSTEMS, ability
from ganjax.systems.adversarial import features_of
from ganjax.systems.gan import GAN

START = 0.3  # Standard deviation of the numbers of the first z.


@SYSTEMS.register(name="anogan")
@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class AnoGAN(GAN):
  """A GAN whose score, codes and reconstructions come from a search.

  D's own judgement of an image is the score of system "gan", which trains alike
  from the same config. What is not said here is as in `GAN`.

  Attributes:
    search_steps: of Adam, over z.
    search_rate: of Adam; z has unit variance.
    feature_weight: the weight w of D's features, from 0 to 1 (theirs: .1).

  Raises:
    UserError: a number of the search is out of range.
  """

  search_steps: int = 500
  search_rate: float = 0.05
  feature_weight: float = 0.1

  def __post_init__(self):
    """Checks the numbers of the search, and what every GAN checks."""
    super().__post_init__()
    if self.search_steps < 1:
      raise errors.UserError(
        f"config.system.search_steps={self.search_steps!r} must be 1 or more"
      )
    if not self.search_rate > 0:
      raise errors.UserError(
        f"config.system.search_rate={self.search_rate!r} must be above 0"
      )
    if not 0 <= self.feature_weight <= 1:
      raise errors.UserError(
        f"config.system.feature_weight={self.feature_weight!r} must be from 0 "
        "to 1"
      )

  def search(
    self, state: State, images: jax.Array, labels=None
  ) -> tuple[jax.Array, jax.Array]:
    """Returns z `[n, z_dim]` near each image, and L(z) `[n]`.

    Each image is searched for by itself: Adam divides out what the sum over
    images leaves of scale, number by number.
    """

    def features(images):
      return features_of(self.judge_alone(state, images, labels))

    target = features(images)

    def losses_of(z):
      found = self.decode(state, z, labels)
      pixels = _distances(images, found)
      seen = _distances(target, features(found))
      weight = self.feature_weight
      return (1 - weight) * pixels + weight * seen

    def total(z):
      return losses_of(z).sum()

    adam = optax.adam(self.search_rate)

    def step(_, carry):
      z, memory = carry
      updates, memory = adam.update(jax.grad(total)(z), memory)
      return z + updates, memory

    z = START * jax.random.normal(jax.random.key(0), (1, self.z_dim))
    z = jnp.repeat(z, len(images), axis=0)
    # No kernel has a gradient here, so convolutions are fast within the loop.
    z, _ = jax.lax.fori_loop(0, self.search_steps, step, (z, adam.init(z)))
    return z, losses_of(z)

  @ability
  def score(self, state: State, images: jax.Array, labels=None) -> jax.Array:
    """Returns -A(x) `[n]` of images as networks see them."""
    return -self.search(state, images, labels)[1]

  @ability
  def encode(self, state: State, images: jax.Array, labels=None) -> jax.Array:
    """Returns the z `[n, z_dim]` that the search ends at."""
    return self.search(state, images, labels)[0]

  @ability(returns="images")
  def reconstruct(
    self, state: State, images: jax.Array, labels=None
  ) -> jax.Array:
    """Returns the nearest samples `[n, ...]` that the search finds."""
    z = self.encode(state, images, labels)
    return self.decode(state, z, labels)


def _distances(x: jax.Array, y: jax.Array) -> jax.Array:
  """Returns sum |x - y| over each example `[n, ...]`, as `[n]`."""
  return jnp.abs(x - y).reshape(len(x), -1).sum(1)
