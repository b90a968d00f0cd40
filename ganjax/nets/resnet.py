"""Residual networks of WGAN-GP and SNGAN, and the projection discriminator.

Gulrajani et al. 2017 (WGAN-GP), Miyato et al. 2018 (SNGAN) and Miyato & Koyama
2018 (projection), layers and initialisations as in their codes. Channels as
multiples of `width`, 64: of the generator from its first feature map on, of
the discriminator after each block; parameters for RGB and z of 128:

| pixels | generator         | parameters | discriminator     | parameters |
|--------|-------------------|------------|-------------------|------------|
| 32     | 4 4 4 4           |  4,276,739 | 2 2 2 2           |  1,053,825 |
| 48     | 8 4 2 1           |  4,878,083 | 1 2 4 8 16        | 10,141,441 |
| 64     | 16 8 4 2 1        | 12,220,675 | 1 2 4 8 16        | 10,141,441 |
| 128    | 16 16 8 4 2 1     | 32,150,787 | 1 2 4 8 16 16     | 29,017,857 |

Every block of G doubles the resolution. The blocks of D halve it, but for the
last two at 32 pixels and the last one at 48 and 128. Smaller images than 48
have the networks of 32 pixels, whose G begins at 4 to 7 pixels.

WGAN-GP's pair at 32 pixels has G with `width` 32, and D with `norm` "none" and
`pooling` "mean": 1,204,483 and 1,053,825 parameters. Its code can normalise D's
layers (layer norm), which its CIFAR-10 setting leaves off.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from ganjax import errors
from ganjax.nets import layers, norms, residual, spectral
from ganjax.nets.judged import Judged
from ganjax.nets.labels import condition, head

# Xavier's, with the gain sqrt(2) in the main paths of blocks.
_xavier = nn.initializers.glorot_uniform()
_xavier_relu = nn.initializers.variance_scaling(2.0, "fan_avg", "uniform")

POOLINGS = {"sum": jnp.sum, "mean": jnp.mean}


class Plan(NamedTuple):
  """Channels as multiples of the width, and how many of D's blocks halve."""

  generator: tuple[int, ...]
  discriminator: tuple[int, ...]
  num_halvings: int


PLANS = {
  48: Plan((8, 4, 2, 1), (1, 2, 4, 8, 16), 4),
  64: Plan((16, 8, 4, 2, 1), (1, 2, 4, 8, 16), 5),
  128: Plan((16, 16, 8, 4, 2, 1), (1, 2, 4, 8, 16, 16), 5),
}


def plan(image_shape: tuple[int, ...]) -> Plan:
  """Returns the channels for images `(H, W, C)`, or raises a `UserError`."""
  size = image_shape[0]
  square = len(image_shape) == 3 and image_shape[1] == size
  if square and size in PLANS:
    return PLANS[size]
  # So many doublings end at this size if they begin at 4 to 7 pixels.
  doublings = size.bit_length() - 3
  if square and 8 <= size < 48 and size % max(4, 2**doublings) == 0:
    return Plan((4,) * (doublings + 1), (2, 2, 2, 2), 2)
  raise errors.UserError(
    "net 'resnet' needs square images of 8, 12, 16, 20, 24, 28, 32, 40, 48, 64 "
    f"or 128 pixels, not {list(image_shape)}; set config.dataset.size"
  )


class Block(nn.Module):
  """A residual block, see `residual.block`, with Xavier's initialisation.

  Attributes:
    features: channels of the output.
    resample: "up" in the first convolution, "down" in the second one, or "".
    norm: `[N, H, W, C]` -> the same, a new layer each time it is called.
    wrap: `layer -> layer` of every convolution, e.g. `spectral.SpectralNorm`.
    first: whether the input is an image, which has no norm and no ReLU.
  """

  features: int
  resample: str = ""
  norm: residual.Map = layers.identity
  wrap: Callable[[nn.Module], Any] = layers.identity
  first: bool = False

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `[N, H, W, C]` to `[N, H', W', features]`."""

    def conv(features: int, resample: str) -> residual.Map:
      layer = layers.Conv(features, resample=resample, kernel_init=_xavier_relu)
      return self.wrap(layer)

    def shortcut(features: int, resample: str) -> residual.Map:
      layer = layers.Conv(
        features,
        kernel_size=1,
        resample=resample,
        kernel_init=_xavier,
        name="shortcut",
      )
      return self.wrap(layer)

    # The codes change the channels in a generator's first convolution and in
    # a discriminator's second one.
    early = self.resample == "up" or self.first
    return residual.block(
      x,
      self.features,
      conv=conv,
      shortcut=shortcut,
      norm=self.norm,
      resample=self.resample,
      hidden=self.features if early else x.shape[-1],
      first=self.first,
    )


class Generator(nn.Module):
  """z -> 4x4 (6x6 for 48 pixels) -> blocks -> image.

  Attributes:
    image_shape: `(H, W, C)`, square.
    num_classes: of the labels, for a conditional one.
    width: what the channels are multiples of.
    norm: "batch", "self_modulated" (batch norm scaled and shifted by functions
      of z, Chen et al. 2019) or "none".
    conditional: whether labels scale and shift, too: in place of batch norm's
      scale and bias, but for those before the output (Miyato & Koyama 2018),
      or what z is to the self-modulation.
    output: the activation of the output.
  """

  image_shape: tuple[int, ...]
  num_classes: int = 0
  width: int = 64
  norm: str = "batch"
  conditional: bool = False
  output: str = "tanh"

  @nn.compact
  def __call__(
    self, z: jax.Array, labels: jax.Array | None = None, train: bool = True
  ) -> jax.Array:
    """Maps `z [N, z_dim]`, labels `[N]` to images `[N, H, W, C]`."""
    channels = [self.width * c for c in plan(self.image_shape).generator]
    size = self.image_shape[0] // 2 ** (len(channels) - 1)
    norm, last_norm = self._norms(z, labels, train)
    x = nn.Dense(size**2 * channels[0], kernel_init=_xavier)(z)
    x = x.reshape(-1, size, size, channels[0])
    for features in channels[1:]:
      x = Block(features, "up", norm)(x)
    x = jax.nn.relu(last_norm(x))
    x = layers.Conv(self.image_shape[2], kernel_init=_xavier)(x)
    return layers.activation(self.output)(x)

  def _norms(
    self, z: jax.Array, labels: jax.Array | None, train: bool
  ) -> tuple[residual.Map, residual.Map]:
    """Returns the norm of the blocks and that before the output.

    Each makes a new layer, in the module that calls it.
    """
    if self.conditional:
      self._check_condition(labels)
    if self.conditional and self.norm == "self_modulated":
      z = self._with_classes(z, labels)

    def batch(x: jax.Array) -> jax.Array:
      return norms.batch_norm(train)(x)

    def by_label(x: jax.Array) -> jax.Array:
      assert labels is not None  # By `_check_condition`.
      return norms.ConditionalBatchNorm(self.num_classes)(x, labels, train)

    def self_modulated(x: jax.Array) -> jax.Array:
      return norms.SelfModulatedBatchNorm()(x, z, train)

    known = {
      "batch": (by_label if self.conditional else batch, batch),
      "self_modulated": (self_modulated, self_modulated),
      "none": (layers.identity, layers.identity),
    }
    if self.norm not in known:
      raise errors.unknown("norm", self.norm, known)
    return known[self.norm]

  def _with_classes(self, z: jax.Array, labels: jax.Array | None) -> jax.Array:
    """Returns E(y) + z E'(y), which takes the place of z (Chen et al. 2019).

    Here E' is 1 at first, and E is 0: training starts without labels.
    """

    def table(name: str) -> nn.Embed:
      return nn.Embed(
        self.num_classes,
        z.shape[-1],
        embedding_init=nn.initializers.zeros_init(),
        name=name,
      )

    return table("shift")(labels) + z * (1 + table("scale")(labels))

  def _check_condition(self, labels: jax.Array | None) -> None:
    if self.norm == "none":
      raise errors.UserError(
        "config.generator.conditional=True scales batch norm: set "
        "config.generator.norm='batch' or 'self_modulated'"
      )
    condition(self, labels)


class Discriminator(nn.Module):
  """image -> blocks -> ReLU -> features, pooled over space -> logit.

  Attributes:
    image_shape: `(H, W, C)`, square.
    num_classes: of the labels, for heads that know of classes.
    width: what the channels are multiples of.
    norm: "spectral" (of all kernels) or "none".
    spectral_skip: layers without spectral norm: "head", which is all that
      follows the features.
    head: "linear", "projection" or "auxiliary", see `labels.head`.
    pooling: "sum" or "mean" (Gulrajani et al. 2017).
  """

  image_shape: tuple[int, ...]
  num_classes: int = 0
  width: int = 64
  norm: str = "spectral"
  spectral_skip: tuple[str, ...] = ()
  head: str = "linear"
  pooling: str = "sum"

  @nn.compact
  def __call__(
    self,
    images: jax.Array,
    labels: jax.Array | None = None,
    train: bool = True,
  ) -> Judged:
    """Judges images `[N, H, W, C]` with labels `[N]`: logits `[N]`."""
    del train
    self._check()
    wrap = spectral.wrapper(self.norm, self.spectral_skip, ("head",))
    _, channels, num_halvings = plan(self.image_shape)
    x = images
    for i, multiple in enumerate(channels):
      resample = "down" if i < num_halvings else ""
      x = Block(self.width * multiple, resample, wrap=wrap, first=i == 0)(x)
    features = POOLINGS[self.pooling](jax.nn.relu(x), axis=(1, 2))

    def linear(outputs: int, **fields: Any) -> residual.Map:
      return wrap(nn.Dense(outputs, kernel_init=_xavier, **fields), "head")

    return head(
      self.head,
      linear,
      features,
      labels=labels,
      num_classes=self.num_classes,
    )

  def _check(self) -> None:
    if self.norm not in ("spectral", "none"):
      raise errors.unknown("norm", self.norm, ("spectral", "none"))
    if self.pooling not in POOLINGS:
      raise errors.unknown("pooling", self.pooling, POOLINGS)
