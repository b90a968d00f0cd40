"""The residual block of WGAN-GP, SNGAN, SAGAN and BigGAN."""

from collections.abc import Callable
from typing import TypeAlias

import jax

from ganjax.nets import layers

# What maps `[N, H, W, C]` to `[N, H', W', C']`: a layer, or a function that
# makes a new layer each time it is called.
Map: TypeAlias = Callable[[jax.Array], jax.Array]


def block(
  x: jax.Array,
  features: int,
  *,
  conv: Callable[[int, str], Map],
  shortcut: Callable[[int, str], Map],
  norm: Map = layers.identity,
  resample: str = "",
  hidden: int = 0,
  first: bool = False,
) -> jax.Array:
  """Applies two 3x3 convolutions beside a shortcut.

  A norm and a ReLU come before each convolution. The shortcut is the identity
  where the shape stays, else a 1x1 convolution. The layers belong to the module
  that calls this function, so that a net chooses their names.

  Args:
    x: `[N, H, W, C]`.
    features: channels of the output.
    conv: `(features, resample)` -> a new 3x3 convolution, see `layers.Conv`.
    shortcut: `(features, resample)` -> a new 1x1 convolution.
    norm: applies a new normalisation each time it is called.
    resample: "up" for twice the resolution, "down" for half of it, or "".
    hidden: channels between the two convolutions; `features` if 0.
    first: whether the input is an image, which has no norm and no ReLU.

  Returns:
    `[N, H', W', features]`.
  """
  # Papers upsample before the first convolution and pool after the second.
  before = "up" if resample == "up" else ""
  after = "down" if resample == "down" else ""
  y = x if first else jax.nn.relu(norm(x))
  y = conv(hidden or features, before)(y)
  y = jax.nn.relu(norm(y))
  y = conv(features, after)(y)
  if resample or features != x.shape[-1]:
    x = shortcut(features, resample)(x)
  return x + y
