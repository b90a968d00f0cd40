"""LOGAN: a step of z towards what D takes for real (Wu et al. 2019)."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ganjax import errors
from ganjax.systems.adversarial import Extras

# Distributions of z that end somewhere, see `latents.uniform`; others do not.
BOUNDS = {"uniform": math.sqrt(3.0)}


class LatentStep(NamedTuple):
  """One natural-gradient step of z (arXiv 1912.00953, section 3.2).

  With the damped empirical Fisher matrix g g' + damping I of g = df/dz, f(z)
  being D's logit of G(z),

      dz = size * g / (damping + |g|^2), never longer than size / 2 sqrt damping

  Both players then see G(z + dz), and their gradients go through dz.

  Attributes:
    size: the paper's alpha.
    damping: the paper's beta.
    weight: of the mean |dz|^2 in both players' losses.
    bound: z + dz is clipped to [-bound, bound]; None for never.
  """

  size: float
  damping: float
  weight: float
  bound: float | None

  def __call__(
    self, score: Callable[[jax.Array], jax.Array], z: jax.Array
  ) -> tuple[jax.Array, Extras]:
    """Returns z `[n, z_dim]` after the step, and what the step costs.

    Args:
      score: f, `z [n, z_dim]` -> logits `[n]`. The gradient is of their sum,
        so with batch norm an example also moves for the sake of others.
      z: as it was drawn.
    """

    def total(z):
      return score(z).sum()

    g = jax.grad(total)(z)
    dz = self.size * g / (self.damping + jnp.square(g).sum(1, keepdims=True))
    moved = z + dz
    if self.bound is not None:
      moved = jnp.clip(moved, -self.bound, self.bound)
    shift = jnp.square(dz).sum(1).mean()
    return moved, {"latent_shift": (shift, self.weight)}


def latent_step(
  size: float, damping: float, weight: float, latent: str
) -> LatentStep | None:
  """Returns the step of z, or None if its size is 0; see `LatentStep`.

  Args:
    size: of the step.
    damping: of the step.
    weight: of its cost.
    latent: the distribution of z. The paper's is U(-1, 1), clipped after the
      step. Ours of that form is wider by sqrt 3, and clipped there; a normal z
      is not clipped.

  Raises:
    UserError: a number is out of range.
  """
  if size < 0 or damping <= 0 or weight < 0:
    raise errors.UserError(
      f"config.system.latent_step={size} must be 0 or more, "
      f"latent_damping={damping} above 0 and latent_weight={weight} 0 or more"
    )
  if not size:
    return None
  return LatentStep(size, damping, weight, BOUNDS.get(latent))
