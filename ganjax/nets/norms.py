"""Normalisations over the batch, plain and conditional.

All of them are over the global batch: where a step is mapped over devices,
means and variances are those of all devices' examples together.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ganjax import parallel
from ganjax.nets import layers


def batch_norm(train: bool, **fields: Any) -> nn.BatchNorm:
  """Returns batch norm over the global batch, as the papers' codes have it.

  Its decay .9 and epsilon 1e-5 are the defaults of their framework. Means and
  variances are float32 whatever precision the input has.

  Args:
    train: normalise by the batch, not by the running statistics.
    **fields: of `nn.BatchNorm`, e.g. `scale_init`.
  """
  # Flax itself leaves the axis out while a net is initialised.
  axis_name = parallel.AXIS if parallel.axis_is_bound() else None
  fields = {"momentum": 0.9, "epsilon": 1e-5, **fields}
  return nn.BatchNorm(
    use_running_average=not train, axis_name=axis_name, **fields
  )


class ConditionalBatchNorm(nn.Module):
  """Batch norm, scaled by 1 + gamma(c) and shifted by beta(c).

  De Vries et al. 2017; Miyato & Koyama 2018. With labels, gamma and beta are
  rows of tables that start at 0. With vectors (BigGAN's shared embedding, or
  the hidden units of self-modulation) they are linear maps without bias.

  Attributes:
    num_classes: rows of the tables; unused with vectors.
    kernel_init: of the linear maps.
    wrap: `layer -> layer`, e.g. `spectral.SpectralNorm`, for the linear maps.
    epsilon: added to the variance.
  """

  num_classes: int = 0
  kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
  wrap: Callable[[nn.Module], Any] = layers.identity
  epsilon: float = 1e-5

  @nn.compact
  def __call__(
    self, x: jax.Array, condition: jax.Array, train: bool
  ) -> jax.Array:
    """Maps `x [N, H, W, C]`, with labels `[N]` or vectors `[N, d]`."""
    norm = batch_norm(
      train, use_scale=False, use_bias=False, epsilon=self.epsilon
    )
    shape = (len(x), *(1,) * (x.ndim - 2), x.shape[-1])

    def modulation(name: str) -> jax.Array:
      if condition.ndim == 1:
        zeros = nn.initializers.zeros_init()
        table = nn.Embed(
          self.num_classes, x.shape[-1], embedding_init=zeros, name=name
        )
        rows = table(condition)
      else:
        linear = nn.Dense(
          x.shape[-1], use_bias=False, kernel_init=self.kernel_init, name=name
        )
        rows = self.wrap(linear)(condition)
      return jnp.broadcast_to(rows.reshape(shape), x.shape)

    # Gamma is what differs from 1, so a net starts as if there were no
    # condition.
    return norm(x) * (1 + modulation("gamma")) + modulation("beta")


class SelfModulatedBatchNorm(nn.Module):
  """Batch norm, scaled and shifted by functions of z (Chen et al. 2019).

  Both are linear in the hidden layer of a perceptron, V max(0, U z + b). As in
  the authors' code the scale is 1 plus that, and weights start at N(0, 0.02).

  Attributes:
    hidden: units of the hidden layer.
  """

  hidden: int = 32

  @nn.compact
  def __call__(self, x: jax.Array, z: jax.Array, train: bool) -> jax.Array:
    """Maps `x [N, H, W, C]`, with `z [N, z_dim]`."""
    init = nn.initializers.normal(0.02)
    hidden = jax.nn.relu(nn.Dense(self.hidden, kernel_init=init)(z))
    norm = ConditionalBatchNorm(kernel_init=init)
    return norm(x, hidden, train)
