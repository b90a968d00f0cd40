"""Distributions of the generator's input z, all of unit variance.

Each is a function `(key, z_dim, truncation=None) -> z [z_dim]`. `truncation`
bounds the components of the z that samples are drawn from, never of those in
training: samples lose variety by it and gain quality.

`LATENTS` holds those of this file; one of a user's own is registered by
`@LATENTS.register` or named `module:attribute`.
"""

import math

import jax

from ganjax import errors, registry

LATENTS = registry.Registry("latent")


@LATENTS.register
def normal(key: jax.Array, z_dim: int, truncation=None) -> jax.Array:
  """Draws one z `[z_dim]` from N(0, I), within +-`truncation` if it is given.

  Components beyond the bound are drawn anew, not scaled or clipped (Brock et
  al. 2019, section 3.1). The result has the normal distribution given the
  bound, which is drawn at once by the inverse of its distribution function.
  """
  if truncation is None:
    return jax.random.normal(key, (z_dim,))
  return jax.random.truncated_normal(key, -truncation, truncation, (z_dim,))


@LATENTS.register
def uniform(key: jax.Array, z_dim: int, truncation=None) -> jax.Array:
  """Draws one z `[z_dim]` from U(-sqrt 3, sqrt 3), the noise of 2014's MNIST.

  Raises:
    UserError: a truncation is given; it would only make the interval shorter.
  """
  if truncation is not None:
    raise errors.UserError(
      "truncation needs a run with config.system.latent='normal', not 'uniform'"
    )
  bound = math.sqrt(3.0)  # The variance of U(-a, a) is a^2 / 3.
  return jax.random.uniform(key, (z_dim,), minval=-bound, maxval=bound)
