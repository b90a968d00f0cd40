"""Inception v3 of December 2015: the network of the FID and Inception score.

It is the graph that TensorFlow published as classify_image_graph_def.pb, with
which Salimans et al. 2016 and Heusel et al. 2017 defined their scores. The
architecture is that of Szegedy et al. 2016 (arXiv 1512.00567), table 1, with
these differences: average pools leave the padding out of the mean, the last
block pools by the maximum, and there are 1008 classes, the last 8 unused.
"""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ganjax import data
from ganjax.evaluation import extractors
from ganjax.evaluation.extractors import Features
from ganjax.evaluation.extractors import resize as resizing
from ganjax.evaluation.extractors import weights as weight_files

KIND = "inception:2015"
PUBLIC = (
  "pt_inception-2015-12-05-6726825d.pth (in the releases of "
  "mseitzer/pytorch-fid on GitHub)"
)
SIZE = 299
CHUNK = 32  # An image's activations take tens of MB.


class Conv(NamedTuple):
  """A convolution with batch norm and ReLU; with a stride of 2, no padding."""

  name: str
  features: int
  kernel: tuple[int, int] = (1, 1)
  strides: int = 1


class Split(NamedTuple):
  """Convolutions of the same input, side by side."""

  convs: tuple[Conv, ...]


class Block(NamedTuple):
  """Branches of the same input, side by side, and a pool.

  Attributes:
    branches: of layers that follow each other.
    pool_features: of the convolution behind the 3x3 pool; 0 for a block
      without it, which halves the resolution.
    max_pool: whether the pool takes the maximum, not the mean.
  """

  branches: tuple[tuple[Conv | Split, ...], ...]
  pool_features: int
  max_pool: bool


def _block_a(pool_features: int) -> Block:
  """Returns a block at 35x35 pixels."""
  return Block(
    (
      (Conv("branch1x1", 64),),
      (Conv("branch5x5_1", 48), Conv("branch5x5_2", 64, (5, 5))),
      (
        Conv("branch3x3dbl_1", 64),
        Conv("branch3x3dbl_2", 96, (3, 3)),
        Conv("branch3x3dbl_3", 96, (3, 3)),
      ),
    ),
    pool_features,
    max_pool=False,
  )


def _block_c(width: int) -> Block:
  """Returns a block at 17x17 pixels, with factors of 7x7 convolutions."""
  return Block(
    (
      (Conv("branch1x1", 192),),
      (
        Conv("branch7x7_1", width),
        Conv("branch7x7_2", width, (1, 7)),
        Conv("branch7x7_3", 192, (7, 1)),
      ),
      (
        Conv("branch7x7dbl_1", width),
        Conv("branch7x7dbl_2", width, (7, 1)),
        Conv("branch7x7dbl_3", width, (1, 7)),
        Conv("branch7x7dbl_4", width, (7, 1)),
        Conv("branch7x7dbl_5", 192, (1, 7)),
      ),
    ),
    192,
    max_pool=False,
  )


def _split(name: str) -> Split:
  """Returns the two factors of a 3x3 convolution, side by side."""
  row = Conv(name + "a", 384, (1, 3))
  column = Conv(name + "b", 384, (3, 1))
  return Split((row, column))


def _block_e(max_pool: bool) -> Block:
  """Returns a block at 8x8 pixels."""
  return Block(
    (
      (Conv("branch1x1", 320),),
      (Conv("branch3x3_1", 384), _split("branch3x3_2")),
      (
        Conv("branch3x3dbl_1", 448),
        Conv("branch3x3dbl_2", 384, (3, 3)),
        _split("branch3x3dbl_3"),
      ),
    ),
    192,
    max_pool,
  )


_BLOCK_B = Block(
  (
    (Conv("branch3x3", 384, (3, 3), 2),),
    (
      Conv("branch3x3dbl_1", 64),
      Conv("branch3x3dbl_2", 96, (3, 3)),
      Conv("branch3x3dbl_3", 96, (3, 3), 2),
    ),
  ),
  0,
  max_pool=True,
)
_BLOCK_D = Block(
  (
    (Conv("branch3x3_1", 192), Conv("branch3x3_2", 320, (3, 3), 2)),
    (
      Conv("branch7x7x3_1", 192),
      Conv("branch7x7x3_2", 192, (1, 7)),
      Conv("branch7x7x3_3", 192, (7, 1)),
      Conv("branch7x7x3_4", 192, (3, 3), 2),
    ),
  ),
  0,
  max_pool=True,
)

BLOCKS = {
  "Mixed_5b": _block_a(32),
  "Mixed_5c": _block_a(64),
  "Mixed_5d": _block_a(64),
  "Mixed_6a": _BLOCK_B,
  "Mixed_6b": _block_c(128),
  "Mixed_6c": _block_c(160),
  "Mixed_6d": _block_c(160),
  "Mixed_6e": _block_c(192),
  "Mixed_7a": _BLOCK_D,
  "Mixed_7b": _block_e(max_pool=False),
  "Mixed_7c": _block_e(max_pool=True),
}


class FixedNorm(nn.Module):
  """Batch norm whose mean and variance are parameters."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `[N, H, W, C]` to the same shape."""
    ones = nn.initializers.ones
    scale = self.param("scale", ones, x.shape[-1:])
    bias = self.param("bias", ones, x.shape[-1:])
    mean = self.param("mean", ones, x.shape[-1:])
    var = self.param("var", ones, x.shape[-1:])
    # Scale and shift of the normalised x, as one scale and one shift.
    gain = scale * jax.lax.rsqrt(var + 1e-3)
    return x * gain[None, None, None] + (bias - mean * gain)[None, None, None]


class ConvNorm(nn.Module):
  """The layer that a `Conv` describes."""

  conv: Conv
  padding: str

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `[N, H, W, C]` to `[N, H', W', features]`, 0 or more."""
    strides = self.conv.strides
    x = nn.Conv(
      self.conv.features,
      self.conv.kernel,
      strides=(strides, strides),
      padding=self.padding,
      use_bias=False,
      name="conv",
    )(x)
    return nn.relu(FixedNorm(name="bn")(x))


class Mixed(nn.Module):
  """The layers that a `Block` describes."""

  block: Block

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `[N, H, W, C]` to all branches, one behind the other."""

    def apply(conv: Conv, x: jax.Array) -> jax.Array:
      padding = "SAME" if conv.strides == 1 else "VALID"
      return ConvNorm(conv, padding, name=conv.name)(x)

    outputs = []
    for branch in self.block.branches:
      y = x
      for part in branch:
        if isinstance(part, Split):
          y = jnp.concatenate([apply(conv, y) for conv in part.convs], -1)
        else:
          y = apply(part, y)
      outputs.append(y)
    if not self.block.pool_features:
      pool = nn.max_pool(x, (3, 3), (2, 2))
    elif self.block.max_pool:
      pool = nn.max_pool(x, (3, 3), padding="SAME")
    else:
      pool = nn.avg_pool(x, (3, 3), padding="SAME", count_include_pad=False)
    if self.block.pool_features:
      pool = apply(Conv("branch_pool", self.block.pool_features), pool)
    return jnp.concatenate([*outputs, pool], -1)


class Inception(nn.Module):
  """The network; its parameters are named as in the PyTorch ports."""

  @nn.compact
  def __call__(self, x: jax.Array) -> Features:
    """Maps float32 `[N, H, W, 3]` in [-1, 1) to `[N, 2048]`, `[N, 1008]`.

    The logits have no bias: that is how the Inception score has been computed
    from the beginning (Salimans et al. 2016, their code).
    """
    for conv, padding in (
      (Conv("Conv2d_1a_3x3", 32, (3, 3), 2), "VALID"),
      (Conv("Conv2d_2a_3x3", 32, (3, 3)), "VALID"),
      (Conv("Conv2d_2b_3x3", 64, (3, 3)), "SAME"),
    ):
      x = ConvNorm(conv, padding, name=conv.name)(x)
    x = nn.max_pool(x, (3, 3), (2, 2))
    for conv in (
      Conv("Conv2d_3b_1x1", 80),
      Conv("Conv2d_4a_3x3", 192, (3, 3)),
    ):
      x = ConvNorm(conv, "VALID", name=conv.name)(x)
    x = nn.max_pool(x, (3, 3), (2, 2))
    for name, block in BLOCKS.items():
      x = Mixed(block, name=name)(x)
    features = x.mean((1, 2))
    logits = nn.Dense(1008, use_bias=False, name="fc")(features)
    return Features(features, logits)


@functools.cache
def shapes() -> weight_files.Shapes:
  """Returns the shape of each parameter."""
  # Images of 75 pixels are the smallest that it can see.
  return weight_files.shapes_of(Inception(), 75)


@extractors.register(name="inception")
def make(
  dataset: str,
  train: data.Arrays,
  test: data.Arrays,
  weights: str = "",
  resize: str = "tf1",
) -> weight_files.Pretrained:
  """Returns the network with its published weights.

  Args:
    dataset: any.
    train: of uint8 images with one or three channels.
    test: any.
    weights: path of the .npz that `ganjax convert` made; by default the one
      that `$GANJAX_INCEPTION` names.
    resize: how images become 299 pixels wide: see `resize.resize`. "tf1" is
      that of the FID.

  Raises:
    UserError: no weights, damaged or wrong ones, an unknown mode, or a dataset
      without images.
  """
  del dataset, test
  to_size = resizing.find(resize)
  resizing.rgb(np.asarray(train.images[:1]), "inception")
  path = weight_files.locate("inception", weights, "GANJAX_INCEPTION", PUBLIC)

  def apply(params: Mapping[str, Any], images: jax.Array) -> Features:
    x = to_size(images.astype(jnp.float32), SIZE)
    out: Any = Inception().apply({"params": params}, (x - 128) / 128)
    return out

  read = weight_files.read(path, KIND, shapes())
  return weight_files.Pretrained(
    name=KIND,
    weights=read,
    apply=apply,
    protocol={"resize": resize},
    chunk=CHUNK,
  )
