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

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from ganjax import errors
from ganjax.nets import layers, norms

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
  doublings = size.bit_length() - 3
  if square and 8 <= size < 48 and size % max(4, 2**doublings) == 0:
    return Plan((4,) * (doublings + 1), (2, 2, 2, 2), 2)
  raise errors.UserError(
    "net 'resnet' needs square images of 8, 12, 16, 20, 24, 28, 32, 40, 48, 64 "
    f"or 128 pixels, not {list(image_shape)}; set config.dataset.size"
  )


def no_norm() -> Callable[[jax.Array], jax.Array]:
  """Returns the identity."""
  return lambda x: x


class Block(nn.Module):
  """Two 3x3 convolutions, each after norm and ReLU, beside a shortcut.

  The shortcut is the identity where the shape stays, else a 1x1 convolution.

  Attributes:
    features: channels of the output.
    resample: "up" in the first convolution, "down" in the second one, or "".
    norm: `() -> layer`, called twice.
    wrap: `layer -> layer` of every convolution, e.g. `layers.SpectralNorm`.
    first: whether the input is an image, which has no norm and no ReLU.
  """

  features: int
  resample: str = ""
  norm: Callable[[], Callable[[jax.Array], Any]] = no_norm
  wrap: Callable[[nn.Module], Any] = lambda layer: layer
  first: bool = False

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `[N, H, W, C]` to `[N, H', W', features]`."""
    conv = functools.partial(layers.Conv, kernel_init=_xavier_relu)
    steps = {"": ("", ""), "up": ("up", ""), "down": ("", "down")}
    before, after = steps[self.resample]
    # The codes change the channels in a generator's first convolution and in
    # a discriminator's second one.
    hidden = self.features if before or self.first else x.shape[-1]
    y = x if self.first else jax.nn.relu(self.norm()(x))
    y = self.wrap(conv(hidden, resample=before))(y)
    y = jax.nn.relu(self.norm()(y))
    y = self.wrap(conv(self.features, resample=after))(y)
    if self.resample or self.features != x.shape[-1]:
      shortcut = layers.Conv(
        self.features,
        1,
        resample=self.resample,
        kernel_init=_xavier,
        name="shortcut",
      )
      x = self.wrap(shortcut)(x)
    return x + y


class Generator(nn.Module):
  """z -> 4x4 (6x6 for 48 pixels) -> blocks -> image.

  Attributes:
    image_shape: `(H, W, C)`, square.
    num_classes: of the labels, for a conditional one.
    axis_name: the mapped axis, for batch norm.
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
  axis_name: str | None = None
  width: int = 64
  norm: str = "batch"
  conditional: bool = False
  output: str = "tanh"

  @nn.compact
  def __call__(self, z: jax.Array, labels=None, train: bool = True):
    """Maps `z [N, z_dim]`, labels `[N]` to images `[N, H, W, C]`."""
    channels = [self.width * c for c in plan(self.image_shape).generator]
    size = self.image_shape[0] // 2 ** (len(channels) - 1)
    norm, last_norm = self._norms(z, labels, train)
    x = nn.Dense(size**2 * channels[0], kernel_init=_xavier)(z)
    x = x.reshape(-1, size, size, channels[0])
    for features in channels[1:]:
      x = Block(features, "up", norm)(x)
    x = jax.nn.relu(last_norm()(x))
    x = layers.Conv(self.image_shape[2], kernel_init=_xavier)(x)
    return layers.ACTIVATIONS.find(self.output)(x)

  def _norms(self, z: jax.Array, labels, train: bool):
    """Returns the `() -> layer` of the blocks and that before the output."""
    if self.conditional:
      self._check_condition(labels)
    if self.conditional and self.norm == "self_modulated":
      # Chen et al. 2019: E(y) + z E'(y) in the place of z; here E' is 1 at
      # first, and E is 0.
      table = functools.partial(
        nn.Embed,
        self.num_classes,
        z.shape[-1],
        embedding_init=nn.initializers.zeros_init(),
      )
      z = table(name="shift")(labels) + z * (1 + table(name="scale")(labels))
    batch = functools.partial(norms.batch_norm, train, self.axis_name)

    def by_label():
      norm = norms.ConditionalBatchNorm(self.num_classes, self.axis_name)
      return functools.partial(norm, condition=labels, train=train)

    def self_modulated():
      norm = norms.SelfModulatedBatchNorm(self.axis_name)
      return functools.partial(norm, z=z, train=train)

    known = {
      "batch": (by_label if self.conditional else batch, batch),
      "self_modulated": (self_modulated, self_modulated),
      "none": (no_norm, no_norm),
    }
    if self.norm not in known:
      raise errors.unknown("norm", self.norm, known)
    return known[self.norm]

  def _check_condition(self, labels) -> None:
    if self.norm == "none":
      raise errors.UserError(
        "config.generator.conditional=True scales batch norm: set "
        "config.generator.norm='batch' or 'self_modulated'"
      )
    layers.condition(self, labels)


class Discriminator(nn.Module):
  """image -> blocks -> ReLU -> features, pooled over space -> logit.

  The features `[N, d]` are sown into `intermediates`.

  Attributes:
    image_shape: `(H, W, C)`, square.
    num_classes: of the labels, for heads that know of classes.
    axis_name: unused.
    width: what the channels are multiples of.
    norm: "spectral" (of all kernels) or "none".
    spectral_skip: layers without spectral norm: "head", which is all that
      follows the features.
    head: "linear", "projection" or "auxiliary", see `layers.head`.
    pooling: "sum" or "mean" (Gulrajani et al. 2017).
  """

  image_shape: tuple[int, ...]
  num_classes: int = 0
  axis_name: str | None = None
  width: int = 64
  norm: str = "spectral"
  spectral_skip: tuple[str, ...] = ()
  head: str = "linear"
  pooling: str = "sum"

  @nn.compact
  def __call__(self, images: jax.Array, labels=None, train: bool = True):
    """Maps images `[N, H, W, C]`, labels `[N]` to logits `[N]`."""
    del train
    self._check()
    wrap = layers.spectral(self.norm, self.spectral_skip, ("head",))
    _, channels, num_halvings = plan(self.image_shape)
    x = images
    for i, multiple in enumerate(channels):
      resample = "down" if i < num_halvings else ""
      x = Block(self.width * multiple, resample, wrap=wrap, first=i == 0)(x)
    x = POOLINGS[self.pooling](jax.nn.relu(x), axis=(1, 2))
    self.sow("intermediates", "features", x)

    def linear(features: int, **fields) -> nn.Module:
      return wrap(nn.Dense(features, kernel_init=_xavier, **fields), "head")

    return layers.head(self, linear, x, labels)

  def _check(self) -> None:
    for kind, value, known in (
      ("norm", self.norm, ("spectral", "none")),
      ("pooling", self.pooling, POOLINGS),
    ):
      if value not in known:
        raise errors.unknown(kind, value, known)
