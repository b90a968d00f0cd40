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

from ganjax import examples, health, losses, parallel
from ganjax import state as states
from ganjax.augment import Augmentation
from ganjax.penalties import Penalty, View


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

  `ema_decay` may be a function of the step, too.
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
    noise = examples.draw(jax.random.normal, keys(2), images)
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


def penalise(
  parts: Parts, player: str, skip, view: View, memory: dict
) -> tuple[jax.Array, dict, dict]:
  """Returns the sum of a player's penalties, the new memory, their values.

  Args:
    parts: of the system.
    player: "discriminator" or "generator".
    skip: names of the penalties that rest in this step.
    view: of this player's loss.
    memory: of the state.
  """
  total, metrics = jnp.float32(0), {}
  for i, (name, penalty) in enumerate(parts.penalties.items()):
    function = getattr(penalty, player)
    metric = metric_name(name, penalty, player)
    if function is None:
      continue
    if name in skip:  # Its last value stands in the log.
      metrics[metric] = memory[metric]
      continue
    own = jax.vmap(functools.partial(jax.random.fold_in, data=i))(view.keys)
    value, remembered = function(view._replace(keys=own), memory.get(name))
    total += penalty.every * value
    metrics[metric] = view.mean(value)
    new = {name: remembered, metric: metrics[metric]}
    memory = memory | {k: new[k] for k in new if k in memory}
  return total, memory, metrics


def metric_name(name: str, penalty: Penalty, player: str) -> str:
  """Returns `penalty_r1`, or `penalty_x_d` where both players have one."""
  both = penalty.discriminator is not None and penalty.generator is not None
  return f"penalty_{name}_{player[0]}" if both else f"penalty_{name}"


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


def d_step(
  parts: Parts, state: GANState, real: Any, key: jax.Array, skip=()
) -> tuple[states.NetState, dict, dict[str, jax.Array]]:
  """One update of the discriminator; `real.images [n, ...]`."""
  parts = parts.at(state.step)
  keys = StepKeys(*jax.random.split(key, 5))
  player = state.discriminator
  g = state.generator.params, state.generator.stats
  z = draw(parts, real, keys)
  fake, _ = generate(parts, g, z, real.labels, keys.generator)

  def loss_fn(params):
    real_logits, fake_logits, stats = judge_both(
      parts, state, params, real, fake, keys, iterate=True
    )
    loss = parts.loss.discriminator(real_logits, fake_logits)
    d = params, stats
    view = look(parts, state, real, fake, z, keys, params, d, g)
    extra, *rest = penalise(parts, "discriminator", skip, view, state.memory)
    return loss + extra, (loss, stats, real_logits, fake_logits, *rest)

  grads, aux = jax.grad(loss_fn, has_aux=True)(player.params)
  loss, stats, real_logits, fake_logits, memory, values = aux
  grads = parallel.mean(grads, parts.axis_name)
  metrics = dict(d_loss=loss, d_grad_norm=optax.tree.norm(grads))
  metrics |= health.of_logits(parts.loss, real_logits, fake_logits)
  metrics |= health.of_images(real.images, fake, parts.axis_name)
  metrics |= health.of_stats("d", stats) | values
  if "augment" in memory:
    memory = memory | {
      "augment": parts.augment.update(
        memory["augment"], 2 * metrics["d_real_accuracy"] - 1, len(real_logits)
      )
    }
    metrics["augment_p"] = parts.augment.probability(memory["augment"])
  return player.update(parts.d_opt, grads, stats), memory, metrics


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
    fake, stats = generate(
      parts, (params, player.stats), z, real.labels, keys.generator, True
    )
    real_logits, fake_logits, _ = judge_both(
      parts, state, d[0], real, fake, keys
    )
    loss = parts.loss.generator(real_logits, fake_logits)
    g = params, stats
    view = look(parts, state, real, fake, z, keys, params, d, g)
    extra, *rest = penalise(parts, "generator", skip, view, state.memory)
    return loss + extra, (loss, stats, real_logits, fake_logits, *rest)

  grads, aux = jax.grad(loss_fn, has_aux=True)(player.params)
  loss, stats, real_logits, fake_logits, memory, values = aux
  grads = parallel.mean(grads, parts.axis_name)
  metrics = dict(g_loss=loss, g_grad_norm=optax.tree.norm(grads))
  metrics |= health.of_generator(parts.loss, real_logits, fake_logits)
  metrics |= health.of_stats("g", stats) | values
  return player.update(parts.g_opt, grads, stats), memory, metrics
