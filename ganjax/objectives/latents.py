"""Distributions of the generator's input z, all of unit variance.

Each is `(key, z_dim, truncation=None) -> z [z_dim]`; `truncation` is a bound of
samples alone, by which they lose in variety and gain in quality.
"""

import math

import jax

from ganjax import errors, registry

LATENTS = registry.Registry("latent")


@LATENTS.register
def normal(key: jax.Array, z_dim: int, truncation=None) -> jax.Array:
  """One z `[z_dim]` from N(0, I), its components within +-`truncation`.

  Brock et al. 2019, section 3.1: components beyond the bound are drawn anew,
  not scaled or clipped. That is the normal distribution given the bound, which
  the inverse of its distribution function draws at once.
  """
  if truncation is None:
    return jax.random.normal(key, (z_dim,))
  return jax.random.truncated_normal(key, -truncation, truncation, (z_dim,))


@LATENTS.register
def uniform(key: jax.Array, z_dim: int, truncation=None) -> jax.Array:
  """One z `[z_dim]` from U(-sqrt 3, sqrt 3), the noise of 2014's MNIST."""
  if truncation is not None:
    raise errors.UserError(
      "truncation needs a run with config.system.latent='normal', not 'uniform'"
    )
  bound = math.sqrt(3.0)
  return jax.random.uniform(key, (z_dim,), minval=-bound, maxval=bound)
