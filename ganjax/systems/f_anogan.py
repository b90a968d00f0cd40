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

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from ganjax import errors, parallel
from ganjax import state as states
from ganjax.objectives import losses
from ganjax.objectives.augment import Augmentation
from ganjax.objectives.penalties import Penalty
from ganjax.systems import System, adversarial, features, gan


@flax.struct.dataclass
class FAnoGANState(adversarial.GANState):
  """A GAN's state and the encoder's."""

  encoder: states.NetState
  encoder_ema: states.Averaged | None


class Parts(NamedTuple):
  """What the functions below are made of: see `make`; `gan` trains G and D."""

  gan: Any
  encoder: nn.Module
  opt: optax.GradientTransformation
  kappa: float
  ema_decay: float | Callable[[Any], Any]
  axis_name: str | None
  dtype: Any


def make(
  generator: nn.Module,
  encoder: nn.Module,
  discriminator: nn.Module,
  loss: losses.Loss,
  g_opt: optax.GradientTransformation,
  d_opt: optax.GradientTransformation,
  opt: optax.GradientTransformation,
  penalties: Mapping[str, Penalty] | None = None,
  augment: Augmentation | None = None,
  *,
  z_dim: int = 128,
  latent: str = "normal",
  kappa: float = 1.0,
  d_steps_per_g_step: int = 1,
  ema_decay: float | Callable[[Any], Any] = 0.0,
  precision: str = "float32",
  axis_name: str | None = None,
) -> System:
  """Returns a GAN with an encoder that finds the z of real images.

  Args:
    generator: see `ganjax.nets`.
    encoder: see `ganjax.nets`; it is given `z_dim` outputs, without a bound.
    discriminator: see `ganjax.nets`.
    loss: what G and D minimise.
    g_opt: the generator's optimizer.
    d_opt: the discriminator's optimizer.
    opt: the encoder's optimizer.
    penalties: name -> what is added to the GAN's losses.
    augment: what D sees in the GAN's training instead of images.
    z_dim: the size of z.
    latent: the distribution of z, a key of `latents.LATENTS`.
    kappa: the weight of D's features (theirs: 1); 0 for the paper's "izi".
    d_steps_per_g_step: updates of D for one of G and one of E.
    ema_decay: of the averages of G and E, see `gan.make`.
    precision: of the GAN's and E's arithmetic in training, see `gan.make`; E's
      images go through G and D in float32.
    axis_name: the mapped axis, or None on one device.

  Raises:
    UserError: `kappa` is below 0.
  """
  if kappa < 0:
    raise errors.UserError(f"config.system.kappa={kappa!r} must be 0 or more")
  players = generator, discriminator, loss, g_opt, d_opt, penalties, augment
  base = gan.make(
    *players,
    z_dim=z_dim,
    latent=latent,
    d_steps_per_g_step=d_steps_per_g_step,
    ema_decay=ema_decay,
    precision=precision,
    axis_name=axis_name,
  )
  encoder = encoder.clone(outputs=z_dim)  # pyright: ignore
  dtype = jnp.dtype(precision)
  parts = Parts(base, encoder, opt, kappa, ema_decay, axis_name, dtype)
  # Images are coded on one device.
  alone = parts._replace(encoder=encoder.clone(axis_name=None))
  updates = (*base.updates, (functools.partial(e_update, parts), -1))
  return base._replace(
    init=functools.partial(init, parts),
    train_step=functools.partial(train_step, updates),
    updates=updates,
    networks={**base.networks, "encoder": encoder},
    score=functools.partial(score, alone),
    encode=functools.partial(encode, alone),
    reconstruct=functools.partial(reconstruct, alone),
  )


def init(parts: Parts, key: jax.Array, arrays: Any) -> FAnoGANState:
  """Initialises all players; `arrays.images [N, ...]` as networks see them."""
  key, e_key = jax.random.split(key)
  first = parts.gan.init(key, arrays)
  some, labels = jax.tree.map(lambda x: x[:2], (arrays.images, arrays.labels))
  rngs = {"params": e_key, "dropout": e_key}
  variables: Any = parts.encoder.init(rngs, some, labels)
  encoder = states.NetState.create(variables, parts.opt)
  ema = states.Averaged.create(encoder) if parts.ema_decay else None
  return FAnoGANState(**vars(first), encoder=encoder, encoder_ema=ema)


def train_step(updates, state: Any, batch: Any, key: jax.Array, skip=()):
  """The updates of all players in turn; see `System.updates`."""
  metrics = {}
  for i, (update, place) in enumerate(updates):
    real = jax.tree.map(lambda x, place=place: x[place], batch)
    state, new = update(state, real, jax.random.fold_in(key, i), skip)
    metrics |= new
  return state, metrics


def e_update(parts: Parts, state: Any, real: Any, key: jax.Array, skip=()):
  """One update of E towards codes whose images are like the real ones.

  The metrics: the loss `e_loss`, its terms `reconstruction_error` and
  `feature_error` before kappa, and the norm of the gradient.
  """
  del skip  # Nothing here is lazy.
  e, (images, labels) = state.encoder, (real.images, real.labels)

  def loss_fn(params):
    z, stats = states.forward(
      parts.encoder, params, e.stats, images, labels, key=key, dtype=parts.dtype
    )
    pixels, seen = residuals(parts, state, images, z, labels)
    pixels, seen = pixels.mean(), seen.mean()
    return pixels + parts.kappa * seen, (pixels, seen, stats)

  found, grads = jax.value_and_grad(loss_fn, has_aux=True)(e.params)
  loss, (pixels, seen, stats) = found
  rows = loss, pixels, seen, grads
  loss, pixels, seen, grads = parallel.mean(rows, parts.axis_name)
  metrics = dict(e_loss=loss, e_grad_norm=optax.tree.norm(grads))
  metrics |= dict(reconstruction_error=pixels, feature_error=seen)
  e, ema = e.update(parts.opt, grads, stats), state.encoder_ema
  if ema is not None:  # G's update has counted this step already.
    ema = ema.update(e, parts.ema_decay, state.step - 1)
  return state.replace(encoder=e, encoder_ema=ema), metrics


def residuals(parts: Parts, state: Any, images, z, labels=None):
  """Returns the mean squares `[n]` of x - G(z) and of f(x) - f(G(z)).

  G and D are as in evaluation: running statistics, no dropout or augmentation.
  """
  see = functools.partial(features.watch, parts.gan.score, state, labels=labels)
  rebuilt = parts.gan.decode(state, z, labels)
  seen = see(images=images)[1], see(images=rebuilt)[1]
  return _mean_squares(images, rebuilt), _mean_squares(*seen)


def _mean_squares(x: jax.Array, y: jax.Array) -> jax.Array:
  """Returns the mean of (x - y)^2 over each example `[n, ...]`, as `[n]`."""
  return jnp.square(x - y).reshape(len(x), -1).mean(1)


def score(parts: Parts, state: Any, images, labels=None) -> jax.Array:
  """Returns -A(x) `[n]` of images as networks see them."""
  z = encode(parts, state, images, labels)
  pixels, seen = residuals(parts, state, images, z, labels)
  return -(pixels + parts.kappa * seen)


def encode(parts: Parts, state: Any, images, labels=None) -> Any:
  """Returns E(x) `[n, z_dim]` of images, of the averaged E if there is one."""
  net = state.encoder_ema or state.encoder
  variables = {"params": net.params, **net.stats}
  return parts.encoder.apply(variables, images, labels, train=False)


def reconstruct(parts: Parts, state: Any, images, labels=None) -> jax.Array:
  """Returns G(E(x)) `[n, ...]` of images as networks see them."""
  z = encode(parts, state, images, labels)
  return parts.gan.decode(state, z, labels)
