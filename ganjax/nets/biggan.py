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

import flax.linen as nn
import jax
import jax.numpy as jnp

from ganjax import errors
from ganjax.nets import attention, norms, residual, sagan, spectral
from ganjax.nets.judged import Judged
from ganjax.nets.labels import condition

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
  """Returns equal chunks of `z [N, z_dim]`.

  Raises:
    UserError: z cannot be divided so; the error names the nearest z_dim that
      can.
  """
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
    width: the paper's channel multiplier ch.
    conditional: whether to use the labels of a dataset that has some.
  """

  image_shape: tuple[int, ...]
  num_classes: int = 0
  width: int = 96
  conditional: bool = True

  @nn.compact
  def __call__(
    self, z: jax.Array, labels: jax.Array | None = None, train: bool = True
  ) -> jax.Array:
    """Maps `z [N, z_dim]` and labels `[N]` to images `[N, H, W, C]`."""
    size = sagan.check_size("biggan", self.image_shape)
    labels = condition(self, labels, optional=True)
    first, *channels = (self.width * m for m in _CHANNELS[size])
    z, *chunks = _split(z, len(channels) + 1, size)
    if labels is not None:
      embed = nn.Embed(
        self.num_classes, _EMBEDDING, embedding_init=_init, name="embed"
      )
      shared = embed(labels)
      chunks = [jnp.concatenate([shared, c], axis=1) for c in chunks]

    dense = nn.Dense(16 * first, kernel_init=_init)
    x = spectral.SpectralNorm(dense)(z).reshape(-1, 4, 4, first)
    for features, chunk in zip(channels, chunks, strict=True):
      norm = _norm_by(chunk, train)
      x = sagan.block(x, features, _init, norm=norm, resample="up")
      if x.shape[1] == size // 2:
        x = attention.SelfAttention(_init)(x)
    # The last norm is a plain one: its scale and shift are learnt.
    x = jax.nn.relu(norms.batch_norm(train, epsilon=_EPSILON)(x))
    return jax.nn.tanh(sagan.spectral_conv(_init, self.image_shape[2])(x))


def _norm_by(vector: jax.Array, train: bool) -> residual.Map:
  """Returns what applies a new batch norm, scaled and shifted by a vector."""

  def norm(x: jax.Array) -> jax.Array:
    layer = norms.ConditionalBatchNorm(
      kernel_init=_init, wrap=spectral.SpectralNorm, epsilon=_EPSILON
    )
    return layer(x, vector, train)

  return norm


class Discriminator(nn.Module):
  """SAGAN's, wider, orthogonal at the start, attention at half the size.

  Attributes:
    image_shape: `(H, W, C)`, square, of 32, 64 or 128 pixels.
    num_classes: of the labels that are projected.
    width: the paper's channel multiplier ch.
    conditional: whether to use the labels of a dataset that has some.
  """

  image_shape: tuple[int, ...]
  num_classes: int = 0
  width: int = 96
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
    size = sagan.check_size("biggan", self.image_shape)
    return sagan.judge(
      images,
      condition(self, labels, optional=True),
      num_classes=self.num_classes,
      width=self.width,
      attention_size=size // 2,
      kernel_init=_init,
    )
