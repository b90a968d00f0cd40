"""In-painting: an adversarial model of all conditionals p(x_S | x_not S).

Goodfellow et al. 2014, section 7, extension 3: one family of conditional models
with shared parameters, here G(x * mask, mask, z), whose discriminator and
reconstruction term are those of context encoders (Pathak et al. 2016,
https://arxiv.org/abs/1604.07379). What is drawn of it is in `completion.py`.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from ganjax import errors, parallel
from ganjax import state as states
from ganjax.objectives import latents, losses, measurements
from ganjax.systems import System, completion
from ganjax.systems.completion import InpaintingState, Parts

DISTANCES = {"l1": jnp.abs, "l2": jnp.square}


def make(
  encoder: nn.Module,
  decoder: nn.Module,
  discriminator: nn.Module,
  loss: losses.Loss,
  g_opt: optax.GradientTransformation,
  d_opt: optax.GradientTransformation,
  *,
  z_dim: int = 32,
  latent: str = "normal",
  code_dim: int = 128,
  masks: str = "mixed",
  reconstruction_weight: float = 10.0,
  distance: str = "l1",
  d_steps_per_g_step: int = 1,
  ema_decay: float | Callable[[Any], Any] = 0.0,
  precision: str = "float32",
  axis_name: str | None = None,
) -> System:
  """Returns the system that fills in what is missing of images.

  No network is told the labels. Samples are completions of 64 training images,
  which the state keeps: their known pixels are real, so that a distance to the
  data is no measure beside those of other systems.

  Args:
    encoder: of the known pixels and of the mask, one more channel.
    decoder: a net's generator, of the code beside z.
    discriminator: of whole images, given or completed.
    loss: what each player minimises.
    g_opt: the encoder's and the decoder's optimizer.
    d_opt: the discriminator's optimizer.
    z_dim: the size of z.
    latent: the distribution of z, a key of `latents.LATENTS`.
    code_dim: the size of the encoder's code.
    masks: what is missing of a training image: "half" of it (left, right, top
      or bottom), a "block" of half its height and width somewhere, half of its
      "pixels" one by one, or "mixed", one of these for each image.
    reconstruction_weight: of the distance to the missing pixels in G's loss;
      higher for what is likely, lower for what is various.
    distance: of a missing pixel from its true value, "l1" or "l2".
    d_steps_per_g_step: discriminator updates of one step.
    ema_decay: of the averaged networks, or step -> decay; 0 for none.
    precision: of the networks' arithmetic in training, see `gan.make`.
    axis_name: the mapped axis, or None on one device.

  Raises:
    UserError: a value that there is not, or data that are no images.
  """
  if distance not in DISTANCES:
    raise errors.unknown("distance", distance, DISTANCES)
  if reconstruction_weight < 0:
    raise errors.UserError(
      f"config.system.reconstruction_weight={reconstruction_weight} must be at "
      "least 0"
    )
  shape = getattr(encoder, "image_shape", ())
  if len(shape) != 3:
    raise errors.UserError(
      f"system 'inpainting' needs images, not {list(shape)}: choose another "
      "config.dataset"
    )
  *size, channels = shape
  seen: dict[str, Any] = dict(
    image_shape=(*size, channels + 1), outputs=code_dim
  )
  parts = Parts(
    encoder.clone(num_classes=0, **seen),
    decoder.clone(num_classes=0),
    discriminator.clone(num_classes=0),
    loss,
    g_opt,
    d_opt,
    functools.partial(completion.MASKS.find(masks), size=tuple(size)),
    functools.partial(latents.LATENTS.find(latent), z_dim=z_dim),
    z_dim,
    DISTANCES[distance],
    reconstruction_weight,
    ema_decay,
    axis_name,
    jnp.dtype(precision),
  )
  # Samples are drawn on one device.
  alone = parts._replace(
    encoder=parts.encoder.clone(axis_name=None),
    decoder=parts.decoder.clone(axis_name=None),
    axis_name=None,
    dtype=jnp.float32,
  )
  names = ("encoder", "decoder", "discriminator")
  return System(
    init=functools.partial(init, parts),
    train_step=make_train_step(parts, d_steps_per_g_step),
    sample=functools.partial(completion.sample, alone),
    settle=functools.partial(completion.settle, alone),
    networks={name: getattr(parts, name) for name in names},
    latents=functools.partial(completion.draw_latents, alone),
    decode=functools.partial(completion.decode, alone),
    score=functools.partial(completion.score, alone),
    reconstruct=functools.partial(completion.reconstruct, alone),
    updates=make_updates(parts, d_steps_per_g_step),
    batches_per_step=d_steps_per_g_step,
  )


def init(parts: Parts, key: jax.Array, arrays: Any) -> InpaintingState:
  """Initialises all networks; `arrays.images [N, ...]` as networks see them."""
  keys, images = jax.random.split(key, 4), arrays.images
  rngs = [dict(params=k, dropout=k) for k in keys[:3]]
  count = completion.BANK
  bank = images[jnp.arange(count) % len(images)]
  masks, _ = completion.draw(parts._replace(axis_name=None), count, keys[3])
  memory = dict(images=bank, masks=masks)
  seen = jnp.concatenate([bank, masks], -1)[:2]
  encoder = parts.encoder.init(rngs[0], seen)
  code_dim = getattr(parts.encoder, "outputs", 0)
  codes = jnp.zeros((2, code_dim + parts.z_dim))
  decoder = parts.decoder.init(rngs[1], codes)
  if hasattr(parts.decoder, "init_from_data"):
    params = parts.decoder.init_from_data(decoder["params"], images)
    decoder = {**decoder, "params": params}
  discriminator = parts.discriminator.init(rngs[2], bank[:2])
  g = dict(encoder=encoder, decoder=decoder)
  g = {k: states.NetState.create(v, parts.g_opt) for k, v in g.items()}
  d = states.NetState.create(discriminator, parts.d_opt)
  ema = None
  if parts.ema_decay:
    ema = {name: states.Averaged.create(net) for name, net in g.items()}
  return InpaintingState(
    step=jnp.int32(0), discriminator=d, ema=ema, memory=memory, **g
  )


def make_updates(parts: Parts, d_steps_per_g_step: int):
  """Returns the updates of one step: see `System.updates`."""

  def d_update(state, real, key, skip=()):
    del skip
    discriminator, metrics = d_step(parts, state, real, key)
    return state.replace(discriminator=discriminator), metrics

  def g_update(state, real, key, skip=()):
    del skip
    nets, metrics = g_step(parts, state, real, key)
    ema = state.ema and {
      name: average.update(nets[name], parts.ema_decay, state.step)
      for name, average in state.ema.items()
    }
    return state.replace(step=state.step + 1, ema=ema, **nets), metrics

  d_updates = [(d_update, k) for k in range(d_steps_per_g_step)]
  return (*d_updates, (g_update, -1))


def make_train_step(parts: Parts, d_steps_per_g_step: int):
  """Returns `(state, batch, key, skip=()) -> (state, metrics)`."""
  updates = make_updates(parts, d_steps_per_g_step)

  def train_step(state, batch, key, skip=()):
    metrics = {}
    for i, (update, place) in enumerate(updates):
      real = jax.tree.map(lambda x, place=place: x[place], batch)
      state, new = update(state, real, jax.random.fold_in(key, i), skip)
      metrics |= new
    return state, metrics

  return train_step


def judge_both(parts: Parts, net, real, fake, key, iterate: bool = False):
  """Returns D's logits `[N]` of the global batch, real and fake, new stats.

  Args:
    parts: of the system.
    net: D's `(params, stats)`.
    real: images `[n, ...]`.
    fake: completed images `[n, ...]`.
    key: of dropout.
    iterate: whether spectral norms refine their vectors, in the first pass.
  """
  keys, (params, stats) = jax.random.split(key), net
  see = functools.partial(
    states.forward, parts.discriminator, params, dtype=parts.dtype
  )
  real_logits, stats = see(stats, real, key=keys[0], iterate=iterate)
  fake_logits, stats = see(stats, fake, key=keys[1], iterate=False)
  gather = functools.partial(parallel.gather, axis_name=parts.axis_name)
  return gather(real_logits), gather(fake_logits), stats


def missing_error(parts: Parts, completed, images, masks) -> jax.Array:
  """Returns the mean distance of missing pixels, a scalar of this device.

  Of each image first, so that all weigh the same; 0 where nothing is missing.
  """
  axes = (1, 2, 3)
  # Known pixels are the same in both.
  total = parts.distance(completed - images).sum(axes)
  missing = (1.0 - masks).sum(axes) * images.shape[-1]
  return (total / jnp.maximum(missing, 1.0)).mean()


def d_step(parts: Parts, state: InpaintingState, real: Any, key: jax.Array):
  """One update of D; returns its new state and metrics."""
  keys, player = jax.random.split(key, 3), state.discriminator
  masks, z = completion.draw(parts, len(real.images), keys[0])
  nets = completion.nets_of(state, ema=False)
  fake, _ = completion.fill(parts, nets, real.images, masks, z, keys[1])

  def loss_fn(params):
    net = params, player.stats
    real_logits, fake_logits, stats = judge_both(
      parts, net, real.images, fake, keys[2], iterate=True
    )
    loss = parts.loss.discriminator(real_logits, fake_logits)
    return loss, (loss, stats, real_logits, fake_logits)

  grads, aux = jax.grad(loss_fn, has_aux=True)(player.params)
  loss, stats, real_logits, fake_logits = aux
  grads = parallel.mean(grads, parts.axis_name)
  metrics = dict(d_loss=loss, d_grad_norm=optax.tree.norm(grads))
  metrics |= measurements.of_logits(parts.loss, real_logits, fake_logits)
  metrics |= measurements.of_images(real.images, fake)
  metrics |= measurements.of_stats("d", stats)
  return player.update(parts.d_opt, grads, stats), metrics


def g_step(parts: Parts, state: InpaintingState, real: Any, key: jax.Array):
  """One update of encoder and decoder; returns both by name, and metrics."""
  keys = jax.random.split(key, 3)
  masks, z = completion.draw(parts, len(real.images), keys[0])
  nets = completion.nets_of(state, ema=False)
  d = state.discriminator.params, state.discriminator.stats

  def loss_fn(params):
    moved = {name: (params[name], stats) for name, (_, stats) in nets.items()}
    fake, stats = completion.fill(parts, moved, real.images, masks, z, keys[1])
    logits = judge_both(parts, d, real.images, fake, keys[2])[:2]
    loss = parts.loss.generator(*logits)
    error = missing_error(parts, fake, real.images, masks)
    total = loss + parts.reconstruction_weight * error
    return total, (loss, error, stats, logits)

  params = {name: params for name, (params, _) in nets.items()}
  grads, aux = jax.grad(loss_fn, has_aux=True)(params)
  loss, error, stats, logits = aux
  grads, error = parallel.mean((grads, error), parts.axis_name)
  metrics = dict(g_loss=loss, reconstruction_loss=error)
  metrics |= dict(g_grad_norm=optax.tree.norm(grads))
  metrics |= measurements.of_generator(parts.loss, *logits)
  new = {
    name: getattr(state, name).update(parts.g_opt, grads[name], stats[name])
    for name in nets
  }
  return new, metrics
