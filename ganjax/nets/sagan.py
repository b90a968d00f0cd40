"""Self-attention GAN (Zhang et al. 2019): residual nets, spectral norm in both.

At 128 px the layers are those of the authors' code: channels 16, 16, 8, 4, 2
and 1 times the width, from 4x4 on, and in the discriminator the same in the
other direction, with self-attention at 32x32. The sizes 64 and 32 are not in
the paper: their channels are those of PyTorch-StudioGAN, and at 32 px
attention is at 16x16.

The paper publishes no parameter counts. With 1000 classes, z of 128 and width
64 they are 42,078,852 and 39,463,618: those noted in BigGAN's PyTorch code for
the same nets with attention at 64x64, 42,017,412 and 39,448,258, and 61,440
and 15,360 more, as attention has 5/4 C^2 + 1 and C is twice as large at 32x32.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

from ganjax import errors
from ganjax.nets import attention, layers, norms

_init = nn.initializers.glorot_uniform()

# Multiples of the width by the image's size: at 4x4, then after each block.
_CHANNELS = {
  32: (4, 4, 4, 4),
  64: (16, 8, 4, 2, 1),
  128: (16, 16, 8, 4, 2, 1),
}
# The same after each of D's blocks, and how many of the blocks halve.
_D_CHANNELS = {
  32: ((2, 2, 2, 2), 2),
  64: ((1, 2, 4, 8, 16), 4),
  128: ((1, 2, 4, 8, 16, 16), 5),
}


def check_size(net: str, image_shape: tuple[int, ...]) -> int:
  """Returns the height of images `(H, W, C)` that the net `net` can make.

  Raises:
    UserError: they are not square, of 32, 64 or 128 pixels.
  """
  size = image_shape[0]
  if len(image_shape) != 3 or image_shape[1] != size or size not in _CHANNELS:
    raise errors.UserError(
      f"net {net!r} needs square images of 32, 64 or 128 pixels, not "
      f"{list(image_shape)}; set config.dataset.size or use net 'dcgan'"
    )
  return size


def condition(net: Any, labels: jax.Array | None) -> jax.Array | None:
  """Returns the labels `[N]` that a net goes by; None if it goes by none.

  Args:
    net: with the fields `conditional` and `num_classes`.
    labels: `[N]`, or None.

  Raises:
    UserError: it goes by labels and has none.
  """
  if not (net.conditional and net.num_classes):
    return None
  if labels is None:
    role = type(net).__name__.lower()
    raise errors.UserError(
      f"a class-conditional {role} needs labels; give them or set "
      f"config.{role}.conditional=False"
    )
  return labels


def spectral_conv(kernel_init: Callable, *args, **fields):
  """Returns a spectrally normalised `layers.Conv(*args, **fields)`."""
  conv = layers.Conv(*args, kernel_init=kernel_init, **fields)
  return layers.SpectralNorm(conv)


def up_block(
  x: jax.Array, features: int, norm: Callable, kernel_init: Callable
) -> jax.Array:
  """A residual block `[N, H, W, C] -> [N, 2H, 2W, features]` of a generator.

  Args:
    x: the feature map.
    features: channels of the output.
    norm: `[N, H, W, C]` -> the same, a new layer at each call.
    kernel_init: of the convolutions.
  """
  conv = functools.partial(spectral_conv, kernel_init, features)
  h = conv(resample="up")(jax.nn.relu(norm(x)))
  h = conv()(jax.nn.relu(norm(h)))
  return h + conv(kernel_size=1, resample="up")(x)


def down_block(
  x: jax.Array, features: int, halve: bool, first: bool, kernel_init: Callable
) -> jax.Array:
  """A residual block of a discriminator.

  Args:
    x: `[N, H, W, C]`.
    features: channels of the output.
    halve: whether the resolution is halved.
    first: of the net: images are not rectified.
    kernel_init: of the convolutions.
  """
  conv = functools.partial(spectral_conv, kernel_init, features)
  resample = "down" if halve else ""
  h = conv()(x if first else jax.nn.relu(x))
  h = conv(resample=resample)(jax.nn.relu(h))
  if halve or features != x.shape[-1]:
    x = conv(kernel_size=1, resample=resample)(x)
  return h + x


def judge(
  images: jax.Array,
  labels: jax.Array | None,
  num_classes: int,
  width: int,
  attention_size: int,
  kernel_init: Callable,
) -> jax.Array:
  """The projection discriminator of SAGAN and BigGAN (Miyato & Koyama 2018).

  Args:
    images: `[N, H, W, C]`, square, of 32, 64 or 128 pixels.
    labels: `[N]`, or None for an unconditional one.
    num_classes: of the labels.
    width: channels are multiples of it.
    attention_size: height of the feature map with self-attention.
    kernel_init: of all kernels.

  Returns:
    Logits `[N]`: a linear function of the features h plus embed(label) . h.
  """
  channels, halvings = _D_CHANNELS[images.shape[1]]
  x = images
  for i, multiple in enumerate(channels):
    x = down_block(x, multiple * width, i < halvings, i == 0, kernel_init)
    if i < halvings and x.shape[1] == attention_size:
      x = attention.SelfAttention(kernel_init)(x)
  h = jax.nn.relu(x).sum((1, 2))
  head = nn.Dense(1, kernel_init=kernel_init)
  logits = layers.SpectralNorm(head)(h)[:, 0]
  if labels is None:
    return logits
  embed = nn.Dense(
    h.shape[-1], use_bias=False, kernel_init=kernel_init, name="embed"
  )
  classes = jax.nn.one_hot(labels, num_classes, dtype=h.dtype)
  return logits + (layers.SpectralNorm(embed)(classes) * h).sum(-1)


class Generator(nn.Module):
  """z -> 4x4 -> residual blocks with self-attention -> image.

  Attributes:
    image_shape: `(H, W, C)`, square, of 32, 64 or 128 pixels.
    num_classes: of the labels that conditional batch norm goes by.
    axis_name: the mapped axis, for batch norm.
    width: channels before the last layer at 64 and 128 px, where there are 16
      times as many at 4x4; a quarter of the channels at 32 px.
    conditional: whether to use the labels of a dataset that has some.
  """

  image_shape: tuple[int, ...]
  num_classes: int = 0
  axis_name: str | None = None
  width: int = 64
  conditional: bool = True

  @nn.compact
  def __call__(self, z: jax.Array, labels=None, train: bool = True):
    """Maps `z [N, z_dim]` and labels `[N]` to images `[N, H, W, C]`."""
    size = check_size("sagan", self.image_shape)
    labels = condition(self, labels)
    plain = functools.partial(norms.batch_norm, train, self.axis_name)

    def norm(x: jax.Array) -> jax.Array:
      if labels is None:
        return plain()(x)
      layer = norms.ConditionalBatchNorm(self.num_classes, self.axis_name)
      return layer(x, labels, train)

    first, *channels = (self.width * m for m in _CHANNELS[size])
    dense = nn.Dense(16 * first, kernel_init=_init)
    x = layers.SpectralNorm(dense)(z).reshape(-1, 4, 4, first)
    for features in channels:
      x = up_block(x, features, norm, _init)
      if x.shape[1] == _attention_size(size):
        x = attention.SelfAttention(_init)(x)
    conv = spectral_conv(_init, self.image_shape[2])
    return jax.nn.tanh(conv(jax.nn.relu(plain()(x))))


def _attention_size(size: int) -> int:
  return min(32, size // 2)


class Discriminator(nn.Module):
  """image -> residual blocks with self-attention -> logit, by projection.

  Attributes:
    image_shape: `(H, W, C)`, square, of 32, 64 or 128 pixels.
    num_classes: of the labels that are projected.
    axis_name: unused.
    width: channels after the first block at 64 and 128 px, where there are 16
      times as many in the end; half the channels at 32 px.
    conditional: whether to use the labels of a dataset that has some.
  """

  image_shape: tuple[int, ...]
  num_classes: int = 0
  axis_name: str | None = None
  width: int = 64
  conditional: bool = True

  @nn.compact
  def __call__(self, images: jax.Array, labels=None, train: bool = True):
    """Maps images `[N, H, W, C]` and labels `[N]` to logits `[N]`."""
    del train
    size = check_size("sagan", self.image_shape)
    labels = condition(self, labels)
    attention_size = _attention_size(size)
    return judge(
      images, labels, self.num_classes, self.width, attention_size, _init
    )
