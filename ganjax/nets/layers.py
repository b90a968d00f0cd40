"""What networks are made of."""

import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from ganjax import parallel, registry
from ganjax.nets import conv

ACTIVATIONS = registry.Registry("activation")
ACTIVATIONS.update(
  linear=lambda x: x,
  relu=jax.nn.relu,
  leaky_relu=lambda x: jax.nn.leaky_relu(x, 0.2),
  sigmoid=jax.nn.sigmoid,
  tanh=jnp.tanh,
)


def uniform_init(bound: float) -> Callable:
  """An initialiser U(-bound, bound)."""

  def init(key, shape, dtype=jnp.float32):
    return jax.random.uniform(key, shape, dtype, -bound, bound)

  return init


def scale_init(key, shape, dtype=jnp.float32):
  """N(1, 0.02): the scale of a normalisation (Radford et al. 2016's code)."""
  return 1.0 + 0.02 * jax.random.normal(key, shape, dtype)


class Dropout(nn.Module):
  """Drops each unit of each example with `rate`, scaling the rest up.

  Unlike `nn.Dropout` a mask depends on the example's place in the global
  batch, not on the device that draws it.
  """

  rate: float
  axis_name: str | None = None

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """Maps `[N, ...]` to `[N, ...]`."""
    if not train or self.rate == 0.0:
      return x
    axis_name = None if self.is_initializing() else self.axis_name
    keys = parallel.example_keys(self.make_rng("dropout"), len(x), axis_name)
    keep = 1.0 - self.rate
    draw = lambda key: jax.random.bernoulli(key, keep, x.shape[1:])
    return jnp.where(jax.vmap(draw)(keys), x / keep, 0.0)


class ConvTranspose(nn.Module):
  """A 4x4 transposed convolution of stride 2, as `nn.ConvTranspose`'s."""

  features: int
  use_bias: bool = True
  kernel_init: Callable = nn.initializers.lecun_normal()

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `[N, H, W, C]` to `[N, 2H, 2W, features]`."""
    shape = (4, 4, x.shape[-1], self.features)
    kernel = self.param("kernel", self.kernel_init, shape)
    y = conv.conv_transpose_4x4(x, kernel)
    if self.use_bias:
      zeros = nn.initializers.zeros_init()
      bias = self.param("bias", zeros, (self.features,))
      y += jnp.broadcast_to(bias, y.shape)
    return y


def flatten(x: jax.Array) -> jax.Array:
  """Maps `[N, ...]` to `[N, d]`."""
  return x.reshape(len(x), math.prod(x.shape[1:]))
