"""DINOv2: a vision transformer that learned without labels.

Stein et al. 2023 (arXiv 2306.04675) find that distances in its features agree
with people where those of Inception do not. The network is that of Oquab et
al. 2023 (arXiv 2304.07193) without registers, looked at as their dgm-eval
does.
"""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ganjax import data, errors
from ganjax.evaluation import extractors
from ganjax.evaluation.extractors import Features
from ganjax.evaluation.extractors import resize as resizing
from ganjax.evaluation.extractors import weights as weight_files

PIXELS = 224
PATCH = 14
TRAINED = 37  # Patches a side in the last phase of training, at 518 pixels.
CHUNK = 32
MEAN = (0.485, 0.456, 0.406)  # Of ImageNet, in [0, 1].
STD = (0.229, 0.224, 0.225)


class Size(NamedTuple):
  """A published size of the network."""

  width: int
  depth: int
  num_heads: int


SIZES = {
  "vits14": Size(384, 12, 6),
  "vitb14": Size(768, 12, 12),
  "vitl14": Size(1024, 24, 16),
}


def _norm(name: str) -> nn.LayerNorm:
  """Returns the layer norm of the published network."""
  # The fast variance, E x^2 - (E x)^2, loses digits where the mean is large.
  return nn.LayerNorm(epsilon=1e-6, use_fast_variance=False, name=name)


class Block(nn.Module):
  """A pre-norm transformer block with LayerScale (Touvron et al. 2021)."""

  num_heads: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps tokens `[N, T, width]` to the same shape."""
    width = x.shape[-1]

    def add(x: jax.Array, y: jax.Array, name: str) -> jax.Array:
      gamma = self.param(name, nn.initializers.ones, (width,))
      return x + y * gamma[None, None]

    y = _norm("norm1")(x)
    qkv = nn.Dense(3 * width, name="attn.qkv")(y)
    qkv = qkv.reshape(*x.shape[:2], 3, self.num_heads, -1)
    y = nn.dot_product_attention(
      query=qkv[:, :, 0], key=qkv[:, :, 1], value=qkv[:, :, 2]
    )
    y = nn.Dense(width, name="attn.proj")(y.reshape(x.shape))
    x = add(x, y, "ls1.gamma")
    y = _norm("norm2")(x)
    y = nn.gelu(nn.Dense(4 * width, name="mlp.fc1")(y), approximate=False)
    y = nn.Dense(width, name="mlp.fc2")(y)
    return add(x, y, "ls2.gamma")


class Dinov2(nn.Module):
  """The network; its parameters are named as the published ones.

  Attributes:
    size: one of `SIZES`.
  """

  size: Size

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps float32 `[N, H, W, 3]`, normalised, to `[N, width]`.

    That is the class token behind the last norm. H and W are equal, and
    multiples of 14 pixels.
    """
    width, depth, num_heads = self.size
    patches = nn.Conv(
      width, (PATCH, PATCH), (PATCH, PATCH), "VALID", name="patch_embed.proj"
    )(x)
    zeros = nn.initializers.zeros
    cls = self.param("cls_token", zeros, (1, 1, width))
    position = self.param("pos_embed", zeros, (1, TRAINED**2 + 1, width))
    # The first position is that of the class token, the others are a square.
    cls = cls + position[:, :1]
    position = position[:, 1:]
    position = position.reshape(TRAINED, TRAINED, width)
    matrix = interpolation(TRAINED, patches.shape[1])
    position = jnp.einsum("ih,jw,hwc->ijc", matrix, matrix, position)
    tokens = (patches + position[None]).reshape(len(x), -1, width)
    cls = jnp.broadcast_to(cls, (len(x), 1, width))
    x = jnp.concatenate([cls, tokens], axis=1)
    for i in range(depth):
      x = Block(num_heads, name=f"blocks.{i}")(x)
    return _norm("norm")(x[:, 0])


@functools.cache
def interpolation(old: int, new: int) -> np.ndarray:
  """Returns the bicubic resize of a row as a matrix, float32 `[new, old]`.

  It is PyTorch's: Keys' kernel with a = -0.75, edges repeated, no blur. The
  published code asks for a scale of (new + 0.1) / old rather than for `new`
  entries, which moves the points a little, and the features were learnt so.
  """
  if old == new:
    return np.eye(old, dtype=np.float32)
  a = -0.75
  matrix = np.zeros((new, old))
  for i in range(new):
    position = (i + 0.5) * old / (new + 0.1) - 0.5
    for tap in range(int(np.floor(position)) - 1, int(np.floor(position)) + 3):
      t = abs(position - tap)
      if t <= 1:
        weight = (a + 2) * t**3 - (a + 3) * t**2 + 1
      else:
        weight = a * (t**3 - 5 * t**2 + 8 * t - 4)
      matrix[i, np.clip(tap, 0, old - 1)] += weight
  return matrix.astype(np.float32)


def kind(size: str) -> str:
  """Returns what a file with the weights of a size says that it holds."""
  return f"dinov2:{size}"


@functools.cache
def shapes(size: str) -> weight_files.Shapes:
  """Returns the shape of each parameter."""
  return weight_files.shapes_of(Dinov2(SIZES[size]), PATCH)


@extractors.register(name="dinov2")
def make(
  dataset: str,
  train: data.Arrays,
  test: data.Arrays,
  weights: str = "",
  model: str = "vitl14",
  resize: str = "pil",
) -> weight_files.Pretrained:
  """Returns the network with its published weights. It has no logits.

  Args:
    dataset: any.
    train: of uint8 images with one or three channels.
    test: any.
    weights: path of the .npz that `ganjax convert` made; by default
      the one that `$GANJAX_DINOV2` names.
    model: "vits14", "vitb14" or "vitl14"; the paper's is the last.
    resize: how images become 224 pixels wide: see `resize.resize`. "pil" is
      what dgm-eval does by default, "clean" what it does when asked to.

  Raises:
    UserError: no weights, damaged or wrong ones, an unknown model or mode, or
      a dataset without images.
  """
  del dataset, test
  if model not in SIZES:
    raise errors.unknown("model of DINOv2", model, SIZES)
  to_size = resizing.find(resize)
  resizing.rgb(np.asarray(train.images[:1]), "dinov2")
  public = f"dinov2_{model}_pretrain.pth (facebookresearch/dinov2 links to it)"
  path = weight_files.locate("dinov2", weights, "GANJAX_DINOV2", public)
  net = Dinov2(SIZES[model])

  def apply(params: Mapping[str, Any], images: jax.Array) -> Features:
    x = to_size(images.astype(jnp.float32), PIXELS) / 255
    x = (x - np.reshape(MEAN, (1, 1, 1, 3))) / np.reshape(STD, (1, 1, 1, 3))
    out: Any = net.apply({"params": params}, x.astype(jnp.float32))
    return Features(out)

  read = weight_files.read(path, kind(model), shapes(model))
  return weight_files.Pretrained(
    name=kind(model),
    weights=read,
    apply=apply,
    protocol={"resize": resize},
    chunk=CHUNK,
  )
