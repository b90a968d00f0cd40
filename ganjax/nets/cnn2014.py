"""The convolutional CIFAR-10 pair of 2014.

Goodfellow et al. 2014, figure 2d, with the sizes and initialisations of the
authors' code: 64,825,072 and 12,454,073 parameters at 32x32x3 with z of 100.
Convolutions pool by maxima of windows that overlap, the last of which may
stand over the edge.
"""

import itertools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from ganjax import errors
from ganjax.nets import layers
from ganjax.nets.judged import Judged

# Affine pieces of each maxout unit of a convolution.
PIECES = 2


class Sizes(NamedTuple):
  """Of one convolution and the maxima after it, in pixels."""

  kernel: int
  padding: int
  window: int


# Of the discriminator's convolutions, in their order.
SIZES = (
  Sizes(kernel=8, padding=4, window=4),
  Sizes(kernel=8, padding=3, window=4),
  Sizes(kernel=5, padding=3, window=2),
)


def _side(image_shape: tuple[int, ...]) -> int:
  """Returns the width of G's map of which 5x5 patches make the image."""
  size = image_shape[0]
  square = len(image_shape) == 3 and image_shape[1] == size
  if not square or size % 3 != 2 or size < 8:
    raise errors.UserError(
      "net 'cnn2014' needs square images of 32 pixels, or any 3 n + 5, not "
      f"{list(image_shape)}; set config.dataset.size=32"
    )
  return size // 3


def conv_transpose_5x5(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """A 5x5 transposed convolution of stride 3 without padding.

  Equals `lax.conv_transpose(x, kernel, (3, 3), "VALID")`, as a matrix product
  that makes a patch of each pixel, and a sum of patches where they overlap:
  XLA's CPU backend is slow at the gradient of the plain form.

  Args:
    x: `[N, H, W, in]`.
    kernel: `[5, 5, in, out]`.

  Returns:
    `[N, 3 H + 2, 3 W + 2, out]`.
  """
  n, height, width, _ = x.shape
  around = ((0, 1), (0, 1), (0, 0), (0, 0))
  kernel = jnp.pad(jnp.flip(kernel, (0, 1)), around)
  kernel = kernel.reshape(2, 3, 2, 3, *kernel.shape[2:])
  # A patch of 6x6 is four blocks of 3x3, each on a grid of its own.
  blocks = jnp.einsum("nhwi,paqbio->pqnhawbo", x, kernel)
  total = jnp.zeros((), x.dtype)
  none = (0, 0)
  for p, q in itertools.product((0, 1), repeat=2):
    shift = (none, (p, 1 - p), none, (q, 1 - q), none, none)
    total = jnp.pad(blocks[p, q], shift) + total
  y = total.reshape(n, 3 * height + 3, 3 * width + 3, -1)
  return y[:, :-1, :-1]


def pool(x: jax.Array, window: int) -> jax.Array:
  """Takes maxima of windows, 2 apart, until every pixel was in one.

  Maps `[N, H, W, C]` to `[N, ceil((H - window) / 2) + 1, ..., C]`.
  """
  over = [max(window - n, (window - n) % 2) for n in x.shape[1:3]]
  padding: Any = [(0, n) for n in over]
  return nn.max_pool(x, (window, window), (2, 2), padding)


def maxout(x: jax.Array, pieces: int) -> jax.Array:
  """Maps `[..., units * pieces]` to `[..., units]`: the largest piece."""
  return x.reshape(*x.shape[:-1], -1, pieces).max(-1)


class Generator(nn.Module):
  """z -> ReLU -> sigmoid -> 10x10 pixels -> patches of a linear image.

  Attributes:
    image_shape: `(H, W, C)`, square, of 32 or any 3 n + 5 pixels.
    num_classes: unused.
    hidden: units of the first layer.
    channels: of the pixels that the second layer makes.
    init_range: weights start at U(-init_range, init_range).
  """

  image_shape: tuple[int, ...]
  num_classes: int = 0
  hidden: int = 8000
  channels: int = 80
  init_range: float = 0.05

  @nn.compact
  def __call__(
    self, z: jax.Array, labels: jax.Array | None = None, train: bool = True
  ) -> jax.Array:
    """Maps `z [N, z_dim]` to images `[N, H, W, C]`."""
    del labels, train
    init = layers.uniform_init(self.init_range)
    side = _side(self.image_shape)
    x = jax.nn.relu(nn.Dense(self.hidden, kernel_init=init)(z))
    x = nn.Dense(side**2 * self.channels, kernel_init=init)(x)
    x = jax.nn.sigmoid(x).reshape(-1, side, side, self.channels)
    shape = (5, 5, self.channels, self.image_shape[2])
    x = conv_transpose_5x5(x, self.param("kernel", init, shape))
    # Untied: a bias for each pixel of the image.
    zeros = nn.initializers.zeros_init()
    bias = self.param("bias", zeros, self.image_shape)
    return x + jnp.broadcast_to(bias, x.shape)


class Discriminator(nn.Module):
  """image -> three maxout convolutions -> maxout layer -> logit, dropout.

  Attributes:
    image_shape: `(H, W, C)`, square, of 32 or any 3 n + 5 pixels.
    num_classes: unused.
    channels: maxout units of each convolution.
    hidden: maxout units of the layer before the last.
    pieces: affine pieces of each of those.
    input_dropout: the rate at which pixels are dropped.
    dropout: the rate at which hidden units are dropped.
    init_range: weights start at U(-init_range, init_range).
  """

  image_shape: tuple[int, ...]
  num_classes: int = 0
  channels: tuple[int, ...] = (32, 32, 192)
  hidden: int = 500
  pieces: int = 5
  input_dropout: float = 0.2
  dropout: float = 0.5
  init_range: float = 0.005

  @nn.compact
  def __call__(
    self,
    images: jax.Array,
    labels: jax.Array | None = None,
    train: bool = True,
  ) -> Judged:
    """Judges images `[N, H, W, C]`: logits `[N]`."""
    del labels
    _side(self.image_shape)
    init = layers.uniform_init(self.init_range)
    x = layers.Dropout(self.input_dropout)(images, train)
    for units, sizes in zip(self.channels, SIZES, strict=True):
      conv = layers.Conv(
        units * PIECES, sizes.kernel, padding=sizes.padding, kernel_init=init
      )
      x = pool(maxout(conv(x), PIECES), sizes.window)
      x = layers.Dropout(self.dropout)(x, train)
    dense = nn.Dense(self.hidden * self.pieces, kernel_init=init)
    x = maxout(dense(layers.flatten(x)), self.pieces)
    x = layers.Dropout(self.dropout)(x, train)
    logits = nn.Dense(1, kernel_init=init, name="output")(x)[:, 0]
    return Judged(logits, x)
