"""Self-attention between the pixels of a feature map."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from ganjax.nets import layers, spectral


class SelfAttention(nn.Module):
  """x + gamma * attention(x), with gamma from 0 on (Zhang et al. 2019, eq. 3).

  Every pixel asks all others: the weights of pixel j are the softmax of
  query(x_j) . key(x_i) over i, and not scaled. As in the authors' code,
  queries and keys (the paper's g and f) have an eighth of the channels and
  values (h) half of them. The largest of 2x2 keys or values stands for the
  four. All four 1x1 convolutions are without bias and spectrally normalised.

  Attributes:
    kernel_init: of the convolutions.
  """

  kernel_init: nn.initializers.Initializer = nn.initializers.glorot_uniform()

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `[N, H, W, C]` to the same shape; H and W are even."""
    n, height, width, channels = x.shape

    # Of few channels an eighth may be none.
    def project(x: jax.Array, features: int, name: str) -> jax.Array:
      conv = layers.Conv(
        max(features, 1),
        kernel_size=1,
        use_bias=False,
        kernel_init=self.kernel_init,
        name=name,
      )
      return spectral.SpectralNorm(conv)(x)

    def rows(x: jax.Array) -> jax.Array:  # [N, H * W, C]
      return x.reshape(n, -1, x.shape[-1])

    query = rows(project(x, channels // 8, "query"))
    key = rows(max_pool(project(x, channels // 8, "key")))
    value = rows(max_pool(project(x, channels // 2, "value")))
    scores = jnp.einsum("nqc,nkc->nqk", query, key)
    # A thousand weights sum to one, which is too many for bfloat16.
    weights = jax.nn.softmax(scores.astype(jnp.float32)).astype(x.dtype)
    attended = jnp.einsum("nqk,nkc->nqc", weights, value)
    attended = attended.reshape(n, height, width, -1)
    # From 0 on: the layer starts as the identity.
    gamma = self.param("gamma", nn.initializers.zeros_init(), ())
    return x + gamma * project(attended, channels, "output")


def max_pool(x: jax.Array) -> jax.Array:
  """Halves the resolution of `[N, H, W, C]`: the largest of 2x2 pixels."""
  n, h, w, c = x.shape
  # Not `nn.max_pool`, whose window has no second derivative.
  return x.reshape(n, h // 2, 2, w // 2, 2, c).max((2, 4))
