"""Adversarially learned inference: an encoder that inverts the generator.

BiGAN (Donahue et al. 2017), also ALI (Dumoulin et al. 2017): D judges pairs,
(x, E(x)) of the data and (G(z), z) of the prior; G and E make them alike.

    min_{G, E} max_D  E_x log D(x, E(x)) + E_z log(1 - D(G(z), z))

At the optimum G and E invert each other (theorem 2). The baseline is extension
2 of Goodfellow et al. 2014: E predicts z from G's own samples, as wake-sleep's.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from ganjax import errors, parallel
from ganjax import state as states
from ganjax.objectives import latents, losses, measurements
from ganjax.objectives.augment import AUGMENTATIONS
from ganjax.systems import System, adversarial, gan, sampling
from ganjax.systems.adversarial import StepKeys, draw, generate, judge_both


@flax.struct.dataclass
class BiGANState(adversarial.GANState):
  """A GAN's state and the encoder's; D is None if only E learns."""

  encoder: states.NetState
  encoder_ema: states.Averaged | None


class Parts(NamedTuple):
  """What the updates are made of; `joint` if D judges pairs, not images."""

  gan: adversarial.Parts
  encoder: nn.Module
  joint: bool
  fixed: bool


def make(
  generator: nn.Module,
  encoder: nn.Module,
  discriminator: nn.Module,
  loss: losses.Loss,
  g_opt: optax.GradientTransformation,
  d_opt: optax.GradientTransformation,
  *,
  z_dim: int = 50,
  latent: str = "uniform",
  latent_regression: bool = False,
  freeze_generator: bool = False,
  ema_decay: float | Callable[[Any], Any] = 0.0,
  precision: str = "float32",
  axis_name: str | None = None,
) -> System:
  """Returns the GAN of a generator, an encoder and their judge.

  Args:
    generator: see `ganjax.nets`.
    encoder: see `ganjax.nets`; it is given `z_dim` outputs.
    discriminator: see `ganjax.nets`. A judge of pairs sees an image's values
      and z as one vector: it is a net of vectors, "mlp".
    loss: what D minimises; for G and E see `pair_loss`.
    g_opt: of the generator and of the encoder.
    d_opt: of the discriminator.
    z_dim: the size of z.
    latent: the distribution of z, a key of `latents.LATENTS`.
    latent_regression: the baseline: D judges images alone, E has `e_step`.
    freeze_generator: the baseline for a fixed G: E alone is trained, and the
      parameters of G, those of `config.start_from`, stay as they are.
    ema_decay: of the averages of G and E, see `gan.make`.
    precision: of the networks' arithmetic in training, see `gan.make`.
    axis_name: the mapped axis, or None on one device.

  Raises:
    UserError: the loss has no mirror image; by `init`, D sees no vectors.
  """
  joint = not (latent_regression or freeze_generator)
  if joint:
    if not loss.generator_uses_real and loss.probability(jnp.zeros(())) != 0.5:
      raise errors.UserError(
        "system 'bigan' needs a loss with D(x) = 1/2 at a logit of 0, such as "
        "non_saturating, hinge, or least_squares with fake_target=-1"
      )
    size = math.prod(getattr(generator, "image_shape", ())) + z_dim
    discriminator = discriminator.clone(image_shape=(size,))  # pyright: ignore
  draw_z = functools.partial(latents.LATENTS.find(latent), z_dim=z_dim)
  nets, optimizers = (generator, discriminator), (g_opt, d_opt)
  plain = {}, AUGMENTATIONS["none"](), draw_z, ema_decay, None, axis_name
  dtype = jnp.dtype(precision)
  base = adversarial.Parts(*nets, loss, *optimizers, *plain, dtype)
  encoder = encoder.clone(outputs=z_dim)  # pyright: ignore
  parts = Parts(base, encoder, joint, freeze_generator)
  # Samples are drawn on one device.
  alone = base._replace(axis_name=None, dtype=jnp.float32)
  if axis_name:
    alone = alone._replace(generator=generator.clone(axis_name=None))
  drawn = parts._replace(gan=alone)
  networks = dict(generator=generator, encoder=encoder)
  networks |= {} if freeze_generator else dict(discriminator=discriminator)
  num_classes = getattr(generator, "num_classes", 0)
  return System(
    init=functools.partial(init, parts),
    train_step=functools.partial(train_step, parts),
    sample=functools.partial(sampling.sample, alone),
    settle=functools.partial(sampling.settle, alone),
    latents=functools.partial(sampling.latents, alone),
    decode=functools.partial(sampling.decode, alone),
    encode=functools.partial(encode, drawn),
    reconstruct=functools.partial(reconstruct, drawn),
    score=functools.partial(score, drawn) if not freeze_generator else None,
    networks=networks,
    num_classes=num_classes,
    conditional=bool(num_classes) and getattr(generator, "conditional", False),
  )


def init(parts: Parts, key: jax.Array, arrays: Any) -> BiGANState:
  """Initialises all players; `arrays.images [N, ...]` as networks see them."""
  base, (key, d_key, z_key) = parts.gan, jax.random.split(key, 3)
  # The encoder starts as a GAN's discriminator does: from images.
  start = base._replace(discriminator=parts.encoder, d_opt=base.g_opt)
  first = gan.init(start, key, arrays)
  e = first.discriminator
  average = states.Averaged.create(e) if base.ema_decay else None
  state: Any = BiGANState(**vars(first), encoder=e, encoder_ema=average)
  if parts.fixed:
    return state.replace(discriminator=None, ema=None)
  some, labels = jax.tree.map(lambda x: x[:2], (arrays.images, arrays.labels))
  if parts.joint:
    some = pair(some, jax.vmap(base.draw_z)(jax.random.split(z_key, 2)))
  rngs = {"params": d_key, "dropout": d_key}
  try:
    variables = base.discriminator.init(rngs, some, labels)
  except ValueError as error:
    if not parts.joint:
      raise
    raise errors.UserError(
      "system 'bigan' shows D images and z as one vector: it needs "
      "config.discriminator.name='mlp', or config.system.latent_regression=True"
    ) from error
  judge = states.NetState.create(variables, base.d_opt)
  return state.replace(discriminator=judge)


def pair(images: jax.Array, z: jax.Array) -> jax.Array:
  """Returns `[n, d + z_dim]` of images of d pixels and channels, and z."""
  return jnp.concatenate([images.reshape(len(images), -1), z], axis=-1)


def pair_loss(loss: losses.Loss, real, fake) -> jax.Array:
  """Returns what G and E minimise, a scalar, of pairs' logits `[N]` and `[N]`.

  E does with a real logit what G does with the negative of a fake one: of
  minimax that is the value above; of non_saturating, D's loss with exchanged
  labels (Donahue et al. 2017). A relativistic loss is one of both already.
  """
  mirror = 0 if loss.generator_uses_real else loss.generator(-fake, -real)
  return loss.generator(real, fake) + mirror


def play(parts: Parts, state: Any, params, real: Any, key, iterate=False):
  """Returns D's logits `[N]` of real and fake pairs, new stats, the fakes.

  `params` and the stats are of G, E and D; D's spectral norms may `iterate`.
  """
  base, labels, (g, e, d) = parts.gan, real.labels, params
  key, e_key = jax.random.split(key)
  keys = StepKeys(*jax.random.split(key, 5))
  z = draw(base, real, keys)
  g, e = (g, state.generator.stats), (e, state.encoder.stats)
  fake, g_stats = generate(base, g, z, labels, keys.generator, iterate=True)
  code, e_stats = states.forward(
    parts.encoder, *e, real.images, labels, key=e_key, dtype=base.dtype
  )
  real, pairs = real.replace(images=pair(real.images, code)), pair(fake, z)
  *logits, d_stats = judge_both(base, state, d, real, pairs, keys, iterate)
  return logits, (g_stats, e_stats, d_stats), fake


def train_step(parts: Parts, state: Any, batch: Any, key: jax.Array, skip=()):
  """The updates of all who learn, from one batch; see `System.train_step`."""
  del skip
  base, metrics = parts.gan, {}
  real = jax.tree.map(lambda x: x[0], batch)
  updates = (d_step, ge_step) if parts.joint else (gan_step, e_step)
  for i, update in enumerate(updates[parts.fixed :]):
    state, new = update(parts, state, real, jax.random.fold_in(key, i))
    metrics |= new
  step, ema, e_ema = state.step, state.ema, state.encoder_ema
  state = state.replace(
    step=step + 1,
    ema=ema and ema.update(state.generator, base.ema_decay, step),
    encoder_ema=e_ema and e_ema.update(state.encoder, base.ema_decay, step),
  )
  rebuilt = reconstruct(parts, state, real.images, real.labels)
  error = jnp.square(rebuilt - real.images).mean()
  metrics["reconstruction_error"] = parallel.mean(error, base.axis_name)
  return state, metrics


def d_step(parts: Parts, state: Any, real: Any, key: jax.Array):
  """One update of the judge of pairs: the new state, metrics."""
  base, player = parts.gan, state.discriminator
  others = state.generator.params, state.encoder.params

  def loss_fn(params):
    logits, stats, fake = play(parts, state, (*others, params), real, key, True)
    return base.loss.discriminator(*logits), (logits, stats[2], fake)

  grad_fn = jax.value_and_grad(loss_fn, has_aux=True)
  (loss, (logits, stats, fake)), grads = grad_fn(player.params)
  grads = parallel.mean(grads, base.axis_name)
  metrics = dict(d_loss=loss, d_grad_norm=optax.tree.norm(grads))
  metrics |= measurements.of_logits(base.loss, *logits)
  metrics |= measurements.of_images(real.images, fake)
  player = player.update(base.d_opt, grads, stats)
  return state.replace(discriminator=player), metrics


def ge_step(parts: Parts, state: Any, real: Any, key: jax.Array):
  """One update of G and E against the judge of pairs; `g_loss` is of both."""
  base, g, e = parts.gan, state.generator, state.encoder
  d = state.discriminator.params

  def loss_fn(params):
    logits, stats, _ = play(parts, state, (*params, d), real, key)
    return pair_loss(base.loss, *logits), (logits, stats)

  grad_fn = jax.value_and_grad(loss_fn, has_aux=True)
  (loss, (logits, stats)), grads = grad_fn((g.params, e.params))
  g_grads, e_grads = parallel.mean(grads, base.axis_name)
  metrics = dict(g_loss=loss, g_grad_norm=optax.tree.norm(g_grads))
  metrics |= dict(e_grad_norm=optax.tree.norm(e_grads))
  metrics |= measurements.of_generator(base.loss, *logits)
  g = g.update(base.g_opt, g_grads, stats[0])
  e = e.update(base.g_opt, e_grads, stats[1])
  return state.replace(generator=g, encoder=e), metrics


def gan_step(parts: Parts, state: Any, real: Any, key: jax.Array):
  """One update of D, which judges images, and one of G."""
  keys = jax.random.split(key)
  d, _, metrics = adversarial.d_step(parts.gan, state, real, keys[0])
  state = state.replace(discriminator=d)
  g, _, new = adversarial.g_step(parts.gan, state, real, keys[1])
  return state.replace(generator=g), metrics | new


def e_step(parts: Parts, state: Any, real: Any, key: jax.Array):
  """One update of E towards the z of G's samples.

  Its loss, `loss` if nothing else learns, is the mean square of z - E(G(z)).
  A fixed G's running statistics, not of `start_from`, become its samples'.
  """
  base, g, e = parts.gan, state.generator, state.encoder
  keys = StepKeys(*jax.random.split(key, 5))
  z, net, labels = draw(base, real, keys), (g.params, g.stats), real.labels
  fake, g_stats = generate(base, net, z, labels, keys.generator)
  forward = functools.partial(states.forward, parts.encoder, dtype=base.dtype)

  def loss_fn(params):
    code, stats = forward(params, e.stats, fake, labels, key=keys.fake)
    return jnp.square(code - z).mean(), stats

  grad_fn = jax.value_and_grad(loss_fn, has_aux=True)
  (loss, stats), grads = grad_fn(e.params)
  loss, grads = parallel.mean((loss, grads), base.axis_name)
  metrics = {"loss" if parts.fixed else "e_loss": loss}
  metrics["e_grad_norm"] = optax.tree.norm(grads)
  g = g.replace(stats=g_stats) if parts.fixed else g
  e = e.update(base.g_opt, grads, stats)
  return state.replace(generator=g, encoder=e), metrics


def encode(parts: Parts, state: Any, images, labels=None) -> Any:
  """Returns E(x) `[n, z_dim]` of images, of the averaged E if there is one."""
  net = state.encoder_ema or state.encoder
  variables = {"params": net.params, **net.stats}
  return parts.encoder.apply(variables, images, labels, train=False)


def reconstruct(parts: Parts, state: Any, images, labels=None) -> jax.Array:
  """Returns G(E(x)) `[n, ...]` of images as networks see them."""
  z = encode(parts, state, images, labels)
  return sampling.decode(parts.gan, state, z, labels)


def score(parts: Parts, state: Any, images, labels=None) -> jax.Array:
  """Returns D's logits `[n]` of pairs (x, E(x)), or of images alone."""
  if parts.joint:
    images = pair(images, encode(parts, state, images, labels))
  return sampling.score(parts.gan, state, images, labels)
