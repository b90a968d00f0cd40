"""Distributions of the generator's input z, all of unit variance."""

import math

import jax

from ganjax import registry

LATENTS = registry.Registry("latent")


@LATENTS.register
def normal(key: jax.Array, z_dim: int) -> jax.Array:
  """One z `[z_dim]` from N(0, I)."""
  return jax.random.normal(key, (z_dim,))


@LATENTS.register
def uniform(key: jax.Array, z_dim: int) -> jax.Array:
  """One z `[z_dim]` from U(-sqrt 3, sqrt 3), the noise of 2014's MNIST."""
  bound = math.sqrt(3.0)
  return jax.random.uniform(key, (z_dim,), minval=-bound, maxval=bound)
