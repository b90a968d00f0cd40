"""R3GAN's pair (Huang et al. 2025): grouped, inverted residual blocks.

No normalisation, no mapping network, no noise, no tanh. The defaults are those
of CIFAR-10: 20,732,160 and 20,683,776 parameters, conditional on 10 classes
20,781,952 and 21,280,512. Sizes and initialisation as in the authors' code.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from ganjax import errors
from ganjax.nets import conv, layers
from ganjax.nets.judged import Judged
from ganjax.nets.labels import condition

# Layers outside of the blocks are linear: N(0, 1 / fan_in), without a bias.
_init = nn.initializers.variance_scaling(1.0, "fan_in", "normal")


def _linear(features: int) -> nn.Dense:
  """Returns a dense layer without a bias."""
  return nn.Dense(features, use_bias=False, kernel_init=_init)


def _conv_1x1(
  features: int, kernel_init: nn.initializers.Initializer = _init
) -> layers.Conv:
  """Returns a 1x1 convolution without a bias."""
  return layers.Conv(
    features, kernel_size=1, use_bias=False, kernel_init=kernel_init
  )


class Block(nn.Module):
  """x + W3 act(b2 + W2 act(b1 + W1 x)), W2 grouped, act leaky ReLU .2.

  Fix-up initialisation (Zhang et al. 2019): W3 = 0, so that a block starts as
  the identity, and W1 and W2 have the gain sqrt(2 / 1.04) L^(-1/4).

  Attributes:
    num_blocks: L, of the whole network.
    group_size: channels of a group of W2.
    expansion: channels of W2 by those of x.
  """

  num_blocks: int
  group_size: int
  expansion: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `[N, H, W, C]` to the same shape."""
    gain = 2 / 1.04 * self.num_blocks**-0.5  # Of the variance.
    init = nn.initializers.variance_scaling(gain, "fan_in", "normal")
    width = self.expansion * x.shape[-1]
    groups = width // self.group_size
    y = layers.Conv(width, 1, kernel_init=init)(x)
    y = jax.nn.leaky_relu(y, 0.2)
    y = layers.Conv(width, 3, groups=groups, kernel_init=init)(y)
    y = jax.nn.leaky_relu(y, 0.2)
    zeros = nn.initializers.zeros_init()
    return x + _conv_1x1(x.shape[-1], kernel_init=zeros)(y)


def _stage(net: "Generator | Discriminator", x: jax.Array) -> jax.Array:
  """Applies the blocks of one resolution, with the fields of `net`."""
  total = net.num_blocks * len(net.widths)
  for _ in range(net.num_blocks):
    x = Block(total, net.group_size, net.expansion)(x)
  return x


def _embed(
  net: "Generator | Discriminator",
  labels: jax.Array | None,
  features: int,
  init: nn.initializers.Initializer,
) -> jax.Array:
  """Returns a learned vector `[N, features]` of each label."""
  labels = condition(net, labels)
  return nn.Embed(net.num_classes, features, embedding_init=init)(labels)


def _check(net: "Generator | Discriminator") -> None:
  """Raises a `UserError` if a net's fields do not go together."""
  shape = net.image_shape
  widths = net.widths
  side = 4 * 2 ** (len(widths) - 1)
  if len(shape) != 3 or not shape[0] == shape[1] == side:
    raise errors.UserError(
      f"net 'r3gan' with {len(widths)} widths is for square images of {side} "
      f"pixels, not {list(shape)}; a width more doubles the side: 4 widths for "
      "32, 5 for 64, 7 for 256"
    )
  for width in widths:
    if net.expansion * width % net.group_size:
      raise errors.UserError(
        f"net 'r3gan': {net.expansion} x {width} channels are not divisible "
        f"into groups of {net.group_size}; change widths or group_size"
      )


class Generator(nn.Module):
  """z -> learned 4x4 basis -> stages, doubling the resolution -> image.

  Attributes:
    image_shape: `(H, W, C)`, square: 4 pixels, doubled once less than there
      are `widths`.
    num_classes: of the labels, if `conditional`.
    widths: channels of the stages, the lowest resolution first.
    num_blocks: of each stage.
    group_size: channels of a group in the 3x3 convolutions; 32 on ImageNet.
    expansion: of the channels within a block.
    conditional: whether labels matter.
    embed_dim: of a label, beside z.
  """

  image_shape: tuple[int, ...]
  num_classes: int = 0
  widths: tuple[int, ...] = (768, 768, 768, 768)
  num_blocks: int = 2
  group_size: int = 16
  expansion: int = 2
  conditional: bool = False
  embed_dim: int = 64

  @nn.compact
  def __call__(
    self, z: jax.Array, labels: jax.Array | None = None, train: bool = True
  ) -> jax.Array:
    """Maps `z [N, z_dim]` to images `[N, H, W, C]`."""
    del train
    _check(self)
    if self.conditional:
      embedded = _embed(self, labels, self.embed_dim, _init)
      z = jnp.concatenate([z, embedded], -1)
    shape = (4, 4, self.widths[0])
    basis = self.param("basis", nn.initializers.normal(1.0), shape)
    scale = _linear(self.widths[0])(z)
    x = _stage(self, jnp.einsum("nc,hwc->nhwc", scale, basis))
    for width in self.widths[1:]:
      if width != x.shape[-1]:
        x = _conv_1x1(width)(x)
      x = _stage(self, conv.fir_up(x))
    return _conv_1x1(self.image_shape[2])(x)


class Discriminator(nn.Module):
  """image -> stages, halving the resolution -> 4x4 basis -> logit.

  Attributes:
    image_shape: as the generator's.
    num_classes: of the labels, if `conditional`.
    widths: channels of the stages in the generator's order: this network goes
      through them from the last to the first.
    num_blocks: of each stage.
    group_size: channels of a group in the 3x3 convolutions.
    expansion: of the channels within a block.
    conditional: whether the logit is the product of the features and a vector
      of the label, as many as `widths[0]`.
  """

  image_shape: tuple[int, ...]
  num_classes: int = 0
  widths: tuple[int, ...] = (768, 768, 768, 768)
  num_blocks: int = 2
  group_size: int = 16
  expansion: int = 2
  conditional: bool = False

  @nn.compact
  def __call__(
    self,
    images: jax.Array,
    labels: jax.Array | None = None,
    train: bool = True,
  ) -> Judged:
    """Judges images `[N, H, W, C]` with labels `[N]`: logits `[N]`."""
    del train
    _check(self)
    x = _stage(self, _conv_1x1(self.widths[-1])(images))
    for width in self.widths[-2::-1]:
      x = conv.fir_down(x)
      if width != x.shape[-1]:
        x = _conv_1x1(width)(x)
      x = _stage(self, x)
    # A depthwise convolution of 4x4 pixels with as large a kernel.
    shape = (4, 4, self.widths[0])
    basis = self.param("basis", nn.initializers.normal(0.25), shape)
    features = jnp.einsum("nhwc,hwc->nc", x, basis)
    if not self.conditional:
      return Judged(_linear(1)(features)[:, 0], features)
    dim = self.widths[0]
    init = nn.initializers.variance_scaling(1 / dim, "fan_in", "normal")
    embedded = _embed(self, labels, dim, init)
    return Judged((_linear(dim)(features) * embedded).sum(-1), features)
