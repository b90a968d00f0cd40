"""Relativistic objectives: how much more real the real images look.

Instead of a logit C(x) a relativistic loss judges differences of logits
(Jolicoeur-Martineau 2018, arXiv 1807.00734; 2019, arXiv 1901.02474). Each
function below returns those that should be large for D, as an array of any
shape; with f1, what a loss says of a real logit,

    D minimises the mean of f1(differences(real, fake)),
    G minimises the mean of f1(differences(fake, real)).

The mean over *all* differences gives the prefactors of the 2018 code: pairing
once, average and centered halved.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from ganjax import errors, registry

RELATIVISM = registry.Registry("relativism")
# The bias of the mean square of a form's differences, in units of
# (var r + var f) / N, because the means are those of the batch (2019,
# section 5; here halved, see above).
BIAS = {"average": 0.5, "centered": -0.25}


def transform(
  term: Callable[[jax.Array], jax.Array], form: str, unbiased: bool = False
) -> Callable[[jax.Array, jax.Array], jax.Array]:
  """Returns the loss `(real [N], fake [N]) -> scalar` of a term.

  Args:
    term: what the loss says of a real logit, elementwise.
    form: a key of `RELATIVISM`.
    unbiased: subtract the bias of a squared term, with the unbiased variances
      of the batch.
  """
  if form not in RELATIVISM:
    raise errors.unknown("relativism", form, ["none", *RELATIVISM])
  differences = RELATIVISM[form]

  def loss(real, fake):
    value = term(differences(real, fake)).mean()
    if unbiased:
      spread = jnp.var(real, ddof=1) + jnp.var(fake, ddof=1)
      value -= BIAS[form] * spread / len(real)
    return value

  return loss


@RELATIVISM.register
def pairing(real: jax.Array, fake: jax.Array) -> jax.Array:
  """Each real with one fake (RpGAN, "RSGAN"): r - f, `[N]`."""
  return real - fake


@RELATIVISM.register
def pairing_mvue(real: jax.Array, fake: jax.Array) -> jax.Array:
  """Each real with every fake, the minimum-variance form: `[N, N]`."""
  return real[:, None] - fake[None, :]


@RELATIVISM.register
def average(real: jax.Array, fake: jax.Array) -> jax.Array:
  """Each logit with the opponents' mean (RaGAN): `[2, N]`."""
  return jnp.stack([real - fake.mean(), real.mean() - fake])


@RELATIVISM.register
def centered(real: jax.Array, fake: jax.Array) -> jax.Array:
  """Each logit with the mean of both means (RcGAN): `[2, N]`."""
  centre = (real.mean() + fake.mean()) / 2.0
  return jnp.stack([real - centre, centre - fake])
