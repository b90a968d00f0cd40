"""What a training step measures of itself, beside its losses.

These functions are part of the jitted step and return scalars that stay on the
device until the next log row is written. `ganjax.runs.monitor` reads the rows
on the host and names what goes wrong.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from ganjax import parallel
from ganjax.objectives.losses import Loss
from ganjax.state import SPECTRAL


def of_logits(
  loss: Loss, real_logits: jax.Array, fake_logits: jax.Array
) -> dict[str, jax.Array]:
  """Measures how well D tells real from fake images.

  Args:
    loss: says which D(x) a logit stands for.
    real_logits: D's logits of the global batch's real images, `[N]`.
    fake_logits: D's logits of the global batch's fakes, `[N]`.

  Returns:
    Scalars by name. `d_real` and `d_fake` are the means of D(x) and D(G(z)),
    `d_real_accuracy` and `d_fake_accuracy` the shares of reals with D(x) above
    one half and of fakes with D(G(z)) below it. `logit_gap` is the mean real
    logit minus the mean fake one. `d_saturation` is the share of D's gradient
    that is lost, see `saturation`, as a mean over reals and fakes.
  """
  real = real_logits.astype(jnp.float32)
  fake = fake_logits.astype(jnp.float32)
  gap = real.mean() - fake.mean()
  # Wasserstein and relativistic losses do not change if all logits move
  # together. Their D(x) = 1/2 is taken half-way between the two means.
  middle = fake.mean() + gap / 2 if loss.shift_invariant else 0.0
  d_real = loss.probability(real - middle)
  d_fake = loss.probability(fake - middle)
  weight = loss.weights[0]
  real_saturation, fake_saturation = (
    saturation(loss.discriminator, real, fake, argnum=argnum, weight=weight)
    for argnum in (0, 1)
  )
  return dict(
    d_real_accuracy=jnp.mean(d_real > 0.5),
    d_fake_accuracy=jnp.mean(d_fake < 0.5),
    d_real=d_real.mean(),
    d_fake=d_fake.mean(),
    logit_gap=gap,
    d_saturation=(real_saturation + fake_saturation) / 2,
  )


def of_generator(
  loss: Loss, real_logits: jax.Array, fake_logits: jax.Array
) -> dict[str, jax.Array]:
  """Measures `g_saturation`, the share of G's gradient that is lost.

  Args:
    loss: G's loss is part of it.
    real_logits: D's logits of the global batch's real images, `[N]`.
    fake_logits: D's logits of the global batch's fakes, `[N]`.
  """
  real = real_logits.astype(jnp.float32)
  fake = fake_logits.astype(jnp.float32)
  # G's gradient arrives through the logits of the fakes.
  lost = saturation(
    loss.generator, real, fake, argnum=1, weight=loss.weights[1]
  )
  return dict(g_saturation=lost)


def saturation(
  loss: Callable[[jax.Array, jax.Array], jax.Array],
  real: jax.Array,
  fake: jax.Array,
  *,
  argnum: int,
  weight: float,
) -> jax.Array:
  """Returns the share of a loss's gradient that saturation takes away.

  A loss that is linear in the logits has a derivative of size weight / N at
  each of them. The result says by which share the derivatives of this loss
  fall short of that, as a mean over the batch. It is 0 for a Wasserstein
  critic, 1 - D(G(z)) for the minimax generator, and 1 where no logit has a
  gradient left.

  Args:
    loss: `(real_logits [N], fake_logits [N]) -> scalar`.
    real: logits `[N]`.
    fake: logits `[N]`.
    argnum: 0 for the derivatives at the real logits, 1 for those at the fakes.
    weight: the factor that `loss` contains already.

  Returns:
    A scalar in [0, 1].
  """
  slopes = jnp.abs(jax.grad(loss, argnum)(real, fake)) * len(real) / weight
  # relu: a steeper derivative does not make up for another that is lost.
  return jax.nn.relu(1.0 - slopes).mean()


def of_images(real: jax.Array, fake: jax.Array) -> dict[str, jax.Array]:
  """Measures `spread`: how different the fakes are, relative to the reals.

  Args:
    real: this device's real images or points `[n, ...]`.
    fake: this device's fakes `[n, ...]`.

  Returns:
    The ratio of the two root mean square distances from the global batch's
    mean image: 0 if all fakes are the same, 1 at the optimum.
  """

  def mean_square_distance(images):
    images = images.astype(jnp.float32)
    centre = parallel.mean(images.mean(0, keepdims=True))
    return parallel.mean(jnp.square(images - centre).mean())

  fakes_spread = mean_square_distance(fake)
  # The bound keeps the ratio finite where all reals are the same image.
  reals_spread = jnp.maximum(mean_square_distance(real), 1e-12)
  return dict(spread=jnp.sqrt(fakes_spread / reals_spread))


def of_stats(player: str, stats: Mapping[str, Any]) -> dict[str, jax.Array]:
  """Measures the largest spectral norm of a player's kernels.

  Args:
    player: "d" or "g".
    stats: the collections of the player's network beside its parameters.

  Returns:
    `d_sigma_max` or `g_sigma_max`; nothing if no layer has spectral norm.
  """
  leaves = jax.tree.leaves(stats.get(SPECTRAL, {}))
  # The collection holds singular vectors, too; the norms are its scalars.
  sigmas = [x for x in leaves if x.ndim == 0]
  if not sigmas:
    return {}
  return {f"{player}_sigma_max": jnp.stack(sigmas).max()}
