"""Latents with a meaning: InfoGAN (Chen et al. 2016, arXiv 1606.03657).

z is noise, a category as a one-hot vector, and continuous codes c ~ U(-1, 1). A
network Q on D's features guesses category and codes of a fake. Its expected
log-likelihood is a lower bound of their mutual information with the image, but
for a constant (equation 4). Both players' losses lose `weight` times it: G
makes images that tell of the codes, D's features, too, become such as tell.

As in the authors' code for MNIST, Q's parameters are among D's and are updated
by D's optimizer; Q's Gaussian of a code has a standard deviation of 1; Q is not
updated with G. Unlike there, Q's hidden layer has no batch norm.
"""

import functools
import math
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
from ganjax.systems import System, features, gan
from ganjax.systems.adversarial import GANState, Parts
from ganjax.systems.refinements import Extras

# Where Q's parameters stand among D's, which D itself does not read.
RECOGNITION = "recognition"
# Of a traversal: beyond the codes' own range, as the paper's figure 2.
LIMIT, NUM_VALUES = 2.0, 10


class Recognition(nn.Module):
  """Q without D's layers: features -> 128 leaky units -> what it guesses."""

  outputs: int

  @nn.compact
  def __call__(self, seen: jax.Array) -> jax.Array:
    """Maps features `[n, d]` to `[n, outputs]`."""
    hidden = jax.nn.leaky_relu(nn.Dense(128)(seen), 0.1)
    return nn.Dense(self.outputs)(hidden)


def make(
  generator: nn.Module,
  discriminator: nn.Module,
  loss: losses.Loss,
  g_opt: optax.GradientTransformation,
  d_opt: optax.GradientTransformation,
  penalties: Mapping[str, Penalty] | None = None,
  augment: Augmentation | None = None,
  *,
  z_dim: int = 74,
  latent: str = "normal",
  num_categories: int = 10,
  num_codes: int = 2,
  weight: float = 1.0,
  d_steps_per_g_step: int = 1,
  generator_real: str = "fresh",
  label_smoothing: float = 0.0,
  instance_noise: float = 0.0,
  instance_noise_steps: int = 0,
  ema_decay: float | Callable[[Any], Any] = 0.0,
  statistics: str = "running",
  precision: str = "float32",
  axis_name: str | None = None,
) -> System:
  """Returns the GAN whose latents are recognised.

  What is not said here is as in `gan.make`.

  Args:
    generator: see `ganjax.nets`.
    discriminator: see `ganjax.nets`; its last layer is a dense one.
    loss: what each player minimises, beside Q's part.
    g_opt: the generator's optimizer.
    d_opt: the discriminator's optimizer, and Q's.
    penalties: name -> what is added to the losses.
    augment: what D sees instead of images, real and fake alike.
    z_dim: the size of z, categories and codes included; the paper's is 74.
    latent: the distribution of the noise, the rest of z.
    num_categories: of the category.
    num_codes: of the continuous codes.
    weight: the paper's lambda, of Q's loss.
    d_steps_per_g_step: updates of D and Q for each of G.
    generator_real: where a relativistic G's reals come from.
    label_smoothing: one-sided.
    instance_noise: on all that D sees.
    instance_noise_steps: over which it falls to 0.
    ema_decay: of the averaged generator.
    statistics: by which samples are normalised.
    precision: of the networks' arithmetic in training.
    axis_name: the mapped axis, or None on one device.

  Raises:
    UserError: sizes that do not fit, or settings that exclude each other.
  """
  sizes = z_dim - num_categories - num_codes, num_categories, num_codes
  if sizes[0] < 1 or num_categories < 2 or num_codes < 0:
    raise errors.UserError(
      "system 'infogan' needs config.system.num_categories of 2 or more, "
      "num_codes of 0 or more, and a z_dim above their sum, not "
      f"{num_categories}, {num_codes} and {z_dim}"
    )
  draw_noise = functools.partial(latents.LATENTS.find(latent), z_dim=sizes[0])
  parts = Parts(
    generator,
    discriminator,
    losses.smooth(loss, label_smoothing),
    g_opt,
    d_opt,
    {k: p for k, p in (penalties or {}).items() if p.every},
    augment or AUGMENTATIONS["none"](),
    functools.partial(draw_z, draw_noise, sizes),
    ema_decay,
    gan.noise_std(instance_noise, instance_noise_steps),
    axis_name,
    jnp.dtype(precision),
    recogniser=functools.partial(recognise, sizes, weight),
  )
  system = gan.assemble(
    parts, d_steps_per_g_step, False, generator_real, statistics
  )
  return system._replace(
    init=functools.partial(init, parts, sizes),
    traverse=functools.partial(traverse, sizes),
  )


def draw_z(
  draw_noise: Callable[..., jax.Array],
  sizes: tuple[int, int, int],
  key: jax.Array,
  truncation=None,
) -> jax.Array:
  """Draws one z `[z_dim]`: noise, a category, codes.

  Args:
    draw_noise: `(key, truncation=...) -> [sizes[0]]`.
    sizes: of the three parts.
    key: the latent is a function of it.
    truncation: of the noise alone.
  """
  noise_key, category_key, code_key = jax.random.split(key, 3)
  category = jax.random.randint(category_key, (), 0, sizes[1])
  parts = (
    draw_noise(noise_key, truncation=truncation),
    jax.nn.one_hot(category, sizes[1]),
    jax.random.uniform(code_key, (sizes[2],), minval=-1.0, maxval=1.0),
  )
  return jnp.concatenate(parts)


def init(
  parts: Parts, sizes: tuple[int, int, int], key: jax.Array, arrays: Any
) -> GANState:
  """Initialises a GAN with the same key, and Q among D's parameters."""
  state = gan.init(parts, key, arrays)
  some = jax.tree.map(lambda x: x[:2], (arrays.images, arrays.labels))
  keys = dict.fromkeys(("params", "dropout"), key)
  _, seen = features.watch(parts.discriminator.init, keys, *some)
  # `gan.init` splits the key in three, and no fourth is among those.
  new = Recognition(sum(sizes[1:])).init(jax.random.fold_in(key, 3), seen)
  d = state.discriminator
  params = {**d.params, RECOGNITION: new["params"]}
  variables = {"params": params, **d.stats}
  judge = states.NetState.create(variables, parts.d_opt)
  return state.replace(discriminator=judge)  # pyright: ignore


def recognise(
  sizes: tuple[int, int, int],
  weight: float,
  judge: Callable[[], Any],
  params: Any,
  z: jax.Array,
  labels: Any,
) -> tuple[Any, Extras]:
  """Returns what `judge` returns, and what Q guesses of this device's fakes.

  Args:
    sizes: of noise, category and codes.
    weight: of the losses.
    judge: applies D, to fakes in the end.
    params: of D and Q.
    z: of the fakes, `[n, z_dim]`.
    labels: of no use here.

  Returns:
    `category_loss`, the mean of -log Q(category | x) in nats: log K less the
    bound on their mutual information. `code_loss`, the mean of -log Q(codes |
    x), in nats. `category_accuracy`, and `code_error`, the mean square of a
    code less its guess: 1/3 if Q knows nothing.

  Raises:
    UserError: D judges several images at once.
  """
  del labels
  output, seen = features.watch(judge)
  if len(seen) != len(z):
    raise errors.UserError(
      "system 'infogan' needs a D of single images: set "
      "config.discriminator.pack=1"
    )
  q = Recognition(sum(sizes[1:]))
  guess = q.apply({"params": params[RECOGNITION]}, seen)
  logits, means = jnp.split(guess, [sizes[1]], axis=1)  # pyright: ignore
  _, category, codes = jnp.split(z, [sizes[0], sizes[0] + sizes[1]], axis=1)
  right = logits.argmax(1) == category.argmax(1)
  extras: Extras = {
    "category_loss": (category_loss(logits, category), weight),
    "category_accuracy": (right.mean(), 0.0),
  }
  if sizes[2]:
    extras["code_loss"] = code_loss(means, codes), weight
    extras["code_error"] = jnp.square(codes - means).mean(), 0.0
  return output, extras


def category_loss(logits: jax.Array, category: jax.Array) -> jax.Array:
  """Returns the mean cross-entropy of `[n, K]` and one-hot `[n, K]`."""
  return -jnp.mean(jnp.sum(category * jax.nn.log_softmax(logits), axis=1))


def code_loss(means: jax.Array, codes: jax.Array) -> jax.Array:
  """Returns the mean of -log N(codes; means, I), of `[n, d]` and `[n, d]`."""
  constant = 0.5 * math.log(2 * math.pi)
  return jnp.mean(jnp.sum(0.5 * jnp.square(codes - means) + constant, axis=1))


def traverse(sizes: tuple[int, int, int], z: jax.Array) -> dict[str, jax.Array]:
  """Returns a z `[z_dim]` with its category or one of its codes changed.

  Returns:
    "category" -> `[K, z_dim]`, "code 1" -> `[10, z_dim]` from -2 to 2, ...
  """
  num_noise, num_categories, num_codes = sizes
  first = num_noise + num_categories
  of = jnp.tile(z[None], (num_categories, 1))
  rows = {"category": of.at[:, num_noise:first].set(jnp.eye(num_categories))}
  values = jnp.linspace(-LIMIT, LIMIT, NUM_VALUES)
  for i in range(num_codes):
    of = jnp.tile(z[None], (NUM_VALUES, 1))
    rows[f"code {i + 1}"] = of.at[:, first + i].set(values)
  return rows
