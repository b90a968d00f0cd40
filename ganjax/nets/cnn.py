"""The standard CNN of the relativistic GAN (Jolicoeur-Martineau 2018).

"Arch 1" of the author's code, after Miyato et al. 2018's: G has three
transposed convolutions, D seven convolutions, 3x3 ones in between 4x4 ones of
stride 2. 3,812,355 and 2,935,873 parameters at 32x32x3 with z of 128. The
stable runs have `norm="spectral"` in D, the unstable ones "batch", or "none"
in both, or tanh in the place of every activation.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from ganjax import errors
from ganjax.nets import layers, norms, spectral
from ganjax.nets.judged import Judged

_init = nn.initializers.normal(0.02)


def _bounded(fan_in: int) -> nn.initializers.Initializer:
  """Returns U(-1 / sqrt(fan_in), 1 / sqrt(fan_in)), PyTorch's default."""
  return layers.uniform_init(fan_in**-0.5)


def _eighth(image_shape: tuple[int, ...]) -> int:
  """Returns an eighth of the images' size, or raises a `UserError`."""
  size = image_shape[0]
  if len(image_shape) != 3 or image_shape[1] != size or size % 8 or size < 8:
    raise errors.UserError(
      "net 'cnn' needs square images of 32 or another multiple of 8 pixels, "
      f"not {list(image_shape)}; set config.dataset.size"
    )
  return size // 8


def _conv(
  channels: int, x: jax.Array, size: int, stride: int = 1
) -> layers.Conv:
  """Returns a convolution for `x`. All of the paper's have a padding of 1."""
  bias = _bounded(x.shape[-1] * size**2)
  return layers.Conv(
    channels, size, stride, padding=1, kernel_init=_init, bias_init=bias
  )


class Generator(nn.Module):
  """z -> an eighth of the size -> ... -> image, tanh at the end.

  Attributes:
    image_shape: `(H, W, C)`, square, a multiple of 8.
    num_classes: unused.
    width: channels before the last layer; eight times as many at the start.
    norm: "batch" (after each transposed convolution) or "none".
    activation: of the hidden layers, a key of `layers.ACTIVATIONS`: "relu",
      or "tanh".
    slope: of "leaky_relu" below zero.
  """

  image_shape: tuple[int, ...]
  num_classes: int = 0
  width: int = 64
  norm: str = "batch"
  activation: str = "relu"
  slope: float = 0.1

  @nn.compact
  def __call__(
    self, z: jax.Array, labels: jax.Array | None = None, train: bool = True
  ) -> jax.Array:
    """Maps `z [N, z_dim]` to images `[N, H, W, C]`."""
    del labels
    if self.norm not in ("batch", "none"):
      raise errors.unknown("norm of G", self.norm, ("batch", "none"))
    activation = layers.activation(self.activation, self.slope)
    size = _eighth(self.image_shape)
    init = _bounded(z.shape[-1])
    dense = nn.Dense(size**2 * self.width * 8, kernel_init=init, bias_init=init)
    x = dense(z).reshape(-1, size, size, self.width * 8)
    for i in range(3):
      channels = self.width * 4 // 2**i
      x = layers.ConvTranspose(channels, use_bias=False, kernel_init=_init)(x)
      # PyTorch takes a transposed convolution's outputs for its inputs.
      init = _bounded(channels * 4**2)
      x = layers.add_bias(self, x, init, name=f"bias_{i}")
      if self.norm == "batch":
        x = norms.batch_norm(train, scale_init=layers.scale_init)(x)
      x = activation(x)
    return jnp.tanh(_conv(self.image_shape[2], x, 3)(x))


class Discriminator(nn.Module):
  """image -> ... -> an eighth of the size -> logit.

  Attributes:
    image_shape: `(H, W, C)`, square, a multiple of 8.
    num_classes: unused.
    width: channels after the first layer; eight times as many at the end.
    norm: "spectral" (of all convolutions), "batch" (after all but the last) or
      "none".
    spectral_skip: layers without spectral norm, here the last one.
    activation: of the hidden layers, a key of `layers.ACTIVATIONS`:
      "leaky_relu", or "tanh".
    slope: of "leaky_relu" below zero.
  """

  image_shape: tuple[int, ...]
  num_classes: int = 0
  width: int = 64
  norm: str = "spectral"
  spectral_skip: tuple[str, ...] = ("head",)
  activation: str = "leaky_relu"
  slope: float = 0.1

  @nn.compact
  def __call__(
    self,
    images: jax.Array,
    labels: jax.Array | None = None,
    train: bool = True,
  ) -> Judged:
    """Judges images `[N, H, W, C]`: logits `[N]`."""
    del labels
    _eighth(self.image_shape)
    activation = layers.activation(self.activation, self.slope)
    wrap = spectral.wrapper(self.norm, self.spectral_skip, ("head",))

    def norm(x: jax.Array) -> jax.Array:
      if self.norm != "batch":
        return x
      return norms.batch_norm(train, scale_init=layers.scale_init)(x)

    x = images
    for factor in (1, 2, 4):
      x = wrap(_conv(self.width * factor, x, size=3))(x)
      x = activation(norm(x))
      x = wrap(_conv(self.width * factor, x, size=4, stride=2))(x)
      x = activation(norm(x))
    # The last convolution has no batch norm in the author's code.
    x = activation(wrap(_conv(self.width * 8, x, size=3))(x))
    features = layers.flatten(x)
    init = _bounded(features.shape[-1])
    dense = nn.Dense(1, kernel_init=init, bias_init=init)
    return Judged(wrap(dense, "head")(features)[:, 0], features)
