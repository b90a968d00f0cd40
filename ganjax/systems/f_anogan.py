"""f-AnoGAN: an encoder takes the place of AnoGAN's search.

Schlegl et al. 2019 (https://doi.org/10.1016/j.media.2019.01.010). Beside a GAN,
in the paper a WGAN-GP, an encoder E learns from real images to find the z of
their reconstructions by G, "izi_f":

    A(x) = |x - G(E(x))|^2 / n + kappa |f(x) - f(G(E(x)))|^2 / n_d

over n pixels and n_d features f(x), what D's last layer sees. E minimises the
mean of A over normal images, and A is the anomaly score.

The paper trains E when G and D are done. Here E has an update after each of
theirs, and follows the G that samples are drawn from; its gradients reach E
alone. Where G's and D's rates fall to 0, E ends at their last state.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from ganjax import errors, parallel
from ganjax.state import Averaged, State
from ganjax.systems import SYSTEMS, ability
from ganjax.systems.adversarial import features_of
from ganjax.systems.gan import GAN
from ganjax.systems.system import Metrics, Update, dropout_rngs, first_two


@SYSTEMS.register(name="f_anogan")
@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class FAnoGAN(GAN):
  """A GAN with an encoder that finds the z of real images.

  What is not said here is as in `GAN`.

  Attributes:
    encoder: see `ganjax.nets`; it is given `z_dim` outputs, without a bound.
    opt: the encoder's optimizer.
    kappa: the weight of D's features (theirs: 1); 0 for the paper's "izi".
    d_steps_per_g_step: updates of D for one of G and one of E.
    ema_decay: of the averages of G and E.
    precision: of the GAN's and E's arithmetic in training; E's images go
      through G and D in float32.

  Raises:
    UserError: `kappa` is below 0.
  """

  encoder: nn.Module
  opt: optax.GradientTransformation
  kappa: float = 1.0

  def __post_init__(self):
    """Checks kappa, and what every GAN checks."""
    super().__post_init__()
    if self.kappa < 0:
      raise errors.UserError(
        f"config.system.kappa={self.kappa!r} must be 0 or more"
      )

  @functools.cached_property
  def networks(self) -> dict[str, nn.Module]:
    """The players, and E with as many outputs as z has numbers."""
    return {
      "generator": self.generator,
      "discriminator": self.discriminator,
      "encoder": self.encoder.clone(outputs=self.z_dim),  # pyright: ignore
    }

  def init(self, key: jax.Array, arrays: Any) -> State:
    """Initialises all players; see `System.init`."""
    key, e_key = jax.random.split(key)
    state = super().init(key, arrays)
    images, labels = first_two(arrays)
    encoder = self.create(
      "encoder", dropout_rngs(e_key), images, labels, optimizer=self.opt
    )
    state = state.replace_nets(encoder=encoder)
    if not self.ema_decay:
      return state
    ema = {**state.ema, "encoder": Averaged.create(encoder)}
    return state.replace(ema=ema)

  def updates(self) -> tuple[Update, ...]:
    """Returns the GAN's updates, and one of E on G's batch."""
    of_gan = super().updates()
    return (*of_gan, Update(self.encoder_step, batch=of_gan[-1].batch))

  def encoder_step(
    self, state: State, real: Any, key: jax.Array, skip: Sequence[str] = ()
  ) -> tuple[State, Metrics]:
    """Moves E towards codes whose images are like the real ones.

    The metrics: the loss `e_loss`, its terms `reconstruction_error` and
    `feature_error` before kappa, and the norm of the gradient.
    """
    del skip  # Nothing of E is lazy.
    encoder = state.nets["encoder"]
    images = real.images
    labels = real.labels

    def objective(params):
      net = encoder.replace(params=params)
      z, stats = self.forward(
        "encoder", net, images, labels, key=key, iterate=True
      )
      pixels, seen = self.residuals(state, images, z, labels)
      pixels = pixels.mean()
      seen = seen.mean()
      return pixels + self.kappa * seen, (pixels, seen, stats)

    value_and_grad = jax.value_and_grad(objective, has_aux=True)
    (loss, aux), grads = value_and_grad(encoder.params)
    pixels, seen, stats = aux
    loss, pixels, seen, grads = parallel.mean((loss, pixels, seen, grads))
    metrics = {
      "e_loss": loss,
      "e_grad_norm": optax.tree.norm(grads),
      "reconstruction_error": pixels,
      "feature_error": seen,
    }
    state = state.replace_nets(encoder=encoder.update(self.opt, grads, stats))
    # G's update has counted this step already.
    state = state.move_averages(self.ema_decay, "encoder", step=state.step - 1)
    return state, metrics

  def residuals(
    self, state: State, images: jax.Array, z: jax.Array, labels=None
  ) -> tuple[jax.Array, jax.Array]:
    """Returns the mean squares `[n]` of x - G(z) and of f(x) - f(G(z)).

    G and D are as in evaluation: running statistics, no dropout or
    augmentation. Gradients reach z alone.
    """
    rebuilt = self.decode(state, z, labels)
    of_images = features_of(self.judge_alone(state, images, labels))
    of_rebuilt = features_of(self.judge_alone(state, rebuilt, labels))
    pixels = _mean_squares(images, rebuilt)
    return pixels, _mean_squares(of_images, of_rebuilt)

  @ability
  def score(self, state: State, images: jax.Array, labels=None) -> jax.Array:
    """Returns -A(x) `[n]` of images as networks see them."""
    z = self.encode(state, images, labels)
    pixels, seen = self.residuals(state, images, z, labels)
    return -(pixels + self.kappa * seen)

  @ability
  def encode(self, state: State, images: jax.Array, labels=None) -> jax.Array:
    """Returns E(x) `[n, z_dim]`, of the averaged E if there is one."""
    return self.evaluate("encoder", state.net("encoder"), images, labels)

  @ability(returns="images")
  def reconstruct(
    self, state: State, images: jax.Array, labels=None
  ) -> jax.Array:
    """Returns G(E(x)) `[n, ...]` of images as networks see them."""
    z = self.encode(state, images, labels)
    return self.decode(state, z, labels)


def _mean_squares(x: jax.Array, y: jax.Array) -> jax.Array:
  """Returns the mean of (x - y)^2 over each example `[n, ...]`, as `[n]`."""
  return jnp.square(x - y).reshape(len(x), -1).mean(1)
