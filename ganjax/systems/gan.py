"""Generative adversarial nets (Goodfellow et al. 2014, Algorithm 1)."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from ganjax import errors, latents, losses, parallel
from ganjax import state as states
from ganjax.systems import System


@flax.struct.dataclass
class GANState:
  """Everything that training changes.

  Attributes:
    step: int32, generator updates so far.
    generator: the live generator.
    discriminator: the discriminator.
    ema: the averaged generator, or None.
  """

  step: jax.Array
  generator: states.NetState
  discriminator: states.NetState
  ema: states.Averaged | None


class Parts(NamedTuple):
  """What the steps are made of."""

  generator: nn.Module
  discriminator: nn.Module
  loss: losses.Loss
  g_opt: optax.GradientTransformation
  d_opt: optax.GradientTransformation
  draw_z: Callable[[jax.Array], jax.Array]
  ema_decay: float
  axis_name: str | None


def make(
  generator: nn.Module,
  discriminator: nn.Module,
  loss: losses.Loss,
  g_opt: optax.GradientTransformation,
  d_opt: optax.GradientTransformation,
  *,
  z_dim: int = 128,
  latent: str = "normal",
  d_steps_per_g_step: int = 1,
  simultaneous: bool = False,
  ema_decay: float = 0.0,
  axis_name: str | None = None,
) -> System:
  """Returns the GAN of a generator and a discriminator.

  Args:
    generator: see `ganjax.nets`.
    discriminator: see `ganjax.nets`.
    loss: what each player minimises.
    g_opt: the generator's optimizer.
    d_opt: the discriminator's optimizer.
    z_dim: the size of z.
    latent: the distribution of z, a key of `latents.LATENTS`.
    d_steps_per_g_step: the k of Algorithm 1.
    simultaneous: update both players at once from the same images, noise and
      dropout masks, as the authors' code of 2014 did; else alternate, with
      fresh noise for each update, as their paper says.
    ema_decay: of the averaged generator; 0 for none.
    axis_name: the mapped axis, or None on one device.

  Raises:
    UserError: `simultaneous` with more than one discriminator step.
  """
  if simultaneous and d_steps_per_g_step != 1:
    raise errors.UserError(
      "config.system.simultaneous=True updates both players at once: "
      f"config.d_steps_per_g_step must be 1, not {d_steps_per_g_step}"
    )
  draw = functools.partial(latents.LATENTS.find(latent), z_dim=z_dim)
  parts = Parts(
    generator, discriminator, loss, g_opt, d_opt, draw, ema_decay, axis_name
  )
  return System(
    init=functools.partial(init, parts),
    train_step=make_train_step(parts, d_steps_per_g_step, simultaneous),
    sample=functools.partial(sample, parts),
    networks=dict(generator=generator, discriminator=discriminator),
    batches_per_step=d_steps_per_g_step,
  )


def init(parts: Parts, key: jax.Array, arrays: Any) -> GANState:
  """Initialises both players; `arrays.images [N, ...]` as networks see them."""
  g_key, d_key, z_key = jax.random.split(key, 3)
  z = jax.vmap(parts.draw_z)(jax.random.split(z_key, 2))
  images = arrays.images
  labels = None if arrays.labels is None else arrays.labels[:2]
  variables = parts.generator.init(g_key, z, labels)
  if hasattr(parts.generator, "init_from_data"):
    params = parts.generator.init_from_data(variables["params"], images)
    variables = {**variables, "params": params}
  generator = states.NetState.create(variables, parts.g_opt)
  rngs = {"params": d_key, "dropout": d_key}
  variables = parts.discriminator.init(rngs, images[:2], labels)
  discriminator = states.NetState.create(variables, parts.d_opt)
  ema = states.Averaged.create(generator) if parts.ema_decay else None
  return GANState(jnp.int32(0), generator, discriminator, ema)


def make_train_step(
  parts: Parts, d_steps_per_g_step: int, simultaneous: bool
) -> Callable[[GANState, Any, jax.Array], tuple[GANState, dict]]:
  """Returns Algorithm 1's iteration, or its simultaneous form."""

  def alternating_step(state, batch, key):
    # Unrolled: on CPU a convolution inside a loop runs fifty times slower.
    for k in range(d_steps_per_g_step):
      real = jax.tree.map(lambda x, k=k: x[k], batch)
      discriminator, d_metrics = d_step(
        parts, state, real, jax.random.fold_in(key, k)
      )
      state = state.replace(discriminator=discriminator)
    key = jax.random.fold_in(key, d_steps_per_g_step)
    generator, g_metrics = g_step(parts, state, real, key)
    return finish(state, generator), d_metrics | g_metrics

  def simultaneous_step(state, batch, key):
    real = jax.tree.map(lambda x: x[0], batch)
    discriminator, d_metrics = d_step(parts, state, real, key)
    generator, g_metrics = g_step(parts, state, real, key)
    state = state.replace(discriminator=discriminator)
    return finish(state, generator), d_metrics | g_metrics

  def finish(state, generator):
    ema = state.ema
    if ema is not None:
      ema = ema.update(generator, parts.ema_decay, state.step)
    return state.replace(step=state.step + 1, generator=generator, ema=ema)

  return simultaneous_step if simultaneous else alternating_step


class StepKeys(NamedTuple):
  """The randomness of one update; the same key gives the same update."""

  z: jax.Array
  generator: jax.Array
  real: jax.Array
  fake: jax.Array


def generate(parts, params, stats, real, keys: StepKeys):
  """Returns G's images for as many z as there are real images, new stats."""
  z_keys = parallel.example_keys(keys.z, len(real.images), parts.axis_name)
  z = jax.vmap(parts.draw_z)(z_keys)
  return states.forward(
    parts.generator, params, stats, z, real.labels, key=keys.generator
  )


def discriminate(parts, params, stats, real, fake, keys: StepKeys):
  """Returns D's logits of the global batch, real and fake, and new stats.

  Real images and fakes go through D one after another, each batch normalised
  by its own statistics.
  """
  forward = functools.partial(states.forward, parts.discriminator, params)
  real_logits, stats = forward(stats, real.images, real.labels, key=keys.real)
  fake_logits, stats = forward(stats, fake, real.labels, key=keys.fake)
  gather = functools.partial(parallel.gather, axis_name=parts.axis_name)
  return gather(real_logits), gather(fake_logits), stats


def d_step(
  parts: Parts, state: GANState, real: Any, key: jax.Array
) -> tuple[states.NetState, dict[str, jax.Array]]:
  """One update of the discriminator; `real.images [n, ...]`."""
  keys = StepKeys(*jax.random.split(key, 4))
  player = state.discriminator
  generator = state.generator
  fake, _ = generate(parts, generator.params, generator.stats, real, keys)

  def loss_fn(params):
    real_logits, fake_logits, stats = discriminate(
      parts, params, player.stats, real, fake, keys
    )
    loss = parts.loss.discriminator(real_logits, fake_logits)
    return loss, (stats, real_logits, fake_logits)

  (loss, aux), grads = jax.value_and_grad(loss_fn, has_aux=True)(player.params)
  stats, real_logits, fake_logits = aux
  grads = parallel.mean(grads, parts.axis_name)
  metrics = dict(
    d_loss=loss,
    d_real_accuracy=jnp.mean(real_logits > parts.loss.boundary),
    d_fake_accuracy=jnp.mean(fake_logits < parts.loss.boundary),
  )
  return player.update(parts.d_opt, grads, stats), metrics


def g_step(
  parts: Parts, state: GANState, real: Any, key: jax.Array
) -> tuple[states.NetState, dict[str, jax.Array]]:
  """One update of the generator; D, in training mode, stays as it is."""
  keys = StepKeys(*jax.random.split(key, 4))
  player = state.generator
  judge = state.discriminator

  def loss_fn(params):
    fake, stats = generate(parts, params, player.stats, real, keys)
    real_logits, fake_logits, _ = discriminate(
      parts, judge.params, judge.stats, real, fake, keys
    )
    return parts.loss.generator(real_logits, fake_logits), stats

  (loss, stats), grads = jax.value_and_grad(loss_fn, has_aux=True)(
    player.params
  )
  grads = parallel.mean(grads, parts.axis_name)
  return player.update(parts.g_opt, grads, stats), dict(g_loss=loss)


def sample(
  parts: Parts, state: GANState, key, n: int, labels=None, ema: bool = True
) -> jax.Array:
  """Draws images `[n, ...]` as networks see them.

  Args:
    parts: of the system.
    state: of the system.
    key: the samples are a function of it.
    n: how many.
    labels: int32 `[n]`, or None.
    ema: from the averaged generator where there is one.
  """
  net = state.generator if state.ema is None or not ema else state.ema
  z = jax.vmap(parts.draw_z)(parallel.example_keys(key, n, None))
  variables = {"params": net.params, **net.stats}
  images: Any = parts.generator.apply(variables, z, labels, train=False)
  return images
