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

from typing import Any

import flax.linen as nn
import jax

from ganjax import errors
from ganjax.nets import attention, layers, norms, residual, spectral
from ganjax.nets.judged import Judged
from ganjax.nets.labels import condition, head

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


def spectral_conv(
  kernel_init: nn.initializers.Initializer, features: int, **fields: Any
) -> spectral.SpectralNorm:
  """Returns a spectrally normalised convolution.

  Args:
    kernel_init: of the kernel.
    features: channels of the output.
    **fields: of `layers.Conv`.
  """
  conv = layers.Conv(features, kernel_init=kernel_init, **fields)
  return spectral.SpectralNorm(conv)


def block(
  x: jax.Array,
  features: int,
  kernel_init: nn.initializers.Initializer,
  *,
  norm: residual.Map = layers.identity,
  resample: str = "",
  first: bool = False,
) -> jax.Array:
  """Applies a residual block whose convolutions are spectrally normalised.

  Args:
    x: `[N, H, W, C]`.
    features: channels of the output.
    kernel_init: of the convolutions.
    norm: applies a new normalisation each time it is called.
    resample: "up" for twice the resolution, "down" for half of it, or "".
    first: whether the input is an image, which is not rectified.

  Returns:
    `[N, H', W', features]`.
  """

  def conv(features: int, resample: str) -> residual.Map:
    return spectral_conv(kernel_init, features, resample=resample)

  def shortcut(features: int, resample: str) -> residual.Map:
    return spectral_conv(
      kernel_init, features, kernel_size=1, resample=resample
    )

  return residual.block(
    x,
    features,
    conv=conv,
    shortcut=shortcut,
    norm=norm,
    resample=resample,
    first=first,
  )


def judge(
  images: jax.Array,
  labels: jax.Array | None,
  *,
  num_classes: int,
  width: int,
  attention_size: int,
  kernel_init: nn.initializers.Initializer,
) -> Judged:
  """Applies the discriminator of SAGAN and BigGAN, a projection of labels.

  Args:
    images: `[N, H, W, C]`, square, of 32, 64 or 128 pixels.
    labels: `[N]`, or None for an unconditional one.
    num_classes: of the labels.
    width: channels are multiples of it.
    attention_size: height of the feature map with self-attention.
    kernel_init: of all kernels.

  Returns:
    Logits `[N]`, a linear function of the features h plus embed(label) . h
    (Miyato & Koyama 2018), and h.
  """
  channels, num_halvings = _D_CHANNELS[images.shape[1]]
  x = images
  for i, multiple in enumerate(channels):
    halve = i < num_halvings
    x = block(
      x,
      multiple * width,
      kernel_init,
      resample="down" if halve else "",
      first=i == 0,
    )
    if halve and x.shape[1] == attention_size:
      x = attention.SelfAttention(kernel_init)(x)
  features = jax.nn.relu(x).sum((1, 2))

  def linear(outputs: int, **fields: Any) -> residual.Map:
    dense = nn.Dense(outputs, kernel_init=kernel_init, **fields)
    return spectral.SpectralNorm(dense)

  return head(
    "linear" if labels is None else "projection",
    linear,
    features,
    labels=labels,
    num_classes=num_classes,
  )


class Generator(nn.Module):
  """z -> 4x4 -> residual blocks with self-attention -> image.

  Attributes:
    image_shape: `(H, W, C)`, square, of 32, 64 or 128 pixels.
    num_classes: of the labels that conditional batch norm goes by.
    width: channels before the last layer at 64 and 128 px, where there are 16
      times as many at 4x4; a quarter of the channels at 32 px.
    conditional: whether to use the labels of a dataset that has some.
  """

  image_shape: tuple[int, ...]
  num_classes: int = 0
  width: int = 64
  conditional: bool = True

  @nn.compact
  def __call__(
    self, z: jax.Array, labels: jax.Array | None = None, train: bool = True
  ) -> jax.Array:
    """Maps `z [N, z_dim]` and labels `[N]` to images `[N, H, W, C]`."""
    size = check_size("sagan", self.image_shape)
    labels = condition(self, labels, optional=True)

    def norm(x: jax.Array) -> jax.Array:
      if labels is None:
        return norms.batch_norm(train)(x)
      return norms.ConditionalBatchNorm(self.num_classes)(x, labels, train)

    first, *channels = (self.width * m for m in _CHANNELS[size])
    dense = nn.Dense(16 * first, kernel_init=_init)
    x = spectral.SpectralNorm(dense)(z).reshape(-1, 4, 4, first)
    for features in channels:
      x = block(x, features, _init, norm=norm, resample="up")
      if x.shape[1] == _attention_size(size):
        x = attention.SelfAttention(_init)(x)
    # The last norm goes by no labels, as in the authors' code.
    x = jax.nn.relu(norms.batch_norm(train)(x))
    return jax.nn.tanh(spectral_conv(_init, self.image_shape[2])(x))


def _attention_size(size: int) -> int:
  """Returns the height of the feature map with self-attention."""
  return min(32, size // 2)


class Discriminator(nn.Module):
  """image -> residual blocks with self-attention -> logit, by projection.

  Attributes:
    image_shape: `(H, W, C)`, square, of 32, 64 or 128 pixels.
    num_classes: of the labels that are projected.
    width: channels after the first block at 64 and 128 px, where there are 16
      times as many in the end; half the channels at 32 px.
    conditional: whether to use the labels of a dataset that has some.
  """

  image_shape: tuple[int, ...]
  num_classes: int = 0
  width: int = 64
  conditional: bool = True

  @nn.compact
  def __call__(
    self,
    images: jax.Array,
    labels: jax.Array | None = None,
    train: bool = True,
  ) -> Judged:
    """Judges images `[N, H, W, C]` with labels `[N]`: logits `[N]`."""
    del train
    size = check_size("sagan", self.image_shape)
    return judge(
      images,
      condition(self, labels, optional=True),
      num_classes=self.num_classes,
      width=self.width,
      attention_size=_attention_size(size),
      kernel_init=_init,
    )
