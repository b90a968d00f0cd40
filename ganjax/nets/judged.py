"""What a discriminator returns."""

from typing import Any, NamedTuple

import jax


class Judged(NamedTuple):
  """What a discriminator makes of images.

  Attributes:
    logits: `[N]`, or `[N / pack]` where it judges packs of images.
    features: `[N, F]`, what enters the layer that makes the logits; None where
      a network does not say.
    class_logits: `[N, num_classes]` of an auxiliary classifier (Odena et al.
      2017), or None.
  """

  logits: jax.Array
  features: jax.Array | None = None
  class_logits: jax.Array | None = None

  @classmethod
  def of(cls, output: Any) -> "Judged":
    """Returns a discriminator's output, also where it is logits alone."""
    return output if isinstance(output, cls) else cls(output)
