"""Layers and initialisers that several networks share."""

import functools
import math
from collections.abc import Callable
from typing import TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from ganjax import parallel, registry
from ganjax.nets import conv

T = TypeVar("T")


def identity(x: T) -> T:
  """Returns its input, where a net may have something else."""
  return x


def leaky_relu(x: jax.Array, slope: float = 0.2) -> jax.Array:
  """Returns x where it is positive, and `slope * x` elsewhere.

  The default slope is that of DCGAN (Radford et al. 2016). Other papers have
  other ones: a net that follows them says so in a field `slope`.
  """
  return jax.nn.leaky_relu(x, slope)


ACTIVATIONS = registry.Registry("activation")
ACTIVATIONS.update(
  linear=identity,
  relu=jax.nn.relu,
  leaky_relu=leaky_relu,
  sigmoid=jax.nn.sigmoid,
  tanh=jnp.tanh,
)


def activation(
  name: str, slope: float = 0.2
) -> Callable[[jax.Array], jax.Array]:
  """Returns the activation function that a config names.

  Args:
    name: a key of `ACTIVATIONS`.
    slope: of "leaky_relu" below zero. The others have none.

  Raises:
    UserError: there is no activation of that name.
  """
  function = ACTIVATIONS.find(name)
  if function is leaky_relu:
    return functools.partial(leaky_relu, slope=slope)
  return function


def uniform_init(bound: float) -> nn.initializers.Initializer:
  """Returns an initialiser that draws from U(-bound, bound)."""

  def init(key, shape, dtype=jnp.float32):
    return jax.random.uniform(key, shape, dtype, -bound, bound)

  return init


def scale_init(key, shape, dtype=jnp.float32) -> jax.Array:
  """Draws a normalisation's scale from N(1, 0.02).

  The value is that of the code of Radford et al. 2016.
  """
  return 1.0 + 0.02 * jax.random.normal(key, shape, dtype)


class Dropout(nn.Module):
  """Drops each unit of each example with `rate`, and scales up the rest.

  Unlike the mask of `nn.Dropout`, an example's mask depends on its place in
  the global batch, and not on the device that draws it. So a step has the same
  numbers on one device as on many.

  Attributes:
    rate: the probability that a unit becomes 0.
  """

  rate: float

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """Maps `[N, ...]` to `[N, ...]`."""
    if not train or self.rate == 0.0:
      return x
    keep = 1.0 - self.rate

    def draw_mask(key):
      return jax.random.bernoulli(key, keep, x.shape[1:])

    keys = parallel.example_keys(self.make_rng("dropout"), len(x))
    # Division by `keep` leaves the mean as it is, so evaluation needs none.
    return jnp.where(jax.vmap(draw_mask)(keys), x / keep, 0.0)


class Conv(nn.Module):
  """A convolution with the parameters of `nn.Conv`, in a fast form.

  Attributes:
    features: channels of the output.
    kernel_size: height and width of the kernel.
    stride: in both directions.
    padding: pixels on each side; (kernel_size - 1) // 2 if None.
    resample: "up" for nearest-neighbour upsampling by two before the
      convolution, "down" for 2x2 average pooling after it, both in one
      operation; then the stride is 1 and the kernel's size odd.
    groups: of channels that do not mix.
    use_bias: whether to add a bias.
    kernel_init: of the kernel `[size, size, in / groups, features]`.
    bias_init: of the bias `[features]`.
  """

  features: int
  kernel_size: int = 3
  stride: int = 1
  padding: int | None = None
  resample: str = ""
  groups: int = 1
  use_bias: bool = True
  kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
  bias_init: nn.initializers.Initializer = nn.initializers.zeros_init()

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `[N, H, W, C]` to `[N, H', W', features]`."""
    size = self.kernel_size
    shape = (size, size, x.shape[-1] // self.groups, self.features)
    kernel = self.param("kernel", self.kernel_init, shape)
    if self.resample == "up":
      y = conv.upsample_conv(x, kernel)
    elif self.resample == "down":
      y = conv.conv_pool(x, kernel)
    else:
      same = (size - 1) // 2
      padding = same if self.padding is None else self.padding
      y = conv.conv(x, kernel, self.stride, padding, self.groups)
    return add_bias(self, y, self.bias_init) if self.use_bias else y


class ConvTranspose(nn.Module):
  """A 4x4 transposed convolution of stride 2, as `nn.ConvTranspose`'s.

  Attributes:
    features: channels of the output.
    use_bias: whether to add a bias.
    kernel_init: of the kernel `[4, 4, in, features]`.
  """

  features: int
  use_bias: bool = True
  kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `[N, H, W, C]` to `[N, 2H, 2W, features]`."""
    shape = (4, 4, x.shape[-1], self.features)
    kernel = self.param("kernel", self.kernel_init, shape)
    y = conv.conv_transpose_4x4(x, kernel)
    return add_bias(self, y) if self.use_bias else y


def add_bias(
  module: nn.Module,
  y: jax.Array,
  init: nn.initializers.Initializer = nn.initializers.zeros,
  name: str = "bias",
) -> jax.Array:
  """Adds a bias, a parameter of `module`.

  Args:
    module: whose parameter it becomes.
    y: `[..., features]`.
    init: of the bias `[features]`.
    name: of the parameter.
  """
  bias = module.param(name, init, y.shape[-1:])
  return y + jnp.broadcast_to(bias, y.shape)


def flatten(x: jax.Array) -> jax.Array:
  """Maps `[N, ...]` to `[N, d]`."""
  return x.reshape(len(x), math.prod(x.shape[1:]))
