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

import dataclasses
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ganjax import errors
from ganjax.nets.judged import Judged
from ganjax.objectives import latents
from ganjax.state import NetState, State
from ganjax.systems import SYSTEMS
from ganjax.systems.adversarial import Extras, features_of
from ganjax.systems.gan import GAN
from ganjax.systems.system import dropout_rngs, first_two

# Where Q's parameters stand among D's, which D itself does not read.
RECOGNITION = "recognition"
# A traversal goes beyond the codes' own range, as the paper's figure 2 does.
LIMIT = 2.0
NUM_VALUES = 10


class Recognition(nn.Module):
  """Q without D's layers: features -> 128 leaky units -> what it guesses."""

  outputs: int

  @nn.compact
  def __call__(self, seen: jax.Array) -> jax.Array:
    """Maps features `[n, d]` to `[n, outputs]`."""
    hidden = jax.nn.leaky_relu(nn.Dense(128)(seen), 0.1)
    return nn.Dense(self.outputs)(hidden)


@SYSTEMS.register(name="infogan")
@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class InfoGAN(GAN):
  """A GAN whose latents are recognised; what is not said here is as in `GAN`.

  Attributes:
    z_dim: the size of z, categories and codes included; the paper's is 74.
    latent: the distribution of the noise, the rest of z.
    num_categories: of the category.
    num_codes: of the continuous codes.
    weight: the paper's lambda, of Q's loss.

  Raises:
    UserError: sizes that do not fit, or settings that exclude each other.
  """

  z_dim: int = 74
  num_categories: int = 10
  num_codes: int = 2
  weight: float = 1.0

  def __post_init__(self):
    """Checks the sizes, and what every GAN checks."""
    super().__post_init__()
    fits = self.num_noise >= 1 and self.num_categories >= 2
    if not fits or self.num_codes < 0:
      raise errors.UserError(
        "system 'infogan' needs config.system.num_categories of 2 or more, "
        "num_codes of 0 or more, and a z_dim above their sum, not "
        f"{self.num_categories}, {self.num_codes} and {self.z_dim}"
      )

  @property
  def num_noise(self) -> int:
    """Components of z that mean nothing."""
    return self.z_dim - self.num_categories - self.num_codes

  @property
  def recognition(self) -> Recognition:
    """The layers of Q above D's features."""
    return Recognition(self.num_categories + self.num_codes)

  def init(self, key: jax.Array, arrays: Any) -> State:
    """Initialises a GAN with the same key, and Q among D's parameters."""
    state = super().init(key, arrays)
    images, labels = first_two(arrays)
    module: Any = self.networks["discriminator"]
    judged, _ = module.init_with_output(dropout_rngs(key), images, labels)
    seen = features_of(Judged.of(judged))
    # `GAN.init` splits the key in three, and no fourth is among those.
    new = self.recognition.init(jax.random.fold_in(key, 3), seen)
    d = state.discriminator
    params = {**d.params, RECOGNITION: new["params"]}
    variables = {"params": params, **d.stats}
    return state.replace_nets(
      discriminator=NetState.create(variables, self.d_opt)
    )

  def sample_one_z(self, key: jax.Array, truncation: Any = None) -> jax.Array:
    """Draws one z `[z_dim]`: noise, which is truncated, a category, codes."""
    noise_key, category_key, code_key = jax.random.split(key, 3)
    draw_noise = latents.LATENTS.find(self.latent)
    noise = draw_noise(noise_key, z_dim=self.num_noise, truncation=truncation)
    category = jax.random.randint(category_key, (), 0, self.num_categories)
    one_hot = jax.nn.one_hot(category, self.num_categories)
    codes = jax.random.uniform(
      code_key, (self.num_codes,), minval=-1.0, maxval=1.0
    )
    return jnp.concatenate([noise, one_hot, codes])

  def more_terms(
    self,
    d_params: Any,
    on_real: Judged,
    on_fake: Judged,
    z: jax.Array,
    labels: Any,
  ) -> Extras:
    """Returns what Q guesses of this device's fakes; see `GAN.more_terms`.

    Returns:
      `category_loss`, the mean of -log Q(category | x) in nats: log K less the
      bound on their mutual information. `code_loss`, the mean of -log Q(codes |
      x), in nats. `category_accuracy`, and `code_error`, the mean square of a
      code less its guess: 1/3 if Q knows nothing.

    Raises:
      UserError: D judges several images at once.
    """
    terms = super().more_terms(d_params, on_real, on_fake, z, labels)
    seen = features_of(on_fake)
    if len(seen) != len(z):
      raise errors.UserError(
        "system 'infogan' needs a D of single images: set "
        "config.discriminator.pack=1"
      )
    guess: Any = self.recognition.apply({"params": d_params[RECOGNITION]}, seen)
    logits, means = jnp.split(guess, [self.num_categories], axis=1)
    after_category = self.num_noise + self.num_categories
    _, category, codes = jnp.split(z, [self.num_noise, after_category], axis=1)
    right = logits.argmax(1) == category.argmax(1)
    terms = {
      **terms,
      "category_loss": (category_loss(logits, category), self.weight),
      "category_accuracy": (right.mean(), 0.0),
    }
    if self.num_codes:
      error = jnp.square(codes - means).mean()
      terms["code_loss"] = (code_loss(means, codes), self.weight)
      terms["code_error"] = (error, 0.0)
    return terms

  def traverse(self, z: jax.Array) -> dict[str, jax.Array]:
    """Returns a z `[z_dim]` with its category or one of its codes changed.

    Returns:
      "category" -> `[K, z_dim]`, "code 1" -> `[10, z_dim]` from -2 to 2, ...
    """
    first_code = self.num_noise + self.num_categories
    rows = jnp.tile(z[None], (self.num_categories, 1))
    every_category = jnp.eye(self.num_categories)
    found = {
      "category": rows.at[:, self.num_noise : first_code].set(every_category)
    }
    values = jnp.linspace(-LIMIT, LIMIT, NUM_VALUES)
    for i in range(self.num_codes):
      rows = jnp.tile(z[None], (NUM_VALUES, 1))
      found[f"code {i + 1}"] = rows.at[:, first_code + i].set(values)
    return found


def category_loss(logits: jax.Array, category: jax.Array) -> jax.Array:
  """Returns the mean cross-entropy of `[n, K]` and one-hot `[n, K]`."""
  return -jnp.mean(jnp.sum(category * jax.nn.log_softmax(logits), axis=1))


def code_loss(means: jax.Array, codes: jax.Array) -> jax.Array:
  """Returns the mean of -log N(codes; means, I), of `[n, d]` and `[n, d]`."""
  constant = 0.5 * math.log(2 * math.pi)
  return jnp.mean(jnp.sum(0.5 * jnp.square(codes - means) + constant, axis=1))
