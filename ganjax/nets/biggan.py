"""BigGAN (Brock et al. 2019): a shared class embedding, and z in every block.

Channels are those of the paper's Table 4 at 128 px and of the authors' PyTorch
code at 64 px. At 32 px, which the paper does not have, they are those of
PyTorch-StudioGAN (width 96: 384 in the generator, 192 in the discriminator);
the authors' code has 4 times the width in both. Self-attention is at half the
resolution: 64x64 at 128 px, as in the paper.

Published for 128 px, width 96, z of 120 and 1000 classes (google/compare_gan,
`resnet_biggan`): 70,433,988 parameters in the generator, 87,982,370 in the
discriminator.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from ganjax import errors
from ganjax.nets import attention, layers, norms, sagan

_init = nn.initializers.orthogonal()
# Units of the shared class embedding.
_EMBEDDING = 128
# Of batch norm, in the configuration of the authors' released models.
_EPSILON = 1e-4

# Multiples of the width by the image's size: at 4x4, then after each block.
_CHANNELS = {
  32: (4, 4, 4, 4),
  64: (16, 16, 8, 4, 2),
  128: (16, 16, 8, 4, 2, 1),
}


def _split(z: jax.Array, num_chunks: int, size: int) -> list[jax.Array]:
  """Returns equal chunks of `z [N, z_dim]`, or says which z_dim is good."""
  z_dim = z.shape[1]
  if z_dim % num_chunks:
    good = max(round(z_dim / num_chunks), 1) * num_chunks
    raise errors.UserError(
      f"net 'biggan' splits z into {num_chunks} equal chunks at {size} px: "
      f"set config.system.z_dim={good}, the nearest to {z_dim} that divides"
    )
  return jnp.split(z, num_chunks, axis=1)


class Generator(nn.Module):
  """The first chunk of z -> 4x4 -> residual blocks -> image.

  Each block's batch norms are scaled and shifted by linear maps of one more
  chunk of z and the embedding of the class, which all blocks share. All
  kernels are spectrally normalised, the embedding is not.

  Attributes:
    image_shape: `(H, W, C)`, square, of 32, 64 or 128 pixels.
    num_classes: of the labels that are embedded.
    axis_name: the mapped axis, for batch norm.
    width: the paper's channel multiplier ch.
    conditional: whether to use the labels of a dataset that has some.
  """

  image_shape: tuple[int, ...]
  num_classes: int = 0
  axis_name: str | None = None
  width: int = 96
  conditional: bool = True

  @nn.compact
  def __call__(self, z: jax.Array, labels=None, train: bool = True):
    """Maps `z [N, z_dim]` and labels `[N]` to images `[N, H, W, C]`."""
    size = sagan.check_size("biggan", self.image_shape)
    labels = sagan.condition(self, labels)
    first, *channels = (self.width * m for m in _CHANNELS[size])
    z, *chunks = _split(z, len(channels) + 1, size)
    if labels is not None:
      embed = nn.Embed(
        self.num_classes, _EMBEDDING, embedding_init=_init, name="embed"
      )
      shared = embed(labels)
      chunks = [jnp.concatenate([shared, c], axis=1) for c in chunks]

    def norm(x: jax.Array, vector: jax.Array) -> jax.Array:
      layer = norms.ConditionalBatchNorm(
        axis_name=self.axis_name,
        kernel_init=_init,
        wrap=layers.SpectralNorm,
        epsilon=_EPSILON,
      )
      return layer(x, vector, train)

    dense = nn.Dense(16 * first, kernel_init=_init)
    x = layers.SpectralNorm(dense)(z).reshape(-1, 4, 4, first)
    for features, chunk in zip(channels, chunks, strict=True):
      block_norm = functools.partial(norm, vector=chunk)
      x = sagan.up_block(x, features, block_norm, _init)
      if x.shape[1] == size // 2:
        x = attention.SelfAttention(_init)(x)
    last = norms.batch_norm(train, self.axis_name, epsilon=_EPSILON)
    conv = sagan.spectral_conv(_init, self.image_shape[2])
    return jax.nn.tanh(conv(jax.nn.relu(last(x))))


class Discriminator(nn.Module):
  """SAGAN's, wider, orthogonal at the start, attention at half the size.

  Attributes:
    image_shape: `(H, W, C)`, square, of 32, 64 or 128 pixels.
    num_classes: of the labels that are projected.
    axis_name: unused.
    width: the paper's channel multiplier ch.
    conditional: whether to use the labels of a dataset that has some.
  """

  image_shape: tuple[int, ...]
  num_classes: int = 0
  axis_name: str | None = None
  width: int = 96
  conditional: bool = True

  @nn.compact
  def __call__(self, images: jax.Array, labels=None, train: bool = True):
    """Maps images `[N, H, W, C]` and labels `[N]` to logits `[N]`."""
    del train
    size = sagan.check_size("biggan", self.image_shape)
    labels = sagan.condition(self, labels)
    return sagan.judge(
      images, labels, self.num_classes, self.width, size // 2, _init
    )
