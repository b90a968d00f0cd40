"""Generative adversarial nets (Goodfellow et al. 2014, Algorithm 1)."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from ganjax import errors
from ganjax import state as states
from ganjax.objectives import latents, losses
from ganjax.objectives.augment import AUGMENTATIONS, Augmentation
from ganjax.objectives.penalties import Penalty
from ganjax.systems import STATISTICS, System, refinements, sampling
from ganjax.systems.adversarial import GANState, Parts, d_step, g_step


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
  d_steps_per_g_step: int = 1,
  simultaneous: bool = False,
  generator_real: str = "fresh",
  label_smoothing: float = 0.0,
  instance_noise: float = 0.0,
  instance_noise_steps: int = 0,
  ema_decay: float | Callable[[Any], Any] = 0.0,
  statistics: str = "running",
  top_k: float = 1.0,
  top_k_steps: int = 0,
  latent_step: float = 0.0,
  latent_damping: float = 5.0,
  latent_weight: float = 300.0,
  auxiliary_weight: float = 0.0,
  precision: str = "float32",
  axis_name: str | None = None,
) -> System:
  """Returns the GAN of a generator and a discriminator.

  Args:
    generator: see `ganjax.nets`.
    discriminator: see `ganjax.nets`.
    loss: what each player minimises.
    g_opt: the generator's optimizer.
    d_opt: the discriminator's optimizer.
    penalties: name -> what is added to the losses.
    augment: what D sees instead of images, real and fake alike.
    z_dim: the size of z.
    latent: the distribution of z, a key of `latents.LATENTS`.
    d_steps_per_g_step: the k of Algorithm 1.
    simultaneous: update both players at once from the same images, noise and
      dropout masks, as the authors' code of 2014 did; else alternate, with
      fresh noise for each update, as their paper says.
    generator_real: where G's loss uses real images (relativistic losses):
      "fresh" for a batch of their own, as the papers' codes do, "same" for
      D's last one. A simultaneous update has but one batch.
    label_smoothing: one-sided, see `losses.smooth`.
    instance_noise: the standard deviation of Gaussian noise on all that D
      sees (Arjovsky & Bottou 2017; Sonderby et al. 2017).
    instance_noise_steps: over which it falls to 0 in a line; 0 for never.
    ema_decay: of the averaged generator, or step -> decay; 0 for none.
    statistics: by which samples are normalised. "running": training's average.
      "batch": their own, in chunks of 64, in training mode, dropout included,
      as the relativistic GAN's code draws (in batches of 100). "standing": the
      mean of those of 16 chunks, all classes in turn, drawn with the samples'
      weights and truncation (Brock et al. 2019, appendix C.1: of about 100).
    top_k: the share of the fakes that count for G in the end, those that D
      finds most real (Sinha et al. 2020; theirs is 0.5); 1 for all.
    top_k_steps: over which that share falls from 1, see
      `refinements.share_schedule`; 0 to begin with it.
    latent_step: how far z goes towards what D takes for real before either
      player's update, see `refinements.LatentStep` (LOGAN, Wu et al. 2019;
      theirs is 0.9); 0 for not at all. Samples are drawn without it.
    latent_damping: of that step.
    latent_weight: of its squared length in both losses.
    auxiliary_weight: of the classes' loss of an AC-GAN, whose discriminator
      has `head="auxiliary"` (Odena et al. 2017; theirs is 1).
    precision: of the networks' arithmetic in training, "float32" or
      "bfloat16". Parameters, their averages, statistics, losses and what is
      made of gradients are float32 in both, and so are samples.
    axis_name: the mapped axis, or None on one device.

  Raises:
    UserError: settings that exclude each other.
  """
  applied = {k: p for k, p in (penalties or {}).items() if p.every}
  parts = Parts(
    generator,
    discriminator,
    losses.smooth(loss, label_smoothing),
    g_opt,
    d_opt,
    applied,
    augment or AUGMENTATIONS["none"](),
    functools.partial(latents.LATENTS.find(latent), z_dim=z_dim),
    ema_decay,
    noise_std(instance_noise, instance_noise_steps),
    axis_name,
    jnp.dtype(precision),
    refinements.share_schedule(top_k, top_k_steps),
    refinements.latent_step(latent_step, latent_damping, latent_weight, latent),
    refinements.auxiliary_classifier(auxiliary_weight),
  )
  order = d_steps_per_g_step, simultaneous
  return assemble(parts, *order, generator_real, statistics)


def assemble(
  parts: Parts,
  d_steps_per_g_step: int = 1,
  simultaneous: bool = False,
  generator_real: str = "fresh",
  statistics: str = "running",
) -> System:
  """Returns the system of its parts; the others are arguments of `make`.

  Raises:
    UserError: settings that exclude each other.
  """
  if simultaneous and d_steps_per_g_step != 1:
    raise errors.UserError(
      "config.system.simultaneous=True updates both players at once: "
      f"config.d_steps_per_g_step must be 1, not {d_steps_per_g_step}"
    )
  if generator_real not in ("fresh", "same"):
    raise errors.unknown("generator_real", generator_real, ("fresh", "same"))
  if statistics not in STATISTICS:
    raise errors.unknown("statistics", statistics, STATISTICS)
  generator = parts.generator
  # Samples are drawn on one device.
  alone = parts._replace(axis_name=None, dtype=jnp.float32)
  if parts.axis_name:
    one: Any = generator.clone(axis_name=None)  # pyright: ignore
    alone = alone._replace(generator=one)
  num_classes = getattr(generator, "num_classes", 0)
  fresh = generator_real == "fresh" and parts.loss.generator_uses_real
  lazy = {k: p.every for k, p in parts.penalties.items() if p.every > 1}
  return System(
    init=functools.partial(init, parts),
    train_step=make_train_step(parts, d_steps_per_g_step, simultaneous),
    sample=functools.partial(sampling.sample, alone),
    settle=functools.partial(sampling.settle, alone),
    latents=functools.partial(sampling.latents, alone),
    decode=functools.partial(sampling.decode, alone),
    score=functools.partial(sampling.score, alone),
    networks=dict(generator=generator, discriminator=parts.discriminator),
    updates=() if simultaneous else make_updates(parts, d_steps_per_g_step),
    batches_per_step=d_steps_per_g_step + (fresh and not simultaneous),
    lazy=lazy,
    statistics=statistics,
    num_classes=num_classes,
    conditional=bool(num_classes) and getattr(generator, "conditional", False),
  )


def noise_std(start: float, steps: int):
  """Returns step -> standard deviation, or None where there is no noise."""
  if not start:
    return None
  if not steps:
    return lambda step: start
  return optax.linear_schedule(start, 0.0, steps)


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
  memory: dict[str, Any] = {}
  if parts.augment.memory:
    memory["augment"] = parts.augment.memory
  for name, penalty in parts.penalties.items():
    if penalty.memory:
      memory[name] = penalty.memory
    for player in ("discriminator", "generator") * (penalty.every > 1):
      if getattr(penalty, player) is not None:
        memory[refinements.metric_name(name, penalty, player)] = 0.0
  memory = jax.tree.map(jnp.float32, memory)
  return GANState(jnp.int32(0), generator, discriminator, ema, memory)


def make_updates(parts: Parts, d_steps_per_g_step: int):
  """Returns the updates of Algorithm 1's iteration: see `System.updates`."""

  def d_update(state, real, key, skip=()):
    discriminator, memory, metrics = d_step(parts, state, real, key, skip)
    return state.replace(discriminator=discriminator, memory=memory), metrics

  def g_update(state, real, key, skip=()):
    generator, memory, metrics = g_step(parts, state, real, key, skip)
    return _finish(parts, state.replace(memory=memory), generator), metrics

  d_updates = [(d_update, k) for k in range(d_steps_per_g_step)]
  return (*d_updates, (g_update, -1))


def make_train_step(
  parts: Parts, d_steps_per_g_step: int, simultaneous: bool
) -> Callable[..., tuple[GANState, dict]]:
  """Returns Algorithm 1's iteration, or its simultaneous form.

  It is `(state, batch, key, skip=()) -> (state, metrics)`; `skip` names the
  lazy penalties that rest in this step.
  """
  updates = make_updates(parts, d_steps_per_g_step)

  def alternating_step(state, batch, key, skip=()):
    # Unrolled: on CPU a convolution inside a loop runs fifty times slower.
    metrics = {}
    for i, (update, place) in enumerate(updates):
      real = jax.tree.map(lambda x, place=place: x[place], batch)
      state, new = update(state, real, jax.random.fold_in(key, i), skip)
      metrics |= new
    return state, metrics

  def simultaneous_step(state, batch, key, skip=()):
    real = jax.tree.map(lambda x: x[0], batch)
    discriminator, memory, d_metrics = d_step(parts, state, real, key, skip)
    # Of the memory G changes only what is its own, so it may see D's.
    before = state.replace(memory=memory)
    generator, memory, g_metrics = g_step(parts, before, real, key, skip)
    state = state.replace(discriminator=discriminator, memory=memory)
    return _finish(parts, state, generator), d_metrics | g_metrics

  return simultaneous_step if simultaneous else alternating_step


def _finish(parts: Parts, state: Any, generator: states.NetState) -> GANState:
  ema = state.ema
  if ema is not None:
    ema = ema.update(generator, parts.ema_decay, state.step)
  return state.replace(step=state.step + 1, generator=generator, ema=ema)
