"""Fully connected pairs; the defaults are the MNIST pair of 2014.

Goodfellow et al. 2014, with the sizes and initialisations of the authors'
code: 2,503,984 and 1,231,441 parameters at 28x28x1 with z of 100.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from ganjax.nets import layers


class Generator(nn.Module):
  """z -> hidden layers -> image.

  Attributes:
    image_shape: `(H, W, C)`, or `(2,)` for points.
    num_classes: unused.
    axis_name: unused.
    hidden: units of each hidden layer.
    activation: of the hidden layers; a key of `layers.ACTIVATIONS`.
    output: the activation of the output.
    init_range: weights start at U(-init_range, init_range).
    data_bias: start the output's bias where z = 0 gives the mean image of the
      training set (2014: logit of the pixel means); needs a sigmoid output.
  """

  image_shape: tuple[int, ...]
  num_classes: int = 0
  axis_name: str | None = None
  hidden: tuple[int, ...] = (1200, 1200)
  activation: str = "relu"
  output: str = "sigmoid"
  init_range: float = 0.05
  data_bias: bool = True

  @nn.compact
  def __call__(self, z: jax.Array, labels=None, train: bool = True):
    """Maps `z [N, z_dim]` to images `[N, *image_shape]`."""
    del labels, train
    init = layers.uniform_init(self.init_range)
    activation = layers.ACTIVATIONS.find(self.activation)
    for units in self.hidden:
      z = activation(nn.Dense(units, kernel_init=init)(z))
    size = math.prod(self.image_shape)
    x = nn.Dense(size, kernel_init=init, name="output")(z)
    x = layers.ACTIVATIONS.find(self.output)(x)
    return x.reshape(-1, *self.image_shape)

  def init_from_data(self, params, images: jax.Array):
    """Returns `params` with the output's bias set from `images [N, ...]`."""
    if not self.data_bias or self.output != "sigmoid":
      return params
    mean = jnp.clip(images.mean(0).ravel(), 1e-7, 1.0 - 1e-7)
    bias = jnp.log(mean) - jnp.log1p(-mean)
    return {**params, "output": {**params["output"], "bias": bias}}


class Discriminator(nn.Module):
  """image -> maxout layers with dropout -> logit.

  Each maxout unit is the largest of `pieces` affine functions; with one piece
  and another `activation` the layers are ordinary ones.

  Attributes:
    image_shape: `(H, W, C)`, or `(2,)` for points.
    num_classes: unused.
    axis_name: the mapped axis, for dropout.
    hidden: maxout units of each hidden layer.
    pieces: affine pieces of each unit.
    activation: after the maximum.
    input_dropout: the rate at which pixels are dropped.
    dropout: the rate at which hidden units are dropped.
    init_range: weights start at U(-init_range, init_range).
  """

  image_shape: tuple[int, ...]
  num_classes: int = 0
  axis_name: str | None = None
  hidden: tuple[int, ...] = (240, 240)
  pieces: int = 5
  activation: str = "linear"
  input_dropout: float = 0.2
  dropout: float = 0.5
  init_range: float = 0.005

  @nn.compact
  def __call__(self, images: jax.Array, labels=None, train: bool = True):
    """Maps images `[N, *image_shape]` to logits `[N]`."""
    del labels
    init = layers.uniform_init(self.init_range)
    activation = layers.ACTIVATIONS.find(self.activation)
    drop = layers.Dropout(self.input_dropout, self.axis_name)
    x = drop(layers.flatten(images), train)
    for units in self.hidden:
      x = nn.Dense(units * self.pieces, kernel_init=init)(x)
      x = activation(x.reshape(-1, units, self.pieces).max(-1))
      x = layers.Dropout(self.dropout, self.axis_name)(x, train)
    return nn.Dense(1, kernel_init=init, name="output")(x)[:, 0]
