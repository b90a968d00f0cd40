"""Fully connected pairs; the defaults are the MNIST pair of 2014.

Goodfellow et al. 2014, with the sizes and initialisations of the authors'
code: 2,503,984 and 1,231,441 parameters at 28x28x1 with z of 100. Their other
pairs, by fields of G and D:

- TFD, first stage: `hidden=(8000, 8000), activation="relu,sigmoid",
  sigmoid_bias=-2.0, output_nonzero=100`; D `hidden=(1200, 1200)`.
- TFD, second stage: the same G with `front=(8000, 100)`, whose parameters but
  for those of the front are those of the first stage; a fresh D.
- CIFAR-10: `hidden=(8000, 8000), activation="relu,sigmoid", output="linear",
  output_range=0.5`; D `hidden=(1600, 1600)`.
"""

import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ganjax import errors
from ganjax.nets import layers
from ganjax.nets.judged import Judged
from ganjax.nets.labels import beside_classes


class Generator(nn.Module):
  """z -> hidden layers -> image.

  Attributes:
    image_shape: `(H, W, C)`, or `(2,)` for points.
    num_classes: of the labels, if `conditional`.
    hidden: units of each hidden layer.
    front: units of layers before these: the last makes a z for the rest.
    activation: of the hidden layers, a key of `layers.ACTIVATIONS`; or one for
      each, separated by commas, in which case the front has as many layers.
    output: the activation of the output.
    init_range: weights start at U(-init_range, init_range).
    output_range: the same for the output's weights; `init_range` if None.
    output_nonzero: if not 0, so many weights of each output unit start at
      N(0, 1) instead, and its others at 0 (Martens 2010).
    sigmoid_bias: where the biases of sigmoid hidden layers start.
    data_bias: start the output's bias where z = 0 gives the mean image of the
      training set (2014: logit of the pixel means); needs a sigmoid output.
    conditional: whether labels stand beside z, as one-hot vectors.
  """

  image_shape: tuple[int, ...]
  num_classes: int = 0
  hidden: tuple[int, ...] = (1200, 1200)
  front: tuple[int, ...] = ()
  activation: str = "relu"
  output: str = "sigmoid"
  init_range: float = 0.05
  output_range: float | None = None
  output_nonzero: int = 0
  sigmoid_bias: float = 0.0
  data_bias: bool = True
  conditional: bool = False

  @nn.compact
  def __call__(
    self, z: jax.Array, labels: jax.Array | None = None, train: bool = True
  ) -> jax.Array:
    """Maps `z [N, z_dim]`, labels `[N]` to images `[N, *image_shape]`."""
    del train
    z = beside_classes(self, z, labels)
    # All but the front is named as it is without one, so that a net without
    # can be its end.
    for i, (units, name) in enumerate(self._with_activations(self.front)):
      z = self._hidden_layer(z, units, name, layer_name=f"front_{i}")
    for units, name in self._with_activations(self.hidden):
      z = self._hidden_layer(z, units, name)
    init = layers.uniform_init(self.output_range or self.init_range)
    if self.output_nonzero:
      init = sparse_init(self.output_nonzero)
    size = math.prod(self.image_shape)
    x = nn.Dense(size, kernel_init=init, name="output")(z)
    x = layers.activation(self.output)(x)
    return x.reshape(-1, *self.image_shape)

  def _with_activations(self, units: tuple[int, ...]) -> list[tuple[int, str]]:
    """Returns of each layer its units and the name of its activation."""
    names = _per_layer(self.activation, len(units))
    return list(zip(units, names, strict=True))

  def _hidden_layer(
    self,
    x: jax.Array,
    units: int,
    activation: str,
    layer_name: str | None = None,
  ) -> jax.Array:
    """Maps `[N, d]` to `[N, units]`."""
    bias = self.sigmoid_bias if activation == "sigmoid" else 0.0
    layer = nn.Dense(
      units,
      kernel_init=layers.uniform_init(self.init_range),
      bias_init=nn.initializers.constant(bias),
      name=layer_name,
    )
    return layers.activation(activation)(layer(x))

  def init_from_data(
    self, params: Mapping[str, Any], images: jax.Array
  ) -> Mapping[str, Any]:
    """Returns `params` with the output's bias set from `images [N, ...]`."""
    if not self.data_bias or self.output != "sigmoid":
      return params
    # Pixels that are always black or white would need infinite logits.
    mean = jnp.clip(images.mean(0).ravel(), 1e-7, 1.0 - 1e-7)
    bias = jnp.log(mean) - jnp.log1p(-mean)
    return {**params, "output": {**params["output"], "bias": bias}}


def _per_layer(activation: str, num_layers: int) -> list[str]:
  """Returns a name for each layer from one name, or from as many."""
  names = [name.strip() for name in activation.split(",")]
  if len(names) == 1:
    return names * num_layers
  if num_layers not in (0, len(names)):
    raise errors.UserError(
      f"net 'mlp': activation={activation!r} names {len(names)} layers and "
      f"there are {num_layers}; name one for all or one for each"
    )
  return names[:num_layers]


def sparse_init(num_nonzero: int) -> nn.initializers.Initializer:
  """Returns an initialiser that connects each unit to few inputs.

  So many weights of each unit start at N(0, 1), and its others at 0 (Martens
  2010, "Deep learning via Hessian-free optimization"). With fewer inputs than
  that all are connected.
  """

  def init(key, shape, dtype=jnp.float32):
    keys = jax.random.split(key)
    first = jnp.arange(shape[0])[:, None] < num_nonzero
    chosen = jax.random.permutation(
      keys[0], jnp.broadcast_to(first, shape), axis=0, independent=True
    )
    return jnp.where(chosen, jax.random.normal(keys[1], shape, dtype), 0.0)

  return init


class Discriminator(nn.Module):
  """image -> maxout layers with dropout -> logit.

  Each maxout unit is the largest of `pieces` affine functions; with one piece
  and another `activation` the layers are ordinary ones.

  Attributes:
    image_shape: `(H, W, C)`, or `(2,)` for points.
    num_classes: of the labels, if `conditional`.
    hidden: maxout units of each hidden layer.
    pieces: affine pieces of each unit.
    activation: after the maximum.
    input_dropout: the rate at which pixels are dropped.
    dropout: the rate at which hidden units are dropped.
    init_range: weights start at U(-init_range, init_range).
    conditional: whether labels stand beside the pixels, as one-hot vectors
      that are never dropped.
  """

  image_shape: tuple[int, ...]
  num_classes: int = 0
  hidden: tuple[int, ...] = (240, 240)
  pieces: int = 5
  activation: str = "linear"
  input_dropout: float = 0.2
  dropout: float = 0.5
  init_range: float = 0.005
  conditional: bool = False

  @nn.compact
  def __call__(
    self,
    images: jax.Array,
    labels: jax.Array | None = None,
    train: bool = True,
  ) -> Judged:
    """Judges images `[N, *image_shape]` with labels `[N]`: logits `[N]`."""
    init = layers.uniform_init(self.init_range)
    activation = layers.activation(self.activation)
    drop = layers.Dropout(self.input_dropout)
    x = drop(layers.flatten(images), train)
    x = beside_classes(self, x, labels)
    for units in self.hidden:
      x = nn.Dense(units * self.pieces, kernel_init=init)(x)
      x = activation(x.reshape(-1, units, self.pieces).max(-1))
      x = layers.Dropout(self.dropout)(x, train)
    logits = nn.Dense(1, kernel_init=init, name="output")(x)[:, 0]
    return Judged(logits, x)


class Encoder(nn.Module):
  """image -> hidden layers -> code.

  Attributes:
    image_shape: `(H, W, C)`, or `(2,)` for points.
    num_classes: of the labels, if `conditional`.
    outputs: how many numbers a code has; the system says it.
    hidden: units of each hidden layer.
    activation: of the hidden layers, a key of `layers.ACTIVATIONS`.
    conditional: whether labels stand beside the pixels, as one-hot vectors.
  """

  image_shape: tuple[int, ...]
  num_classes: int = 0
  outputs: int = 1
  hidden: tuple[int, ...] = (500, 500)
  activation: str = "relu"
  conditional: bool = False

  @nn.compact
  def __call__(
    self,
    images: jax.Array,
    labels: jax.Array | None = None,
    train: bool = True,
  ) -> jax.Array:
    """Maps images `[N, *image_shape]`, labels `[N]` to `[N, outputs]`."""
    del train
    activation = layers.activation(self.activation)
    x = beside_classes(self, layers.flatten(images), labels)
    for units in self.hidden:
      x = activation(nn.Dense(units)(x))
    return nn.Dense(self.outputs, name="output")(x)
