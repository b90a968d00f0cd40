"""Deep convolutional pairs (Radford et al. 2016).

Layers, initialisation and absent biases as "arch 0" of the relativistic GAN
(Jolicoeur-Martineau 2018): 4x4 kernels, stride 2, channels doubling with each
halving of the resolution down to 4x4. Its pairs for cats have a width of 64 at
64 and 128 pixels; at 256 one of 32, and a D that sees packs of two.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from ganjax import errors
from ganjax.nets import layers, norms

_init = nn.initializers.normal(0.02)


def _num_halvings(image_shape: tuple[int, ...]) -> int:
  """Returns how often an image is halved until it is 4 to 7 pixels wide."""
  size = image_shape[0]
  halvings = max(size, 1).bit_length() - 3
  if (
    len(image_shape) != 3
    or image_shape[1] != size
    or halvings < 1
    or size % 2**halvings
  ):
    raise errors.UserError(
      "net 'dcgan' needs square images of 8, 10, 12 or 14 pixels, doubled any "
      f"number of times (16, 28, 32, 64, ...), not {list(image_shape)}; "
      "set config.dataset.size or use net 'mlp'"
    )
  return halvings


class Generator(nn.Module):
  """z -> 4x4 -> ... -> image, batch norm and ReLU, tanh at the end.

  Attributes:
    image_shape: `(H, W, C)`, square.
    num_classes: of the labels, if `conditional`.
    axis_name: the mapped axis, for batch norm.
    width: channels before the last layer; twice as many before each earlier.
    output: the activation of the output.
    output_bias: whether the last layer has a bias: without one (arch 0) an
      even background, as that of digits, is slow to learn.
    conditional: whether labels matter.
    conditioning: how. "concatenation": they stand beside z as one-hot vectors
      (Mirza & Osindero 2014). "batch_norm": they scale and shift, in place of
      batch norm's scale and bias (de Vries et al. 2017).
  """

  image_shape: tuple[int, ...]
  num_classes: int = 0
  axis_name: str | None = None
  width: int = 64
  output: str = "tanh"
  output_bias: bool = False
  conditional: bool = False
  conditioning: str = "concatenation"

  @nn.compact
  def __call__(self, z: jax.Array, labels=None, train: bool = True):
    """Maps `z [N, z_dim]`, labels `[N]` to images `[N, H, W, C]`."""
    halvings = _num_halvings(self.image_shape)
    size = self.image_shape[0] // 2**halvings
    norm = self._norm(labels, train)
    if self.conditioning == "concatenation":
      z = layers.beside_classes(self, z, labels)
    channels = self.width * 2 ** (halvings - 1)
    # A transposed convolution of a single pixel is a dense layer.
    x = nn.Dense(size**2 * channels, use_bias=False, kernel_init=_init)(z)
    x = jax.nn.relu(norm()(x.reshape(-1, size, size, channels)))
    up = functools.partial(layers.ConvTranspose, kernel_init=_init)
    for i in range(halvings - 1):
      x = up(channels // 2 ** (i + 1), use_bias=False)(x)
      x = jax.nn.relu(norm()(x))
    x = up(self.image_shape[2], use_bias=self.output_bias)(x)
    return layers.ACTIVATIONS.find(self.output)(x)

  def _norm(self, labels, train: bool):
    """Returns the `() -> layer` of normalisation."""
    ways = ("concatenation", "batch_norm")
    if self.conditioning not in ways:
      raise errors.unknown("conditioning", self.conditioning, ways)
    labels = layers.condition(self, labels)
    if labels is None or self.conditioning == "concatenation":
      return functools.partial(
        norms.batch_norm, train, self.axis_name, scale_init=layers.scale_init
      )

    def by_label():
      norm = norms.ConditionalBatchNorm(self.num_classes, self.axis_name)
      return functools.partial(norm, condition=labels, train=train)

    return by_label


class Discriminator(nn.Module):
  """image -> ... -> 4x4 -> logit, leaky ReLU .2.

  Attributes:
    image_shape: `(H, W, C)`, square.
    num_classes: of the labels, for whatever goes by them.
    axis_name: the mapped axis, for batch norm.
    width: channels after the first layer; twice as many after each next.
    norm: "batch" (in all layers but the first), "spectral" (of all kernels) or
      "none". Without batch norm layers have biases, and D also sees what a
      whole batch of fakes has in common, such as its brightness.
    spectral_skip: layers without spectral norm: "head" is left out in the
      relativistic papers' setup.
    pack: how many images are judged together (PacGAN, Lin et al. 2018): so
      many neighbours in the batch are one image of as many times the
      channels, and there is one logit for each pack. Packs of a batch of 32
      need a `config.batch_size` of 32 * pack. Penalties on gradients then
      take the norm of a pack's logit with respect to each of its images.
    conditional: whether labels stand beside the images' channels, as a
      constant one for each class (Mirza & Osindero 2014).
    head: "linear", "projection" or "auxiliary", see `layers.head`: another way
      to go by labels, whether `conditional` or not.
  """

  image_shape: tuple[int, ...]
  num_classes: int = 0
  axis_name: str | None = None
  width: int = 64
  norm: str = "batch"
  spectral_skip: tuple[str, ...] = ()
  pack: int = 1
  conditional: bool = False
  head: str = "linear"

  @nn.compact
  def __call__(self, images: jax.Array, labels=None, train: bool = True):
    """Maps images `[N, H, W, C]`, labels `[N]` to logits `[N / pack]`."""
    if self.is_initializing():  # From any number of images.
      images, labels = jax.tree.map(
        lambda x: jnp.repeat(x, self.pack, axis=0), (images, labels)
      )
    batch = self.norm == "batch"
    batch_norm = functools.partial(
      norms.batch_norm, train, self.axis_name, scale_init=layers.scale_init
    )
    wrap = layers.spectral(self.norm, self.spectral_skip, ("head",))
    x = pack(layers.beside_classes(self, images, labels), self.pack)
    for i in range(_num_halvings(self.image_shape)):
      conv = layers.Conv(
        self.width * 2**i, 4, 2, use_bias=not batch, kernel_init=_init
      )
      x = wrap(conv)(x)
      x = jax.nn.leaky_relu(batch_norm()(x) if i and batch else x, 0.2)

    def linear(features: int, **fields) -> nn.Module:
      fields = {"use_bias": not batch, **fields}
      return wrap(nn.Dense(features, kernel_init=_init, **fields), "head")

    return layers.head(self, linear, layers.flatten(x), labels)


class Encoder(nn.Module):
  """image -> ... -> 4x4 -> code: the discriminator with another head.

  Attributes:
    image_shape: `(H, W, C)`, square.
    num_classes: of the labels, if `conditional`.
    axis_name: the mapped axis, for batch norm.
    outputs: how many numbers a code has; the system says it.
    width: channels after the first layer; twice as many after each next.
    norm: "batch" (in all layers but the first) or "none".
    conditional: whether labels stand beside the images' channels, as a
      constant one for each class.
  """

  image_shape: tuple[int, ...]
  num_classes: int = 0
  axis_name: str | None = None
  outputs: int = 1
  width: int = 64
  norm: str = "batch"
  conditional: bool = False

  @nn.compact
  def __call__(self, images: jax.Array, labels=None, train: bool = True):
    """Maps images `[N, H, W, C]`, labels `[N]` to `[N, outputs]`."""
    if self.norm not in ("batch", "none"):
      raise errors.unknown("norm", self.norm, ("batch", "none"))
    x = layers.beside_classes(self, images, labels)
    for i in range(_num_halvings(self.image_shape)):
      x = layers.Conv(self.width * 2**i, 4, 2, kernel_init=_init)(x)
      if i and self.norm == "batch":
        x = norms.batch_norm(train, self.axis_name)(x)
      x = jax.nn.leaky_relu(x, 0.2)
    return nn.Dense(self.outputs, name="output")(layers.flatten(x))


def pack(images: jax.Array, size: int) -> jax.Array:
  """Maps `[N, H, W, C]` to `[N / size, H, W, size * C]`: neighbours together.

  Raises:
    UserError: N is not divisible by `size`.
  """
  n, h, w, c = images.shape
  if n % size:
    raise errors.UserError(
      f"net 'dcgan' cannot make packs of {size} of {n} images: make "
      f"config.batch_size a multiple of {size} times the number of devices"
    )
  packs = images.reshape(n // size, size, h, w, c).transpose(0, 2, 3, 1, 4)
  return packs.reshape(n // size, h, w, size * c)
