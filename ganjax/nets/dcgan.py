"""Deep convolutional pairs (Radford et al. 2016).

Layers, initialisation and absent biases as "arch 0" of the relativistic GAN
(Jolicoeur-Martineau 2018): 4x4 kernels, stride 2, channels doubling with each
halving of the resolution down to 4x4. Its pairs for cats have a width of 64 at
64 and 128 pixels; at 256 one of 32, and a D that sees packs of two.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ganjax import errors
from ganjax.nets import layers, norms, residual, spectral
from ganjax.nets.judged import Judged
from ganjax.nets.labels import beside_classes, condition, head

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
  width: int = 64
  output: str = "tanh"
  output_bias: bool = False
  conditional: bool = False
  conditioning: str = "concatenation"

  @nn.compact
  def __call__(
    self, z: jax.Array, labels: jax.Array | None = None, train: bool = True
  ) -> jax.Array:
    """Maps `z [N, z_dim]`, labels `[N]` to images `[N, H, W, C]`."""
    halvings = _num_halvings(self.image_shape)
    size = self.image_shape[0] // 2**halvings
    norm = self._norm(labels, train)
    if self.conditioning == "concatenation":
      z = beside_classes(self, z, labels)
    channels = self.width * 2 ** (halvings - 1)
    # A transposed convolution of a single pixel is a dense layer.
    x = nn.Dense(size**2 * channels, use_bias=False, kernel_init=_init)(z)
    x = jax.nn.relu(norm(x.reshape(-1, size, size, channels)))
    for _ in range(halvings - 1):
      channels //= 2
      up = layers.ConvTranspose(channels, use_bias=False, kernel_init=_init)
      x = jax.nn.relu(norm(up(x)))
    last = layers.ConvTranspose(
      self.image_shape[2], use_bias=self.output_bias, kernel_init=_init
    )
    return layers.activation(self.output)(last(x))

  def _norm(self, labels: jax.Array | None, train: bool) -> residual.Map:
    """Returns what applies a new normalisation each time it is called."""
    ways = ("concatenation", "batch_norm")
    if self.conditioning not in ways:
      raise errors.unknown("conditioning", self.conditioning, ways)
    labels = condition(self, labels)

    def by_label(x: jax.Array) -> jax.Array:
      assert labels is not None  # Else it is `plain` that is returned.
      return norms.ConditionalBatchNorm(self.num_classes)(x, labels, train)

    def plain(x: jax.Array) -> jax.Array:
      return norms.batch_norm(train, scale_init=layers.scale_init)(x)

    if labels is None or self.conditioning == "concatenation":
      return plain
    return by_label


class Discriminator(nn.Module):
  """image -> ... -> 4x4 -> logit, leaky ReLU .2.

  Attributes:
    image_shape: `(H, W, C)`, square.
    num_classes: of the labels, for whatever goes by them.
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
    head: "linear", "projection" or "auxiliary", see `labels.head`: another way
      to go by labels, whether `conditional` or not.
  """

  image_shape: tuple[int, ...]
  num_classes: int = 0
  width: int = 64
  norm: str = "batch"
  spectral_skip: tuple[str, ...] = ()
  pack: int = 1
  conditional: bool = False
  head: str = "linear"

  @nn.compact
  def __call__(
    self,
    images: jax.Array,
    labels: jax.Array | None = None,
    train: bool = True,
  ) -> Judged:
    """Judges images `[N, H, W, C]`, labels `[N]`: logits `[N / pack]`."""
    if self.is_initializing():
      # So a net is made from any number of images, also from one.
      images, labels = jax.tree.map(
        lambda x: jnp.repeat(x, self.pack, axis=0), (images, labels)
      )
    # With batch norm arch 0 has no bias in any layer.
    use_bias = self.norm != "batch"
    wrap = spectral.wrapper(self.norm, self.spectral_skip, ("head",))
    x = pack(beside_classes(self, images, labels), self.pack)
    for i in range(_num_halvings(self.image_shape)):
      conv = layers.Conv(
        self.width * 2**i,
        kernel_size=4,
        stride=2,
        use_bias=use_bias,
        kernel_init=_init,
      )
      x = wrap(conv)(x)
      if i and self.norm == "batch":
        x = norms.batch_norm(train, scale_init=layers.scale_init)(x)
      x = layers.leaky_relu(x)

    def linear(outputs: int, **fields: Any) -> residual.Map:
      fields = {"use_bias": use_bias, **fields}
      return wrap(nn.Dense(outputs, kernel_init=_init, **fields), "head")

    return head(
      self.head,
      linear,
      layers.flatten(x),
      labels=labels,
      num_classes=self.num_classes,
    )


class Encoder(nn.Module):
  """image -> ... -> 4x4 -> code: the discriminator with another head.

  Attributes:
    image_shape: `(H, W, C)`, square.
    num_classes: of the labels, if `conditional`.
    outputs: how many numbers a code has; the system says it.
    width: channels after the first layer; twice as many after each next.
    norm: "batch" (in all layers but the first) or "none".
    conditional: whether labels stand beside the images' channels, as a
      constant one for each class.
  """

  image_shape: tuple[int, ...]
  num_classes: int = 0
  outputs: int = 1
  width: int = 64
  norm: str = "batch"
  conditional: bool = False

  @nn.compact
  def __call__(
    self,
    images: jax.Array,
    labels: jax.Array | None = None,
    train: bool = True,
  ) -> jax.Array:
    """Maps images `[N, H, W, C]`, labels `[N]` to `[N, outputs]`."""
    if self.norm not in ("batch", "none"):
      raise errors.unknown("norm", self.norm, ("batch", "none"))
    x = beside_classes(self, images, labels)
    for i in range(_num_halvings(self.image_shape)):
      conv = layers.Conv(
        self.width * 2**i, kernel_size=4, stride=2, kernel_init=_init
      )
      x = conv(x)
      if i and self.norm == "batch":
        x = norms.batch_norm(train)(x)
      x = layers.leaky_relu(x)
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
