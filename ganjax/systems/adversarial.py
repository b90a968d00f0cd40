"""One update of each player of an adversarial game.

What systems of that kind share. Both steps take the same arguments and return
`(new NetState, new memory, metrics)`; each moves its own player alone.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from ganjax import parallel
from ganjax import state as states
from ganjax.objectives import losses, measurements, per_example
from ganjax.objectives.augment import Augmentation
from ganjax.objectives.penalties import Penalty, View
from ganjax.systems import refinements
from ganjax.systems.refinements import penalise, recognise


@flax.struct.dataclass
class GANState:
  """Everything that training changes.

  Attributes:
    step: int32, generator updates so far.
    generator: the live generator.
    discriminator: the discriminator.
    ema: the averaged generator, or None.
    memory: name -> pytree of scalars: what penalties and the augmentation's
      controller remember, and the last values of lazy penalties.
  """

  step: jax.Array
  generator: states.NetState
  discriminator: states.NetState
  ema: states.Averaged | None
  memory: dict[str, Any]


class Parts(NamedTuple):
  """What the steps are made of; `noise_std` is step -> number, or None.

  `ema_decay` may be a function of the step, too. Of the last three see
  `refinements`: what is None is not done.
  """

  generator: nn.Module
  discriminator: nn.Module
  loss: losses.Loss
  g_opt: optax.GradientTransformation
  d_opt: optax.GradientTransformation
  penalties: Mapping[str, Penalty]
  augment: Augmentation
  draw_z: Callable[..., jax.Array]
  ema_decay: float | Callable[[Any], Any]
  noise_std: Callable[[Any], Any] | None
  axis_name: str | None
  dtype: Any = jnp.float32
  top_k: Callable[[Any], Any] | None = None
  latent_step: refinements.LatentStep | None = None
  recogniser: Callable[..., tuple[Any, refinements.Extras]] | None = None

  def at(self, step) -> "Parts":
    """Returns the parts whose numbers of schedules are those of a step."""
    now = lambda part: part.at(step) if part.at else part
    penalties = {name: now(p) for name, p in self.penalties.items()}
    return self._replace(penalties=penalties, augment=now(self.augment))


class StepKeys(NamedTuple):
  """The randomness of one update; the same key gives the same update."""

  z: jax.Array
  generator: jax.Array
  real: jax.Array
  fake: jax.Array
  penalties: jax.Array


def draw(parts: Parts, real: Any, keys: StepKeys) -> jax.Array:
  """Returns as many `z [n, z_dim]` as there are real images."""
  z_keys = parallel.example_keys(keys.z, len(real.images), parts.axis_name)
  return jax.vmap(parts.draw_z)(z_keys)


def judge(
  parts: Parts, state: GANState, net, images, labels, key, iterate=False
) -> tuple[jax.Array, Any]:
  """Returns D's logits `[n]` of images as D sees them, and D's new stats.

  Args:
    parts: of the system.
    state: for the augmentation's strength and the noise's.
    net: D's `(params, stats)`.
    images: `[n, ...]`, before augmentation.
    labels: `[n]` or None.
    key: of dropout, augmentation and noise.
    iterate: whether spectral norms refine their singular vectors.
  """

  def keys(i):
    folded = jax.random.fold_in(key, i)
    return parallel.example_keys(folded, len(images), parts.axis_name)

  p = parts.augment.probability(state.memory.get("augment", {}))
  images = parts.augment.apply(images, keys(1), p)
  if parts.noise_std is not None:
    noise = per_example.draw(jax.random.normal, keys(2), images)
    images += parts.noise_std(state.step) * noise
  return states.forward(
    parts.discriminator,
    *net,
    images,
    labels,
    key=key,
    iterate=iterate,
    dtype=parts.dtype,
  )


def judge_both(
  parts: Parts, state: GANState, params, real, fake, keys, iterate=False
) -> tuple[jax.Array, jax.Array, Any]:
  """Returns D's logits `[N]` of the global batch, real and fake, new stats.

  Real images and fakes go through D one after another, each batch normalised
  by its own statistics. If spectral norms iterate, then in the first pass.
  """
  see = functools.partial(judge, parts, state, labels=real.labels)
  net = params, state.discriminator.stats
  real_logits, stats = see(
    net, images=real.images, key=keys.real, iterate=iterate
  )
  fake_logits, stats = see((params, stats), images=fake, key=keys.fake)
  gather = functools.partial(parallel.gather, axis_name=parts.axis_name)
  return gather(real_logits), gather(fake_logits), stats


def look(
  parts: Parts, state: GANState, real, fake, z, keys: StepKeys, params, d, g
) -> View:
  """Returns what a player's penalties may look at.

  Args:
    parts: of the system.
    state: of the system.
    real: the batch.
    fake: images `[n, ...]`.
    z: of `fake`.
    keys: of the update.
    params: of the player that is penalised.
    d: D's `(params, stats)`.
    g: G's `(params, stats)`.
  """

  def d_fn(images):
    return judge(parts, state, d, images, real.labels, keys.real)[0]

  def g_fn(z):
    return generate(parts, g, z, real.labels, keys.generator)[0]

  example_keys = parallel.example_keys(keys.penalties, len(z), parts.axis_name)
  mean = functools.partial(parallel.mean, axis_name=parts.axis_name)
  draw_z = jax.vmap(parts.draw_z)
  return View(
    d_fn, g_fn, draw_z, params, real.images, fake, z, example_keys, mean
  )


def generate(parts: Parts, net, z, labels, key, iterate=False):
  """Returns G's images `[n, ...]` and its new stats; `net` as in `judge`."""
  return states.forward(
    parts.generator,
    *net,
    z,
    labels,
    key=key,
    iterate=iterate,
    dtype=parts.dtype,
  )


def move(parts: Parts, state: GANState, real, z, keys: StepKeys, d, g):
  """Returns z `[n, z_dim]` as both players use it, and what that costs."""
  if parts.latent_step is None:
    return z, {}

  def score(z):
    images, _ = generate(parts, g, z, real.labels, keys.generator)
    return judge(parts, state, d, images, real.labels, keys.fake)[0]

  return parts.latent_step(score, z)


def control(parts: Parts, memory: dict, metrics: dict, n: int):
  """Returns the memory after D judged n reals, and the augmentation's p."""
  if "augment" not in memory:
    return memory, {}
  sign = 2 * metrics["d_real_accuracy"] - 1
  now = parts.augment.update(memory["augment"], sign, n)
  p = parts.augment.probability(now)
  return memory | {"augment": now}, {"augment_p": p}


def d_step(
  parts: Parts, state: GANState, real: Any, key: jax.Array, skip=()
) -> tuple[states.NetState, dict, dict[str, jax.Array]]:
  """One update of the discriminator; `real.images [n, ...]`."""
  parts = parts.at(state.step)
  keys = StepKeys(*jax.random.split(key, 5))
  player = state.discriminator
  g = state.generator.params, state.generator.stats
  z, how = draw(parts, real, keys), (real.labels, keys.generator)
  fake, _ = generate(parts, g, z, *how)

  def loss_fn(params):
    d = params, player.stats
    moved, extras = move(parts, state, real, z, keys, d, g)
    seen = fake if moved is z else generate(parts, g, moved, *how)[0]
    see = recognise(parts.recogniser, params, moved, real.labels, judge_both)
    (real_logits, fake_logits, stats), more = see(
      parts, state, params, real, seen, keys, iterate=True
    )
    loss = parts.loss.discriminator(real_logits, fake_logits)
    d = params, stats
    view = look(parts, state, real, seen, moved, keys, params, d, g)
    extra, *rest = penalise(
      parts.penalties, "discriminator", skip, view, state.memory, extras | more
    )
    return loss + extra, (loss, stats, real_logits, fake_logits, *rest)

  grads, aux = jax.grad(loss_fn, has_aux=True)(player.params)
  loss, stats, real_logits, fake_logits, memory, values = aux
  grads = parallel.mean(grads, parts.axis_name)
  metrics = dict(d_loss=loss, d_grad_norm=optax.tree.norm(grads))
  metrics |= measurements.of_logits(parts.loss, real_logits, fake_logits)
  metrics |= measurements.of_images(real.images, fake)
  metrics |= measurements.of_stats("d", stats) | values
  memory, more = control(parts, memory, metrics, len(real_logits))
  return player.update(parts.d_opt, grads, stats), memory, metrics | more


def g_step(
  parts: Parts, state: GANState, real: Any, key: jax.Array, skip=()
) -> tuple[states.NetState, dict, dict[str, jax.Array]]:
  """One update of the generator; D, in training mode, stays as it is."""
  parts = parts.at(state.step)
  keys = StepKeys(*jax.random.split(key, 5))
  player = state.generator
  d = state.discriminator.params, state.discriminator.stats
  z = draw(parts, real, keys)

  def loss_fn(params):
    g = params, player.stats
    moved, extras = move(parts, state, real, z, keys, d, g)
    fake, stats = generate(parts, g, moved, real.labels, keys.generator, True)
    see = recognise(parts.recogniser, d[0], moved, real.labels, judge_both)
    (real_logits, fake_logits, _), more = see(
      parts, state, d[0], real, fake, keys
    )
    fake_logits = refinements.best(parts.top_k, fake_logits, state.step)
    loss = parts.loss.generator(real_logits, fake_logits)
    g = params, stats
    view = look(parts, state, real, fake, moved, keys, params, d, g)
    extra, *rest = penalise(
      parts.penalties, "generator", skip, view, state.memory, extras | more
    )
    return loss + extra, (loss, stats, real_logits, fake_logits, *rest)

  grads, aux = jax.grad(loss_fn, has_aux=True)(player.params)
  loss, stats, real_logits, fake_logits, memory, values = aux
  grads = parallel.mean(grads, parts.axis_name)
  metrics = dict(g_loss=loss, g_grad_norm=optax.tree.norm(grads))
  metrics |= measurements.of_generator(parts.loss, real_logits, fake_logits)
  metrics |= measurements.of_stats("g", stats) | values
  return player.update(parts.g_opt, grads, stats), memory, metrics
